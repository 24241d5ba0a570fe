// Package component is the software that goes into guests: tarballs with an
// installer in their only top directory. [Dir] finds ours, [File] takes a
// user's own, [Build] makes ours from the guest programs.
package component

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// Package is a component's tarball, whose listing has been checked.
type Package struct {
	Name, Version string
	Digest        string // lower-case hex SHA-256 of the file
	Path          string // on this machine
	Size          int64  // bytes of the file
	Unpacked      int64  // bytes of what is in it
	Dir           string // the tarball's top directory; DIR/install.sh is in it
	Ours          bool   // built by [Build], and not a user's own
}

// Names are the components that are ours, as manifests name them.
func Names() []string { return []string{"developer", "license_server", "model_hosting", "openvino"} }

// FileName is the guide's name of a component's tarball.
func FileName(component string) string { return topDir(component) + ".tar.gz" }

func topDir(component string) string {
	switch component {
	case "developer":
		return "ovsa-developer"
	case "license_server":
		return "ovsa-license-server"
	case "model_hosting":
		return "ovsa-model-hosting"
	case "openvino":
		return "ovsa-openvino"
	}
	return ""
}

// Dirs finds our tarballs in the first of some directories that has them.
type Dirs []string

// Dir is Dirs of one.
func Dir(path string) Dirs { return Dirs{path} }

// Search is where our tarballs are looked for: explicit when the user named a
// directory, else where a build and where an installation puts them, seen from
// the program's own path.
func Search(explicit, program string) Dirs {
	if explicit != "" {
		return Dirs{explicit}
	}
	var dirs Dirs
	if bin := filepath.Dir(program); program != "" {
		dirs = append(dirs, filepath.Join(bin, "..", "dist"), filepath.Join(bin, "..", "share", "ovsactl", "packages"))
	}
	return append(dirs, "/usr/share/ovsactl/packages")
}

// Open returns the tarball of one of our components.
func (d Dirs) Open(component string) (Package, error) {
	if !slices.Contains(Names(), component) {
		return Package{}, fmt.Errorf("open component: none of ours is named %q", component)
	}
	for _, dir := range d {
		path := filepath.Join(dir, FileName(component))
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		pkg, meta, err := read(path)
		if err != nil {
			return Package{}, fmt.Errorf("open component %q: %w", component, err)
		}
		if meta.Name != component || meta.Version == "" {
			return Package{}, hint.Wrap(fmt.Errorf("open component %q: %q is not its tarball", component, path), "build it again: make package")
		}
		pkg.Name, pkg.Version, pkg.Ours = meta.Name, meta.Version, true
		return pkg, nil
	}
	how := "build the components with `make package`, or name their directory: --packages DIR or OVSACTL_PACKAGES"
	if component == "openvino" {
		how += "; what it is made of comes from PyPI, and `make openvino` says why if it does not"
	}
	return Package{}, hint.Wrap(fmt.Errorf("open component %q: no %s in %v", component, FileName(component), []string(d)), "%s", how)
}

// File returns a user's own tarball, built by whatever means: gzipped or plain,
// with one top directory that has an install.sh. Its version is its meta file's
// where it has one, else the start of its digest.
func File(name, path string) (Package, error) {
	pkg, meta, err := read(path)
	if err != nil {
		return Package{}, hint.Wrap(fmt.Errorf("open component %q: %w", name, err), "check the component's `path`: a tarball with one top directory that has an install.sh")
	}
	pkg.Name, pkg.Version = name, meta.Version
	if pkg.Version == "" {
		pkg.Version = pkg.Digest[:12]
	}
	return pkg, nil
}

// read checks the tarball and sums it, in one pass.
func read(path string) (Package, meta, error) {
	f, err := os.Open(path)
	if err != nil {
		return Package{}, meta{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Package{}, meta{}, err
	}
	if !info.Mode().IsRegular() {
		return Package{}, meta{}, fmt.Errorf("%q is not a file", path)
	}
	sum := sha256.New()
	tee := io.TeeReader(f, sum)
	list, err := readListing(tee)
	if err != nil {
		return Package{}, meta{}, fmt.Errorf("read %q: %w", path, err)
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return Package{}, meta{}, fmt.Errorf("read %q: %w", path, err)
	}
	pkg := Package{Digest: hex.EncodeToString(sum.Sum(nil)), Path: path, Size: info.Size(), Unpacked: list.unpacked, Dir: list.top}
	return pkg, list.meta, nil
}
