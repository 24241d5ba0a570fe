package component_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/packaging/components"
)

func TestFileReadsOnlySafeTarballs(t *testing.T) {
	script := tar.Header{Name: "pkg/install.sh", Typeflag: tar.TypeReg}
	dir := tar.Header{Name: "pkg/", Typeflag: tar.TypeDir}
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	tests := []struct {
		name    string
		entries []tar.Header
		fails   string // "" when it is a component
	}{
		{"the least", []tar.Header{script}, ""},
		{"with directories", []tar.Header{dir, script, file("pkg/a/b")}, ""},
		{"written from .", []tar.Header{{Name: "./", Typeflag: tar.TypeDir}, {Name: "./pkg/install.sh", Typeflag: tar.TypeReg}}, ""},
		{"a link inside", []tar.Header{script, file("pkg/lib.so.1"), link("pkg/lib.so", "lib.so.1")}, ""},
		{"a link up and inside", []tar.Header{script, link("pkg/a/b", "../install.sh")}, ""},
		{"a hard link inside", []tar.Header{script, {Name: "pkg/again", Typeflag: tar.TypeLink, Linkname: "pkg/install.sh"}}, ""},
		{"empty", nil, "no install.sh"},
		{"no installer", []tar.Header{dir, file("pkg/README")}, "no install.sh"},
		{"installer deeper down", []tar.Header{file("pkg/sub/install.sh")}, "no install.sh"},
		{"installer at the top", []tar.Header{file("install.sh")}, "no install.sh"},
		{"installer is a link", []tar.Header{link("pkg/install.sh", "real")}, "no install.sh"},
		{"two top directories", []tar.Header{script, file("other/x")}, "outside of the top directory"},
		{"absolute", []tar.Header{script, file("/etc/passwd")}, "unsafe name"},
		{"climbs", []tar.Header{script, file("pkg/../../etc/passwd")}, "leaves its directory"},
		{"climbs and returns", []tar.Header{script, file("pkg/a/../b")}, "leaves its directory"},
		{"link outside", []tar.Header{script, link("pkg/x", "../../etc")}, "outside of the tarball"},
		{"link to the parent", []tar.Header{script, link("pkg/x", "..")}, "outside of the tarball"},
		{"absolute link", []tar.Header{script, link("pkg/x", "/etc")}, "outside of the tarball"},
		{"behind a link", []tar.Header{script, link("pkg/x", "a"), file("pkg/x/y")}, "behind the link"},
		{"link through a link", []tar.Header{script, link("pkg/a/l", ".."), link("pkg/m", "a/l/../..")}, "outside of the tarball"},
		{"hard link outside", []tar.Header{script, {Name: "pkg/x", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}}, "outside of the tarball"},
		{"hard link behind a link", []tar.Header{script, link("pkg/l", "a"), {Name: "pkg/x", Typeflag: tar.TypeLink, Linkname: "pkg/l"}}, "behind a link"},
		{"device", []tar.Header{script, {Name: "pkg/null", Typeflag: tar.TypeChar}}, "special file"},
		{"pipe", []tar.Header{script, {Name: "pkg/p", Typeflag: tar.TypeFifo}}, "special file"},
		{"line break", []tar.Header{script, file("pkg/a\nb")}, "unsafe name"},
		{"like an option", []tar.Header{file("-rf/install.sh")}, "unsafe name"},
	}
	for _, tt := range tests {
		for _, zipped := range []string{"gzipped", "plain"} {
			path := filepath.Join(t.TempDir(), "x.tar.gz")
			archive := tarball(t, tt.entries, zipped == "gzipped")
			write(t, path, archive)
			pkg, err := component.File("mine", path)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("%s, %s: got %v, want %q", tt.name, zipped, err, tt.fails)
				}
				continue
			}
			sum := sha256.Sum256(archive)
			want := component.Package{Name: "mine", Version: hex.EncodeToString(sum[:6]), Digest: hex.EncodeToString(sum[:]), Path: path, Size: int64(len(archive)), Dir: "pkg"}
			if err != nil || pkg != want {
				t.Errorf("%s, %s: %v\n got %+v\nwant %+v", tt.name, zipped, err, pkg, want)
			}
		}
	}
}

func TestFileRefusesDamagedTarballs(t *testing.T) {
	whole := tarball(t, []tar.Header{{Name: "pkg/install.sh", Typeflag: tar.TypeReg}}, true)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-6] ^= 1 // in gzip's checksum
	for name, data := range map[string][]byte{"cut": whole[:len(whole)-9], "changed": flipped, "garbage": []byte("garbage"), "empty": nil} {
		path := filepath.Join(t.TempDir(), "x.tar.gz")
		write(t, path, data)
		if _, err := component.File("mine", path); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOpenFindsOurs(t *testing.T) {
	empty, full := t.TempDir(), built(t, "1.0")
	if _, err := (component.Dirs{empty}).Open("developer"); err == nil || !strings.Contains(hint.Of(err), "make package") {
		t.Errorf("nothing there: %v", err)
	}
	for _, name := range component.Names() {
		pkg, err := component.Dirs{empty, full}.Open(name)
		if err != nil || pkg.Name != name || pkg.Version != "1.0" || pkg.Dir == "" {
			t.Errorf("%s: %+v, %v", name, pkg, err)
		}
	}
	if _, err := component.Dir(full).Open("../etc/passwd"); err == nil {
		t.Error("opened what is not ours")
	}
	// Another component under the name is told from the right one.
	if err := os.Rename(filepath.Join(full, "ovsa-developer.tar.gz"), filepath.Join(full, "ovsa-license-server.tar.gz")); err != nil {
		t.Fatal(err)
	}
	if _, err := component.Dir(full).Open("license_server"); err == nil {
		t.Error("took developer for license_server")
	}
}

func TestBuildIsReproducible(t *testing.T) {
	a, b := built(t, "1.0"), t.TempDir()
	if _, err := component.Build(component.BuildOptions{Programs: programs(t, ""), Out: b, Version: "1.0"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range component.Names() {
		if !bytes.Equal(read(t, filepath.Join(a, component.FileName(name))), read(t, filepath.Join(b, component.FileName(name)))) {
			t.Errorf("%s differs between two builds", name)
		}
	}
	for name, opts := range map[string]component.BuildOptions{
		"no programs": {Programs: t.TempDir(), Out: t.TempDir(), Version: "1"},
		"not static":  {Programs: programs(t, "/bin/ls"), Out: t.TempDir(), Version: "1"},
		"odd version": {Programs: programs(t, ""), Out: t.TempDir(), Version: "1 2"},
	} {
		if _, err := component.Build(opts); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}

// Where the libraries are not there the rest is built, and no older package stays that
// somebody might take for this one.
func TestBuildLeavesOutWhatHasNoLibraries(t *testing.T) {
	from, out := programs(t, ""), t.TempDir()
	opts := component.BuildOptions{Programs: from, Out: out, Version: "1.0"}
	if _, err := component.Build(opts); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(from, "openvino", "libopenvino_intel_cpu_plugin.so")); err != nil {
		t.Fatal(err)
	}
	if _, err := component.Build(opts); err == nil || !strings.Contains(err.Error(), "libopenvino_intel_cpu_plugin.so") || !strings.Contains(hint.Of(err), "make openvino") {
		t.Errorf("nobody is told, and %v", err)
	}
	var left []string
	opts.LeftOut = func(name string, why error) { left = append(left, name+": "+why.Error()) }
	built, err := component.Build(opts)
	if err != nil || len(built) != len(component.Names())-1 || len(left) != 1 || !strings.HasPrefix(left[0], "openvino: ") {
		t.Errorf("%v, %q, %v", built, left, err)
	}
	if _, err := component.Dir(out).Open("openvino"); err == nil || !strings.Contains(hint.Of(err), "make openvino") {
		t.Errorf("the older one: %v", err)
	}
}

func FuzzListing(f *testing.F) {
	f.Add(tarball(f, []tar.Header{{Name: "pkg/install.sh", Typeflag: tar.TypeReg}, {Name: "pkg/l", Typeflag: tar.TypeSymlink, Linkname: "x"}}, false))
	f.Add(tarball(f, []tar.Header{{Name: "pkg/install.sh", Typeflag: tar.TypeReg}}, true))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "x")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		pkg, err := component.File("x", path)
		if err == nil && (pkg.Dir == "" || strings.ContainsAny(pkg.Dir, "/\n\x00") || pkg.Dir == "..") {
			t.Errorf("top directory %q", pkg.Dir)
		}
	})
}

// built is a directory of the test's with all components of a version.
func built(t *testing.T, version string) string {
	t.Helper()
	// A test's result is kept while the files that it has seen do not change, and
	// what TestMain builds is not seen.
	for _, dir := range []string{"installer", "../../cmd/ovsainstall"} {
		if err := fs.WalkDir(os.DirFS(dir), ".", func(name string, _ fs.DirEntry, err error) error {
			_, err2 := os.Stat(filepath.Join(dir, name))
			return errors.Join(err, err2)
		}); err != nil {
			t.Fatal(err)
		}
	}
	once, out := filepath.Join(filepath.Dir(installerProgram), version), t.TempDir()
	if _, err := os.Stat(once); err != nil {
		if _, err := component.Build(component.BuildOptions{Programs: programs(t, ""), Out: once, Version: version}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(out, os.DirFS(once)); err != nil {
		t.Fatal(err)
	}
	return out
}

// installerProgram is the real one, which TestMain builds.
var installerProgram string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "ovsainstall")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		installerProgram = filepath.Join(dir, "ovsainstall")
		build := run.Cmd{Path: "go", Args: []string{"build", "-ldflags", "-s -w", "-o", installerProgram, "../../cmd/ovsainstall"}, Env: []string{"CGO_ENABLED=0"}}
		if err := build.Run(context.Background()); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// programs stands in for the guest programs but the installer: copies of one file,
// the test's own idea of a static program when it is "", and one of the distribution's
// for what is linked with the C library.
func programs(t *testing.T, source string) string {
	t.Helper()
	data := staticELF()
	if source != "" {
		data = read(t, source)
	}
	dir := t.TempDir()
	for _, name := range []string{"ovsatool", "ovsaruntime", "license_server"} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ovsa-engine"), read(t, "/usr/bin/true"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range components.Layouts()["openvino"].Files {
		path := filepath.Join(dir, "openvino", f.Library)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(f.Library), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(installerProgram, filepath.Join(dir, "ovsainstall")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// staticELF is the least that is a static program: a header and nothing to load.
func staticELF() []byte {
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	h[16], h[18], h[20] = 2, 62, 1 // executable, x86-64, version
	h[52], h[54], h[58] = 64, 56, 64
	return h
}

func tarball(t testing.TB, entries []tar.Header, zipped bool) []byte {
	t.Helper()
	var buf bytes.Buffer
	archive := tar.NewWriter(&buf)
	for _, h := range entries {
		h.Mode = 0o755
		if err := archive.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if !zipped {
		return buf.Bytes()
	}
	var small bytes.Buffer
	z := gzip.NewWriter(&small)
	z.Write(buf.Bytes())
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return small.Bytes()
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
