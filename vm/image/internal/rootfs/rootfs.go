// Package rootfs makes the root file system of a Debian guest in a directory,
// from distribution packages. It needs to be root.
package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/vm/image/internal/tool"
)

// Spec says which packages of which suite.
type Spec struct {
	Suite    string
	Mirror   string // "" for Debian's own, with its updates and security fixes
	Packages []string
	// Initrd has initramfs-tools make an initrd, for virtio machines only.
	Initrd bool
}

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Needs lists what Bootstrap runs.
func Needs() []tool.Need {
	return []tool.Need{
		{Name: "mmdebstrap", Package: "mmdebstrap"},
		{Name: "chroot", Package: "coreutils"},
		{Name: keyring, Package: "debian-archive-keyring"},
	}
}

// Bootstrap installs spec's packages into dir, which must be missing or empty.
// log is told each line of what goes on.
func Bootstrap(ctx context.Context, spec Spec, dir string, log func(line string)) error {
	if os.Geteuid() != 0 {
		return hint.Wrap(errors.New("build an image: only root can"), "run the command with sudo")
	}
	lines := &lineWriter{line: log}
	err := tool.Run(ctx, run.Cmd{
		Path:   "mmdebstrap",
		Args:   bootstrapArgs(spec, dir),
		Env:    bootstrapEnv(spec),
		Stderr: lines,
		// mmdebstrap mounts /proc and more in dir and unmounts it in the end, if
		// it gets that far. In its own namespaces nothing of it, and no process
		// of the packages' scripts, can be left, however it ends.
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS},
	})
	if err == nil {
		return nil
	}
	return explain(fmt.Errorf("install packages of %q: %w: %s", spec.Suite, err, lines.problems()), spec, lines.problems())
}

func bootstrapArgs(spec Spec, dir string) []string {
	args := []string{
		"--mode=root", "--format=directory", "--variant=minbase", "--components=main",
		"--keyring=" + keyring,
		"--aptopt=Acquire::Languages \"none\"",
		"--aptopt=Acquire::Retries \"2\"",
		"--aptopt=Acquire::http::Timeout \"20\"",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright",
		"--include=" + strings.Join(spec.Packages, ","),
	}
	if spec.Initrd {
		// A small one starts sooner.
		args = append(args,
			`--essential-hook=mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"`,
			`--essential-hook=printf 'MODULES=list\n' >"$1/etc/initramfs-tools/conf.d/ovsactl.conf"`,
			`--essential-hook=printf 'virtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\next4\n' >"$1/usr/share/initramfs-tools/modules.d/ovsactl"`)
	}
	args = append(args, spec.Suite, dir)
	if spec.Mirror != "" {
		args = append(args, spec.Mirror)
	}
	return args
}

func bootstrapEnv(spec Spec) []string {
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	if !spec.Initrd {
		env = append(env, "INITRD=No") // heard by /etc/kernel/postinst.d/initramfs-tools
	}
	return env
}

var (
	unreachable = regexp.MustCompile(`Could not resolve|Temporary failure resolving|Unable to connect|Could not connect|Connection (timed out|refused|failed)|Network is unreachable`)
	noRelease   = regexp.MustCompile(`does not have a Release file|404 +Not Found`)
	noPackage   = regexp.MustCompile(`Unable to locate package (\S+)|Package '?(\S+?)'? has no installation candidate`)
	noSpace     = regexp.MustCompile(`No space left on device`)
)

// explain adds what to do about the usual reasons.
func explain(err error, spec Spec, problems string) error {
	mirror := spec.Mirror
	if mirror == "" {
		mirror = "http://deb.debian.org/debian"
	}
	switch {
	case noSpace.MatchString(problems):
		return hint.Wrap(err, "make room where the data directory is, or free old images: ovsactl image prune")
	case unreachable.MatchString(problems):
		return hint.Wrap(err, "the package mirror %s cannot be reached from here; set `mirror` in the image's build block, or build the image where there is a network: ovsactl image build", mirror)
	case noPackage.MatchString(problems):
		return hint.Wrap(err, "check the image's `packages`: each must exist in %s's section \"main\"", spec.Suite)
	case noRelease.MatchString(problems):
		return hint.Wrap(err, "check the image's `suite` and `mirror`: %s has no %q", mirror, spec.Suite)
	}
	return err
}

// Root is the finished tree, changed through paths that cannot leave it.
type Root struct {
	dir string
	r   *os.Root
}

// Open opens the tree at dir. Close it.
func Open(dir string) (*Root, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Root{dir, r}, nil
}

// Close releases the tree.
func (t *Root) Close() error { return t.r.Close() }

// Write makes a file, owned by root, with its missing directories.
func (t *Root) Write(path string, data []byte, mode fs.FileMode) error {
	name := relative(path)
	if err := t.r.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := t.Remove(path); err != nil {
		return err
	}
	if err := t.r.WriteFile(name, data, mode); err != nil {
		return err
	}
	return t.r.Chmod(name, mode) // the umask does not apply
}

// Symlink makes path a symbolic link, with its missing directories, replacing
// what was there.
func (t *Root) Symlink(target, path string) error {
	if err := t.r.MkdirAll(filepath.Dir(relative(path)), 0o755); err != nil {
		return err
	}
	if err := t.Remove(path); err != nil {
		return err
	}
	return t.r.Symlink(target, relative(path))
}

// Remove deletes path and what is below; a missing one is no error.
func (t *Root) Remove(path string) error { return t.r.RemoveAll(relative(path)) }

// Run runs a program of the tree inside it.
func (t *Root) Run(ctx context.Context, argv ...string) error {
	err := tool.Run(ctx, run.Cmd{
		Path: "chroot", Args: append([]string{t.dir}, argv...),
		Env: []string{"SYSTEMD_OFFLINE=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
	})
	if err != nil {
		return fmt.Errorf("in the image, %s: %w", argv[0], err)
	}
	return nil
}

// ForgetBuilder removes the traces of the machine and moment of the build: what
// every guest must have of its own, and caches.
func (t *Root) ForgetBuilder() error {
	globs := []string{
		"etc/hostname", "etc/ssh/ssh_host_*", "var/lib/dbus/machine-id",
		"var/lib/apt/lists/*", "var/cache/apt/*", "var/lib/systemd/random-seed",
		"var/log/*.log", "var/log/apt/*", "boot/*.old", "tmp/*",
	}
	for _, g := range globs {
		names, err := fs.Glob(t.r.FS(), g)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := t.r.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return errors.Join(
		// Empty, not missing: systemd fills it in without running first-boot presets.
		t.Write("/etc/machine-id", nil, 0o444),
		// Newer than /usr: caches are up to date and not made again at first boot.
		t.Write("/etc/.updated", nil, 0o644),
		t.Write("/var/.updated", nil, 0o644),
	)
}

func relative(path string) string { return strings.TrimPrefix(path, "/") }

// lineWriter hands on the lines written to it and keeps the errors among them.
type lineWriter struct {
	line func(string)
	buf  []byte
	errs []string
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	for {
		i := bytes.IndexByte(w.buf, '\n')
		if i < 0 {
			break
		}
		w.take(strings.TrimSpace(string(w.buf[:i])))
		w.buf = w.buf[i+1:]
	}
	if len(w.buf) > 64<<10 {
		w.buf = nil
	}
	return len(p), nil
}

func (w *lineWriter) take(line string) {
	if strings.HasPrefix(line, "E: ") || strings.HasPrefix(line, "Err:") || strings.Contains(line, "No space left") ||
		unreachable.MatchString(line) {
		if !slices.Contains(w.errs, line) {
			w.errs = append(w.errs, line)
		}
	}
	if w.line != nil {
		w.line(line)
	}
}

// problems returns the first errors, which name the cause; later ones follow from it.
func (w *lineWriter) problems() string {
	return strings.Join(w.errs[:min(3, len(w.errs))], "; ")
}
