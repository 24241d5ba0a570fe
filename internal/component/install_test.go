package component_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/internal/run"
)

// The real install.sh runs here, below a directory of the test's.

func TestInstallLaysOutWhatTheGuideSays(t *testing.T) {
	packages := built(t, "1.0")
	for name, want := range map[string][]string{
		"developer": {
			"drwx------ kvm/keystore", "drwxr-x--- kvm/artefacts", "drwxr-xr-x kvm/lib",
			"-rwxr-xr-x kvm/bin/ovsatool", "-rwxr-xr-x kvm/bin/ovsaruntime", "-rw-r--r-- kvm/scripts/setupvars.sh",
		},
		"license_server": {
			"dtrwxrwx--- DB", "-rwxr-xr-x DB/ovsa_store_customer_lic_cert_db.py", "-rwxr-xr-x scripts/OVSA_install_license_server_cert.sh", "drwx------ certs", "drwxr-xr-x lib", "-rwxr-xr-x bin/license_server", "-rw-r--r-- scripts/setupvars.sh",
		},
		"model_hosting": {
			"drwx------ kvm/keystore", "drwxr-x--- kvm/artefacts", "drwxr-xr-x kvm/example_client", "drwxr-xr-x kvm/example_runtime",
			"-rwxr-xr-x kvm/bin/ovsaruntime",
		},
		"openvino": {
			"drwxr-xr-x kvm/lib/openvino", "-rw-r--r-- kvm/lib/openvino/libopenvino_c.so.2641", "-rw-r--r-- kvm/lib/openvino/licenses/LICENSE",
		},
	} {
		dest := t.TempDir()
		install(t, unpack(t, packages, name), dest)
		got := tree(t, filepath.Join(dest, "opt/ovsa"))
		for _, line := range want {
			mode, path, _ := strings.Cut(line, " ")
			if !strings.HasPrefix(got[path], mode+" ") {
				t.Errorf("%s: %s is %q, want %s", name, path, got[path], mode)
			}
		}
	}
}

func TestInstallTwiceChangesNothing(t *testing.T) {
	pkg, dest := unpack(t, built(t, "1.0"), "developer"), t.TempDir()
	if out := install(t, pkg, dest); !strings.HasPrefix(out, "developer 1.0: installed, 4 files changed") {
		t.Errorf("first run said %q", out)
	}
	before := tree(t, dest)
	if out := install(t, pkg, dest); out != "developer 1.0: installed already\n" {
		t.Errorf("second run said %q", out)
	}
	if after := tree(t, dest); !maps.Equal(before, after) {
		t.Errorf("changed:\n%v\n%v", before, after)
	}
	var record struct {
		Name, Version string
		Package       string `json:"package_sha256"`
		Files         []struct{ Path, Mode, SHA256 string }
	}
	if err := json.Unmarshal(read(t, filepath.Join(dest, "var/lib/ovsactl/components/developer.json")), &record); err != nil {
		t.Fatal(err)
	}
	if record.Name != "developer" || record.Version != "1.0" || len(record.Files) != 4 || record.Package != digest {
		t.Errorf("recorded %+v", record)
	}
}

func TestInstallRepairsAndKeepsWhatIsTheUsers(t *testing.T) {
	pkg, dest := unpack(t, built(t, "1.0"), "developer"), t.TempDir()
	install(t, pkg, dest)
	key := filepath.Join(dest, "opt/ovsa/kvm/keystore/isv_keystore")
	tool := filepath.Join(dest, "opt/ovsa/kvm/bin/ovsatool")
	want := tree(t, filepath.Join(dest, "opt/ovsa/kvm/bin"))
	write(t, key, []byte("secret"))
	write(t, tool, []byte("damaged"))
	if err := os.Chmod(filepath.Join(dest, "opt/ovsa/kvm/keystore"), 0o777); err != nil {
		t.Fatal(err)
	}
	if out := install(t, pkg, dest); !strings.Contains(out, "1 files changed") {
		t.Errorf("said %q", out)
	}
	if got := tree(t, filepath.Join(dest, "opt/ovsa/kvm/bin")); !sameButTimes(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if info, _ := os.Stat(filepath.Dir(key)); info.Mode().Perm() != 0o700 || string(read(t, key)) != "secret" {
		t.Error("the key store is not as it was")
	}
}

func TestInstallRefusesTamperedPackages(t *testing.T) {
	packages := built(t, "1.0")
	for name, tamper := range map[string]func(dir string) error{
		"changed file": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "root/opt/ovsa/kvm/bin/ovsatool"), []byte("evil"), 0o755)
		},
		"missing file": func(dir string) error { return os.Remove(filepath.Join(dir, "root/opt/ovsa/kvm/bin/ovsatool")) },
		"more files": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "root/opt/ovsa/kvm/bin/more"), []byte("evil"), 0o755)
		},
		"file is a link": func(dir string) error {
			path := filepath.Join(dir, "root/opt/ovsa/kvm/bin/ovsatool")
			return errors.Join(os.Rename(path, filepath.Join(dir, "real")), os.Symlink(filepath.Join(dir, "real"), path))
		},
		"file is a link to another": func(dir string) error {
			path := filepath.Join(dir, "root/opt/ovsa/kvm/bin/ovsatool") // which is the same here
			return errors.Join(os.Remove(path), os.Symlink("ovsaruntime", path))
		},
		"no manifest": func(dir string) error { return os.Remove(filepath.Join(dir, "MANIFEST")) },
		"cut manifest": func(dir string) error {
			return edit(filepath.Join(dir, "MANIFEST"), func(s string) string { return s[:len(s)-9] })
		},
		"other place": func(dir string) error {
			return edit(filepath.Join(dir, "MANIFEST"), func(s string) string { return strings.ReplaceAll(s, "/opt/ovsa/kvm/lib", "/etc/lib") })
		},
		"climbs": func(dir string) error {
			return edit(filepath.Join(dir, "MANIFEST"), func(s string) string {
				return strings.ReplaceAll(s, "/opt/ovsa/kvm/lib", "/opt/ovsa/../../etc")
			})
		},
	} {
		pkg, dest := unpack(t, packages, "developer"), t.TempDir()
		if err := tamper(pkg); err != nil {
			t.Fatal(err)
		}
		if out, err := tryInstall(t.Context(), pkg, dest); err == nil {
			t.Errorf("%s: installed: %s", name, out)
		}
		if got := tree(t, dest); len(got) != 0 {
			t.Errorf("%s: left %v", name, got)
		}
	}
}

// TestInstallMeetsOddThings: what users can put where files go is replaced,
// removed or refused, and never followed.
func TestInstallMeetsOddThings(t *testing.T) {
	packages := built(t, "1.0")
	const bin, store = "opt/ovsa/kvm/bin", "opt/ovsa/kvm/keystore"
	for name, tt := range map[string]struct {
		prepare func(dest, other string) error
		fails   string
	}{
		"a link in a file's place": {func(dest, other string) error {
			path := filepath.Join(dest, bin, "ovsatool")
			return errors.Join(os.Remove(path), os.Symlink(filepath.Join(other, "file"), path))
		}, ""},
		"a link in a directory's place": {func(dest, other string) error {
			path := filepath.Join(dest, store)
			return errors.Join(os.Remove(path), os.Symlink(other, path))
		}, "not a directory"},
		"a directory in a file's place": {func(dest, _ string) error {
			path := filepath.Join(dest, bin, "ovsatool")
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o755))
		}, "it is a directory"},
		"what a killed run left": {func(dest, _ string) error {
			return os.WriteFile(filepath.Join(dest, bin, ".ovsa-new.1"), []byte("half"), 0o600)
		}, ""},
		"something that looks like it": {func(dest, _ string) error {
			return os.MkdirAll(filepath.Join(dest, store, ".ovsa-new.1/mine"), 0o755)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pkg, dest, other := unpack(t, packages, "developer"), t.TempDir(), t.TempDir()
			write(t, filepath.Join(other, "file"), []byte("somebody else's"))
			if err := os.Chmod(other, 0o755); err != nil {
				t.Fatal(err)
			}
			before := tree(t, other)
			install(t, pkg, dest)
			if err := tt.prepare(dest, other); err != nil {
				t.Fatal(err)
			}
			out, err := tryInstall(t.Context(), pkg, dest)
			if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("%v: %s", err, out)
			}
			if info, err := os.Stat(other); err != nil || info.Mode().Perm() != 0o755 || !maps.Equal(tree(t, other), before) {
				t.Error("what a link leads to has changed")
			}
			got := tree(t, filepath.Join(dest, bin))
			if _, left := got[".ovsa-new.1"]; left || tt.fails == "" && !strings.HasPrefix(got["ovsatool"], "-rwxr-xr-x ") {
				t.Errorf("installed %v", slices.Sorted(maps.Keys(got)))
			}
		})
	}
}

// TestInstallWaitsForAnother: two at once would take each other's files for left
// behind.
func TestInstallWaitsForAnother(t *testing.T) {
	pkg, dest := unpack(t, built(t, "1.0"), "developer"), t.TempDir()
	state := filepath.Join(dest, "var/lib/ovsactl/components")
	if err := os.MkdirAll(state, 0o755); err != nil {
		t.Fatal(err)
	}
	held, err := lock.Try(filepath.Join(state, ".lock"), "this test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if out, err := tryInstall(ctx, pkg, dest); err == nil {
		t.Errorf("did not wait: %s", out)
	}
	if got := tree(t, dest); len(got) != 4 { // the directories of the lock
		t.Errorf("changed %v", slices.Sorted(maps.Keys(got)))
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	install(t, pkg, dest)

	// And has the lock as long as it runs: this one reads a pipe that nobody writes.
	list := filepath.Join(state, "developer.files")
	if err := errors.Join(os.Remove(list), syscall.Mkfifo(list, 0o600)); err != nil {
		t.Fatal(err)
	}
	p, err := installCommand(pkg, dest).Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wait()
	defer p.Signal(os.Kill)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		held, err := lock.Try(filepath.Join(state, ".lock"), "this test")
		if err != nil {
			break
		}
		held.Release()
		if time.Now().After(deadline) {
			t.Fatal("the lock is free while it installs")
		}
	}
}

func TestInstallSaysWhatItDoes(t *testing.T) {
	pkg := unpack(t, built(t, "1.0"), "developer")
	c := installCommand(pkg, t.TempDir())
	c.Args = []string{"--help"}
	if out, err := c.Output(t.Context()); err != nil || !strings.HasPrefix(string(out), "Usage: install.sh\n") {
		t.Errorf("%v: %s", err, out)
	}
	c.Args = []string{"--destdir=/x"}
	var failed *run.Error
	if err := c.Run(t.Context()); !errors.As(err, &failed) || failed.Code != 2 || !strings.Contains(failed.Stderr, "Usage") {
		t.Errorf("an option that there is not: %v", err)
	}
}

// TestInstallMovesWhatItMayConsume: by hand a package stays as it was unpacked,
// for whoever wants to look at it or to run it again.
func TestInstallMovesWhatItMayConsume(t *testing.T) {
	pkg, kept, consumed := unpack(t, built(t, "1.0"), "developer"), t.TempDir(), t.TempDir()
	before := tree(t, pkg)
	install(t, pkg, kept)
	if !maps.Equal(before, tree(t, pkg)) {
		t.Error("the package is not as it was")
	}
	c := installCommand(pkg, consumed)
	c.Env = append(c.Env, "OVSA_CONSUME=1")
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !sameButTimes(tree(t, kept), tree(t, consumed)) {
		t.Error("moved files are not installed like copied ones")
	}
	if _, err := os.Stat(filepath.Join(pkg, "root/opt/ovsa/kvm/bin/ovsatool")); err == nil {
		t.Error("a program was copied")
	}
}

func TestUpgradeRemovesOldFiles(t *testing.T) {
	packages := built(t, "1.0")
	dest := t.TempDir()
	old := unpack(t, packages, "developer")
	addFile(t, old, "/opt/ovsa/kvm/bin/gone", "old")
	addFile(t, old, "/opt/ovsa/scripts/shared.sh", "shared")
	other := unpack(t, packages, "license_server")
	addFile(t, other, "/opt/ovsa/scripts/shared.sh", "shared")
	install(t, other, dest) // makes the directory of the shared file
	install(t, old, dest)
	// A run that gets no further than its first files still knows the old ones.
	inTheWay := filepath.Join(dest, "opt/ovsa/kvm/lib/README")
	if err := errors.Join(os.Remove(inTheWay), os.Mkdir(inTheWay, 0o755)); err != nil {
		t.Fatal(err)
	}
	if out, err := tryInstall(t.Context(), unpack(t, built(t, "2.0"), "developer"), dest); err == nil {
		t.Fatalf("installed in the place of a directory: %s", out)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	install(t, unpack(t, built(t, "2.0"), "developer"), dest)
	if _, err := os.Stat(filepath.Join(dest, "opt/ovsa/kvm/bin/gone")); err == nil {
		t.Error("a file of the old version is still there")
	}
	if _, err := os.Stat(filepath.Join(dest, "opt/ovsa/scripts/shared.sh")); err != nil {
		t.Error("a file of another component was removed")
	}
}

// TestInstallKilledAnywhereConverges kills the installer after ever longer
// times, until one run gets through, and then compares with a clean
// installation. An upgrade is the hardest case: there is something to remove.
func TestInstallKilledAnywhereConverges(t *testing.T) {
	old := unpack(t, built(t, "1.0"), "developer")
	addFile(t, old, "/opt/ovsa/kvm/bin/gone", "old")
	pkg := unpack(t, built(t, "2.0"), "developer")
	clean := t.TempDir()
	install(t, pkg, clean)
	want := tree(t, clean)

	began := time.Now()
	install(t, pkg, t.TempDir())
	whole := time.Since(began)
	dest := t.TempDir()
	install(t, old, dest)
	const steps = 50
	for i := range steps {
		ctx, cancel := context.WithTimeout(t.Context(), whole*time.Duration(i+1)/steps)
		killInstall(ctx, t, pkg, dest)
		cancel()
	}
	install(t, pkg, dest)
	if got := tree(t, dest); !sameButTimes(got, want) {
		t.Errorf("after kills:\n%v\nclean:\n%v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// digest is what the tests say the tarball's digest is.
const digest = "00ff"

func installCommand(pkg, dest string) run.Cmd {
	return run.Cmd{Path: filepath.Join(pkg, "install.sh"), Env: []string{"DESTDIR=" + dest, "OVSA_PACKAGE_SHA256=" + digest}}
}

func tryInstall(ctx context.Context, pkg, dest string) (string, error) {
	var out bytes.Buffer
	c := installCommand(pkg, dest)
	c.Stdout = &out
	err := c.Run(ctx)
	return out.String(), err
}

func install(t *testing.T, pkg, dest string) string {
	t.Helper()
	out, err := tryInstall(t.Context(), pkg, dest)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// killInstall starts the installer and kills it, unasked, when ctx ends.
func killInstall(ctx context.Context, t *testing.T, pkg, dest string) {
	t.Helper()
	p, err := installCommand(pkg, dest).Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { p.Signal(os.Kill) })
	defer stop()
	p.Wait()
}

// unpack extracts a component with tar, as a guest does.
func unpack(t *testing.T, packages, name string) string {
	t.Helper()
	pkg, err := component.Dir(packages).Open(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := (run.Cmd{Path: "tar", Args: []string{"-xzf", pkg.Path, "-C", dir}}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, pkg.Dir)
}

// addFile adds a file to an unpacked component, as another version of it.
func addFile(t *testing.T, pkg, path, text string) {
	t.Helper()
	full := filepath.Join(pkg, "root", path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, full, []byte(text))
	var sum bytes.Buffer
	if err := (run.Cmd{Path: "sha256sum", Args: []string{full}, Stdout: &sum}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("file %s 0644 %s\n", sum.String()[:64], path)
	if err := edit(filepath.Join(pkg, "MANIFEST"), func(s string) string {
		at := strings.LastIndex(s, "\nfile ") + 1
		at += strings.Index(s[at:], "\n") + 1
		return s[:at] + line + s[at:]
	}); err != nil {
		t.Fatal(err)
	}
}

func edit(path string, change func(string) string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(change(string(text))), 0o644)
}

// tree describes all below dir: mode, time and content of each path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if strings.HasSuffix(rel, ".lock") || strings.HasSuffix(rel, ".work") { // the installer's own
			return nil
		}
		content := ""
		if info.Mode().IsRegular() {
			content = string(read(t, path))
		}
		all[rel] = fmt.Sprintf("%v %s %q", info.Mode(), info.ModTime().Format(time.RFC3339Nano), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sameButTimes(a, b map[string]string) bool {
	return maps.EqualFunc(a, b, func(x, y string) bool {
		fx, fy := strings.SplitN(x, " ", 3), strings.SplitN(y, " ", 3)
		return fx[0] == fy[0] && fx[2] == fy[2]
	})
}
