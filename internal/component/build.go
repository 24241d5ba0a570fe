package component

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/component/installer"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/packaging/components"
)

// BuildOptions says what to build components from.
type BuildOptions struct {
	Programs string // directory with the guest programs
	Out      string // directory for the tarballs, made when it is absent
	Version  string
	// LeftOut is told of a component that is not built, because the libraries it is made
	// of are not there, and why. If it is nil, that is an error.
	LeftOut func(component string, why error)
}

// Build makes the tarballs of all our components. The same programs, libraries and
// version give the same bytes. Of one that is left out no older one stays, either.
func Build(opts BuildOptions) ([]Package, error) {
	if !plainVersion(opts.Version) {
		return nil, fmt.Errorf("build components: version %q is not plain text", opts.Version)
	}
	if err := os.MkdirAll(opts.Out, 0o755); err != nil {
		return nil, fmt.Errorf("build components: %w", err)
	}
	layouts := components.Layouts()
	var built []Package
	for _, name := range Names() {
		target := filepath.Join(opts.Out, FileName(name))
		entries, err := assemble(name, layouts[name], opts)
		if errors.Is(err, errNoLibrary) && opts.LeftOut != nil {
			opts.LeftOut(name, err)
			if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("leave out component %q: %w", name, err)
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("build component %q: %w", name, err)
		}
		err = atomicfile.Write(target, 0o644, func(w io.Writer) error { return writeTarball(w, entries) })
		if err != nil {
			return nil, fmt.Errorf("build component %q: %w", name, err)
		}
		pkg, err := Dir(opts.Out).Open(name) // and so what is built can be opened
		if err != nil {
			return nil, err
		}
		built = append(built, pkg)
	}
	return built, nil
}

// entry is one entry of a tarball; a directory has no data.
type entry struct {
	name string
	mode int64
	data []byte
	dir  bool
}

func assemble(name string, layout components.Layout, opts BuildOptions) ([]entry, error) {
	top := topDir(name)
	script, err := components.Installer()
	if err != nil {
		return nil, err
	}
	about, err := json.Marshal(meta{Format: 1, Name: name, Version: opts.Version})
	if err != nil {
		return nil, err
	}
	program, err := programFile(opts.Programs, installerProgram, checkStatic)
	if err != nil {
		return nil, err
	}
	manifest := installer.Manifest{Name: name, Version: opts.Version, Dirs: layout.Dirs, Users: layout.Users, Needs: layout.Needs, Units: layout.Units}
	all := []entry{
		{name: path.Join(top, installScript), mode: 0o755, data: script},
		{name: path.Join(top, installerProgram), mode: 0o755, data: program},
		{name: path.Join(top, metaName), mode: 0o644, data: append(about, '\n')},
	}
	for i, f := range slices.Concat(layout.Files, layout.Configs) {
		data, err := content(f, opts.Programs)
		if err != nil {
			return nil, err
		}
		in := &manifest.Files
		if i >= len(layout.Files) {
			in = &manifest.Configs
		}
		*in = append(*in, installer.File{Path: f.Path, Mode: f.Mode, Sum: sha256.Sum256(data)})
		all = append(all, entry{name: path.Join(top, "root", f.Path), mode: int64(f.Mode), data: data})
	}
	all = append(all, entry{name: path.Join(top, installer.ManifestName), mode: 0o644, data: manifest.Encode()})
	return withParents(all), nil
}

// installerProgram is the guest program that installs each package; the package's
// install.sh starts it.
const installerProgram = "ovsainstall"

// libraryDir is the directory of libraries that others have made, beside the programs.
const libraryDir = "openvino"

var errNoLibrary = errors.New("what others have made for it is not there")

func content(f components.File, programs string) ([]byte, error) {
	if f.Library != "" {
		data, err := os.ReadFile(filepath.Join(programs, libraryDir, f.Library))
		if errors.Is(err, fs.ErrNotExist) {
			err = hint.Wrap(fmt.Errorf("%w: %w", errNoLibrary, err), "`make openvino` fetches it from PyPI, and says why if it cannot")
		}
		return data, err
	}
	if f.Program == "" {
		return components.Asset(f.Asset)
	}
	if f.Dynamic {
		return programFile(programs, f.Program, checkDynamic)
	}
	return programFile(programs, f.Program, checkStatic)
}

func programFile(dir, name string, check func(*elf.File) error) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, hint.Wrap(err, "build the guest programs first (make build), or name their directory: --programs DIR")
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err == nil {
		err = check(f)
	}
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("program %q: %w", name, err), "%s", hint.Of(err))
	}
	return data, nil
}

// checkStatic refuses a program that needs libraries of the machine it was
// built on: the guest may be of another distribution.
func checkStatic(f *elf.File) error {
	if interpreter(f) != nil {
		return hint.Wrap(errors.New("it is not linked statically"), "build it with CGO_ENABLED=0, as make build does")
	}
	return nil
}

func interpreter(f *elf.File) *elf.Prog {
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return p
		}
	}
	return nil
}

const (
	loader = "/lib64/ld-linux-x86-64.so.2"
	// oldestLibc is Debian 12's: newer guests have what it has.
	oldestLibc = "2.36"
)

// checkDynamic wants a program that the C library of any guest can load, and that
// needs nothing else.
func checkDynamic(f *elf.File) error {
	p := interpreter(f)
	if p == nil {
		return errors.New("it is linked statically, and was to load libraries")
	}
	name, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
	if err != nil {
		return err
	}
	if text := strings.TrimRight(string(name), "\x00"); text != loader {
		return fmt.Errorf("it is loaded by %q, and guests have %s", text, loader)
	}
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		if dirs, err := f.DynString(tag); err != nil || len(dirs) > 0 {
			return errors.Join(fmt.Errorf("it looks for libraries in %q", dirs), err)
		}
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, l := range libraries {
		if !slices.Contains([]string{"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libresolv.so.2", "librt.so.1", "ld-linux-x86-64.so.2"}, l) {
			return fmt.Errorf("it needs %s, which is not of the C library", l)
		}
	}
	symbols, err := f.ImportedSymbols()
	if err != nil {
		return err
	}
	for _, s := range symbols {
		version, ok := strings.CutPrefix(s.Version, "GLIBC_")
		if s.Version != "" && (!ok || newer(version, oldestLibc)) {
			return hint.Wrap(fmt.Errorf("it needs %s of %s, and guests may have %s", s.Name, s.Version, oldestLibc), "build it on Debian 12")
		}
	}
	return nil
}

// newer compares versions of numbers with dots between. What is none is newer.
func newer(a, b string) bool {
	for a != "" && b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		n, err := strconv.Atoi(x)
		m, err2 := strconv.Atoi(y)
		if err != nil || err2 != nil || n != m {
			return err != nil || n > m
		}
	}
	return a != ""
}

// withParents adds the directories and sorts: parents before children.
func withParents(entries []entry) []entry {
	dirs := make(map[string]bool)
	for _, e := range entries {
		for dir := path.Dir(e.name); dir != "."; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	for dir := range dirs {
		entries = append(entries, entry{name: dir, mode: 0o755, dir: true})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries
}

// writeTarball writes what depends on nothing but entries.
func writeTarball(w io.Writer, entries []entry) error {
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	for _, e := range entries {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: e.name, Mode: e.mode, Size: int64(len(e.data)), Format: tar.FormatUSTAR,
			ModTime: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), Uname: "root", Gname: "root",
		}
		if e.dir {
			h.Typeflag, h.Name = tar.TypeDir, e.name+"/"
		}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		if _, err := archive.Write(e.data); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zipped.Close()
}
