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
	Users         []string // of the system: without a home, a password or a login
	Needs         []Need
	Dirs          []Dir // parents before children
	Files         []File
	// Configs are files that are made where there is none, and are User's from then
	// on: they are never replaced or removed.
	Configs []File
	Units   []string // of systemd, among Files, that are enabled and started
}

// Need is a package of the distribution's.
type Need struct {
	Package  string
	Path     string // a file of its, by which it is known to be there
	Optional bool   // without it something works less well, or in another way
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
//	user NAME
//	need PACKAGE PATH
//	want PACKAGE PATH
//	dir MODE OWNER PATH
//	file SHA256 MODE PATH
//	config SHA256 MODE PATH
//	unit NAME
//	end
//
// The first line and the last tell that it is whole.
func (m *Manifest) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\ncomponent %s %s\n", firstLine, m.Name, m.Version)
	for _, name := range m.Users {
		fmt.Fprintf(&b, "user %s\n", name)
	}
	for _, n := range m.Needs {
		fmt.Fprintf(&b, "%s %s %s\n", n.verb(), n.Package, n.Path)
	}
	for _, d := range m.Dirs {
		fmt.Fprintf(&b, "dir %04o %s %s\n", d.Mode, d.Owner, d.Path)
	}
	for _, f := range m.Files {
		fmt.Fprintf(&b, "file %x %04o %s\n", f.Sum, f.Mode, f.Path)
	}
	for _, f := range m.Configs {
		fmt.Fprintf(&b, "config %x %04o %s\n", f.Sum, f.Mode, f.Path)
	}
	for _, name := range m.Units {
		fmt.Fprintf(&b, "unit %s\n", name)
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
	case (words[0] == "file" || words[0] == "config") && len(words) == 4:
		f, err := parseFile(words)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(m.all(), func(other File) bool { return other.Path == f.Path }) {
			return fmt.Errorf("the path %q twice", f.Path)
		}
		if words[0] == "file" {
			m.Files = append(m.Files, f)
		} else {
			m.Configs = append(m.Configs, f)
		}
		return checkPath(f.Path)
	case words[0] == "user" && len(words) == 2:
		m.Users = append(m.Users, words[1])
		return checkUser(words[1])
	case (words[0] == needVerb || words[0] == wantVerb) && len(words) == 3:
		if !Plain(words[1], ".+-") || !strings.HasPrefix(words[2], "/") || !Plain(words[2], "._+-/") {
			return errors.New("no package and file of its")
		}
		m.Needs = append(m.Needs, Need{words[1], words[2], words[0] == wantVerb})
		return nil
	case words[0] == "unit" && len(words) == 2:
		m.Units = append(m.Units, words[1])
		if !slices.ContainsFunc(m.Files, func(f File) bool { return f.Path == unitDir+"/"+words[1] }) {
			return fmt.Errorf("the unit %q is not among the files", words[1])
		}
		return nil
	}
	return errors.New("it says nothing that a manifest does")
}

const needVerb, wantVerb = "need", "want"

func (n Need) verb() string {
	if n.Optional {
		return wantVerb
	}
	return needVerb
}

// all are the files that a package has the content of.
func (m *Manifest) all() []File { return slices.Concat(m.Files, m.Configs) }

// parseFile takes the words of a file's line.
func parseFile(words []string) (File, error) {
	sum, err := hex.DecodeString(words[1])
	if err != nil || len(sum) != sha256.Size {
		return File{}, errors.New("no SHA-256 digest")
	}
	mode, err := parseMode(words[2])
	return File{words[3], mode, [sha256.Size]byte(sum)}, err
}

// checkUser wants one of the users that components may make.
func checkUser(name string) error {
	if name != engineUser {
		return fmt.Errorf("the user %q is none for components", name)
	}
	return nil
}

// engineUser is whom model servers run as.
const engineUser = "ovsa-engine"

func parseMode(s string) (uint32, error) {
	mode, err := strconv.ParseUint(s, 8, 16)
	if err != nil || mode > 0o7777 {
		return 0, fmt.Errorf("the mode %q", s)
	}
	return uint32(mode), nil
}

// unitDir is where components have their units.
const unitDir = "/usr/local/lib/systemd/system"

// checkPath wants a plain path in a place for components.
func checkPath(p string) error {
	if path.Clean(p) != p || !Plain(p, "._-/") {
		return fmt.Errorf("the path %q", p)
	}
	switch {
	case p == "/opt/ovsa", strings.HasPrefix(p, "/opt/ovsa/"), p == "/var/OVSA", p == "/var/OVSA/Modelserver", p == path.Dir(unitDir), p == unitDir:
		return nil
	case path.Dir(p) == unitDir && slices.Contains([]string{"license_server.service", "license_server-init.service", "ovsaruntime.service", "ovsaruntime-init.service"}, path.Base(p)):
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
