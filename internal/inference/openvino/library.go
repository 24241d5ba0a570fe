package openvino

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// ErrNotInstalled says that there is no OpenVINO that can be used.
var ErrNotInstalled = errors.New("no OpenVINO")

// Component is where our own component `openvino` has the libraries.
const Component = "/opt/ovsa/kvm/lib/openvino"

// systemDirs are where distributions, Intel's packages and Intel's archive have theirs.
func systemDirs() []string {
	dirs := []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"}
	intel, _ := filepath.Glob("/opt/intel/openvino*/runtime/lib/intel64")
	slices.Sort(intel)
	slices.Reverse(intel)
	return append(append(dirs, intel...), loaderDirs()...)
}

// loaderDirs are those that ldconfig(8) is told of.
func loaderDirs() []string {
	files, _ := filepath.Glob("/etc/ld.so.conf.d/*.conf")
	var dirs []string
	for _, name := range append([]string{"/etc/ld.so.conf"}, files...) {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			line, _, _ := strings.Cut(lines.Text(), "#")
			if line = strings.TrimSpace(line); filepath.IsAbs(line) {
				dirs = append(dirs, filepath.Clean(line))
			}
		}
		f.Close()
	}
	return dirs
}

// searched are the directories in which the library is looked for: the one that is named,
// or else each that may have it.
func searched(explicit string) []string {
	if explicit != "" {
		return []string{explicit}
	}
	var dirs []string
	for _, dir := range append(systemDirs(), Component) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// libraries are the files of the library's name in a directory, without those that are
// links to others there. The newest is the first.
func libraries(dir string) []string {
	names, _ := filepath.Glob(filepath.Join(dir, "libopenvino_c.so*"))
	var all []string
	for _, name := range names {
		real, err := filepath.EvalSymlinks(name)
		if err == nil && !slices.Contains(all, real) {
			all = append(all, real)
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all
}

// version is one of OpenVINO's: 2026.4.1.
type version [3]int

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// oldest is the oldest version whose types have the numbers that types.go knows.
var oldest = version{2026, 0, 0}

var sonamePattern = regexp.MustCompile(`^libopenvino_c\.so\.(\d\d)(\d)(\d)$`)

// sonameVersion is the version that a library's own name tells: libopenvino_c.so.2641.
func sonameVersion(soname string) (version, bool) {
	parts := sonamePattern.FindStringSubmatch(soname)
	if parts == nil {
		return version{}, false
	}
	var v version
	for i := range v {
		v[i], _ = strconv.Atoi(parts[i+1])
	}
	v[0] += 2000
	return v, true
}

// usable tells from a library's file whether it may be loaded: what is loaded stays.
func usable(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("it is no library: %w", err)
	}
	defer f.Close()
	names, err := f.DynString(elf.DT_SONAME)
	if err != nil || len(names) != 1 {
		return errors.New("it is a library without a name")
	}
	v, known := sonameVersion(names[0])
	switch {
	case !known:
		return fmt.Errorf("it calls itself %q, which tells no version", names[0])
	case slices.Compare(v[:], oldest[:]) < 0:
		return fmt.Errorf("it is OpenVINO %s, and %s is the oldest that can be used", v, oldest)
	}
	return nil
}

// notFound says what was looked for where, and why what was found is none.
func notFound(dirs []string, refused []error) error {
	err := fmt.Errorf("%w: no libopenvino_c.so that can be used in %s", ErrNotInstalled, strings.Join(dirs, ", "))
	if len(refused) > 0 {
		err = fmt.Errorf("%w: %w", err, errors.Join(refused...))
	}
	return hint.Wrap(err, "install the component \"openvino\", or OpenVINO's own packages, or name the directory of its libraries")
}
