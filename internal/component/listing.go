package component

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/ovsactl/ovsactl/internal/component/installer"
)

// Limits of a tarball. Upstream's model hosting package holds a container
// image, so they are wide.
const (
	maxEntries    = 100_000
	maxUnpacked   = 32 << 30
	maxMeta       = 64 << 10
	metaName      = "meta.json"
	installScript = "install.sh"
)

// meta says what a tarball of ours is.
type meta struct {
	Format  int    `json:"format"`
	Name    string `json:"name"`
	Version string `json:"version"`
}

type listing struct {
	top       string // "" until the first entry
	installer bool
	meta      meta
	links     map[string]bool // entries that are symbolic links
	entries   int
	unpacked  int64
}

// readListing reads a whole tarball, gzipped or plain. It refuses whatever
// extracting could put outside of, or make point outside of, the top directory.
func readListing(r io.Reader) (*listing, error) {
	stream, err := decompress(r)
	if err != nil {
		return nil, err
	}
	l := newListing()
	for archive := tar.NewReader(stream); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		isMeta, err := l.add(header)
		if err == nil && isMeta {
			err = l.readMeta(archive)
		}
		if err != nil {
			return nil, err
		}
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(stream, maxUnpacked)); err != nil {
		return nil, err // a damaged end: the checksum of gzip
	}
	if !l.installer {
		return nil, fmt.Errorf("not a component: no %s in its top directory", installScript)
	}
	return l, nil
}

// newListing is a listing of no entries yet.
func newListing() *listing { return &listing{links: make(map[string]bool)} }

// add takes an entry, in the order of the archive, and tells whether it is the
// package's description of itself.
func (l *listing) add(h *tar.Header) (isMeta bool, err error) {
	l.entries++
	l.unpacked += h.Size
	if l.entries > maxEntries || h.Size < 0 || l.unpacked > maxUnpacked {
		return false, fmt.Errorf("over %d entries or %d bytes", maxEntries, int64(maxUnpacked))
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return false, nil
	}
	name, top, err := l.place(h.Name)
	if err != nil {
		return false, err
	}
	switch h.Typeflag {
	case tar.TypeDir:
	case tar.TypeReg:
		l.installer = l.installer || name == path.Join(top, installScript)
		return name == path.Join(top, metaName), nil
	case tar.TypeSymlink:
		l.links[name] = true
		return false, l.checkLink(h, path.Join(path.Dir(name), h.Linkname))
	case tar.TypeLink:
		return false, l.checkLink(h, path.Clean(h.Linkname))
	default:
		return false, fmt.Errorf("entry %q: a device or another special file", h.Name)
	}
	return false, nil
}

// place checks an entry's name, and that it is in the one top directory.
func (l *listing) place(raw string) (name, top string, err error) {
	name = path.Clean(raw)
	switch {
	case name == ".":
		return name, l.top, nil
	case raw == "" || path.IsAbs(raw) || strings.ContainsAny(raw, "\x00\n\r\\"):
		return "", "", fmt.Errorf("entry %q: unsafe name", raw)
	}
	for part := range strings.SplitSeq(raw, "/") {
		if part == ".." {
			return "", "", fmt.Errorf("entry %q: leaves its directory", raw)
		}
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if l.links[dir] {
			return "", "", fmt.Errorf("entry %q: behind the link %q", raw, dir)
		}
	}
	top, _, _ = strings.Cut(name, "/")
	if strings.HasPrefix(top, "-") {
		return "", "", fmt.Errorf("entry %q: unsafe name", raw)
	}
	if l.top == "" {
		l.top = top
	}
	if top != l.top {
		return "", "", fmt.Errorf("entry %q: outside of the top directory %q", raw, l.top)
	}
	return name, top, nil
}

// checkLink wants a link's target inside the top directory.
func (l *listing) checkLink(h *tar.Header, target string) error {
	inside := target == l.top || strings.HasPrefix(target, l.top+"/")
	if path.IsAbs(h.Linkname) || !inside || climbsLate(h.Linkname) {
		return fmt.Errorf("entry %q: link to %q, outside of the tarball", h.Name, h.Linkname)
	}
	if h.Typeflag == tar.TypeLink {
		for at := target; at != "."; at = path.Dir(at) {
			if l.links[at] {
				return fmt.Errorf("entry %q: link to %q, behind a link", h.Name, h.Linkname)
			}
		}
	}
	return nil
}

// climbsLate reports a ".." after a name: where that leads depends on whether
// the name is a link itself.
func climbsLate(target string) bool {
	named := false
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == ".." && named:
			return true
		case part != ".." && part != "." && part != "":
			named = true
		}
	}
	return false
}

func (l *listing) readMeta(r io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(r, maxMeta+1))
	if err != nil {
		return err
	}
	if len(text) > maxMeta {
		return fmt.Errorf("%s is over %d bytes", metaName, maxMeta)
	}
	var m meta
	if json.Unmarshal(text, &m) == nil && m.Format == 1 && plainVersion(m.Version) {
		l.meta = m // else it is somebody else's file of that name
	}
	return nil
}

// plainVersion keeps what is shown and recorded to short plain text.
func plainVersion(v string) bool { return len(v) <= 64 && installer.Plain(v, ".-+_~") }
