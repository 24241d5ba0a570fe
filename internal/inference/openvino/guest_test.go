package openvino

import (
	"debug/elf"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The oldest guest is a Debian 12: what its C and C++ libraries have.
var guestHas = map[string]string{"GLIBC": "2.36", "GLIBCXX": "3.4.30", "CXXABI": "1.3.13", "GCC": "12.0.0"}

// TestLibrariesNeedWhatGuestsHave: a guest gets these files and nothing else.
func TestLibrariesNeedWhatGuestsHave(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(libs(t), "lib*.so*"))
	if err != nil || len(files) != 10 {
		t.Fatalf("%q, %v", files, err)
	}
	system := []string{"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2", "libstdc++.so.6", "libgcc_s.so.1"}
	for _, file := range files {
		f, err := elf.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		needed, err := f.ImportedLibraries()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range needed {
			if !slices.Contains(system, n) && !slices.Contains(files, filepath.Join(filepath.Dir(file), n)) {
				t.Errorf("%s needs %s", filepath.Base(file), n)
			}
		}
		symbols, err := f.ImportedSymbols()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range symbols {
			of, version, _ := strings.Cut(s.Version, "_")
			if has, known := guestHas[of]; known && slices.Compare(numbers(t, version), numbers(t, has)) > 0 {
				t.Errorf("%s needs %s of %s", filepath.Base(file), s.Name, s.Version)
			}
		}
	}
}

func numbers(t *testing.T, version string) []int {
	t.Helper()
	var all []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			t.Fatalf("version %q", version)
		}
		all = append(all, n)
	}
	return all
}
