// Package installer puts an unpacked component of ours in its place in a guest.
// It runs there, so it depends on little.
package installer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// ManifestName is the file of a package that says what it installs. The content
// of the files is in the directory "root" beside it.
const ManifestName = "MANIFEST"

const (
	firstLine = "ovsa-manifest 1"
	lastLine  = "end"
	// maxManifest is some five thousand files; ours have ten.
	maxManifest = 1 << 20
)

// Manifest says what a package installs.
type Manifest struct {
	Name, Version string
	Dirs          []Dir // parents before children
	Files         []File
}

// Dir is a directory that is made, or brought to Mode and Owner.
type Dir struct {
	Path  string
	Mode  uint32 // permission bits as chmod(2) has them
	Owner Owner
}

// File is a file, which is root's.
type File struct {
	Path string
	Mode uint32 // permission bits as chmod(2) has them
	Sum  [sha256.Size]byte
}

// Owner is who owns a directory.
type Owner string

// The owners that there are. What root runs is never in a directory of User's.
const (
	Root     Owner = "root"
	User     Owner = "ovsa"
	RootUser Owner = "root:ovsa" // root's, of the group of User
)

// Encode returns the manifest's text:
//
//	ovsa-manifest 1
//	component NAME VERSION
//	dir MODE OWNER PATH
//	file SHA256 MODE PATH
//	end
//
// The first line and the last tell that it is whole.
func (m *Manifest) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\ncomponent %s %s\n", firstLine, m.Name, m.Version)
	for _, d := range m.Dirs {
		fmt.Fprintf(&b, "dir %04o %s %s\n", d.Mode, d.Owner, d.Path)
	}
	for _, f := range m.Files {
		fmt.Fprintf(&b, "file %x %04o %s\n", f.Sum, f.Mode, f.Path)
	}
	b.WriteString(lastLine + "\n")
	return b.Bytes()
}

// ParseManifest takes what Encode returns and nothing else. All paths are below
// the directories that components may have.
func ParseManifest(text []byte) (*Manifest, error) {
	if len(text) > maxManifest {
		return nil, fmt.Errorf("%s is over %d bytes", ManifestName, maxManifest)
	}
	lines := strings.Split(string(text), "\n")
	if lines[0] != firstLine {
		return nil, fmt.Errorf("%s is of another version", ManifestName)
	}
	if n := len(lines); n < 4 || lines[n-1] != "" || lines[n-2] != lastLine {
		return nil, fmt.Errorf("%s is not whole", ManifestName)
	}
	m := &Manifest{}
	for i, line := range lines[1 : len(lines)-2] {
		if err := m.add(strings.Split(line, " ")); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", ManifestName, i+2, err)
		}
	}
	if !bytes.Equal(m.Encode(), text) { // another order, numbers written otherwise
		return nil, fmt.Errorf("%s is not written as it should be", ManifestName)
	}
	return m, nil
}

// add takes the words of a line.
func (m *Manifest) add(words []string) error {
	switch {
	case words[0] == "component" && len(words) == 3:
		if !Plain(words[1], "_") || !Plain(words[2], "._+~-") {
			return errors.New("no name and version of a component")
		}
		m.Name, m.Version = words[1], words[2]
		return nil
	case words[0] == "dir" && len(words) == 4:
		mode, err := parseMode(words[1])
		if err != nil {
			return err
		}
		d := Dir{words[3], mode, Owner(words[2])}
		if d.Owner != Root && d.Owner != User && d.Owner != RootUser {
			return fmt.Errorf("the owner %q", d.Owner)
		}
		m.Dirs = append(m.Dirs, d)
		return checkPath(d.Path)
	case words[0] == "file" && len(words) == 4:
		sum, err := hex.DecodeString(words[1])
		if err != nil || len(sum) != sha256.Size {
			return errors.New("no SHA-256 digest")
		}
		mode, err := parseMode(words[2])
		if err != nil {
			return err
		}
		f := File{words[3], mode, [sha256.Size]byte(sum)}
		if slices.ContainsFunc(m.Files, func(other File) bool { return other.Path == f.Path }) {
			return fmt.Errorf("the path %q twice", f.Path)
		}
		m.Files = append(m.Files, f)
		return checkPath(f.Path)
	}
	return errors.New("it says nothing that a manifest does")
}

func parseMode(s string) (uint32, error) {
	mode, err := strconv.ParseUint(s, 8, 16)
	if err != nil || mode > 0o7777 {
		return 0, fmt.Errorf("the mode %q", s)
	}
	return uint32(mode), nil
}

// checkPath wants a plain path in a place for components.
func checkPath(p string) error {
	if path.Clean(p) != p || !Plain(p, "._-/") {
		return fmt.Errorf("the path %q", p)
	}
	const units = "/usr/local/lib/systemd"
	switch {
	case p == "/opt/ovsa", strings.HasPrefix(p, "/opt/ovsa/"),
		p == units, p == units+"/system", p == units+"/system/license_server.service":
		return nil
	}
	return fmt.Errorf("the path %q is none for components", p)
}

// Plain tells whether s has ASCII letters, digits and some others alone.
func Plain(s, others string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune(others, r))
	}) < 0
}
