package installer

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// unpacked is a package that has been checked.
type unpacked struct {
	*Manifest
	text []byte   // of the manifest
	root *os.Root // where the content is
}

func (p *unpacked) Close() error { return p.root.Close() }

// content is the name of a file's content in root.
func content(f File) string { return f.Path[1:] }

// open checks the whole package, or only what it names where it came whole.
func open(dir string, whole bool) (_ *unpacked, err error) {
	text, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		return nil, fmt.Errorf("this is no package: %w", err)
	}
	m, err := ParseManifest(text)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(filepath.Join(dir, "root"))
	if err != nil {
		return nil, fmt.Errorf("the package is not whole: %w", err)
	}
	p := &unpacked{m, text, root}
	defer func() {
		if err != nil {
			root.Close()
		}
	}()
	for _, f := range m.all() {
		info, err := root.Lstat(content(f))
		if err != nil || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is missing from the package", f.Path)
		}
	}
	if whole {
		return p, nil
	}
	return p, p.check()
}

// check wants the content that the manifest has the digests of, and no more.
func (p *unpacked) check() error {
	known := make(map[string]bool)
	for _, f := range p.all() {
		known[content(f)] = true
	}
	err := fs.WalkDir(p.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !known[name] {
			return fmt.Errorf("the package has /%s, which %s does not name", name, ManifestName)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, f := range p.all() {
		if err := p.checkFile(f); err != nil {
			return err
		}
	}
	return nil
}

func (p *unpacked) checkFile(f File) error {
	in, err := p.root.Open(content(f))
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return err
	}
	if [sha256.Size]byte(sum.Sum(nil)) != f.Sum {
		return fmt.Errorf("%s is not the file that was packaged", f.Path)
	}
	return nil
}
