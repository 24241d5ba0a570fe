package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Files of one image's directory, which is named by the hex of its digest.
const (
	metaName     = "meta.json" // written last: a directory without it is no image
	metaVersion  = 1
	metaMaxBytes = 64 << 10
)

// meta is what an image's directory says about the image.
type meta struct {
	Version   int
	Digest    string
	Disk      string // file name of the disk
	Format    string
	Virtual   uint64
	FirstBoot FirstBoot
	Origin    string // where it came from, for people
	CreatedAt time.Time
	Kernel    string `json:",omitempty"` // file names
	Initrd    string `json:",omitempty"`
	Cmdline   string `json:",omitempty"` // the text
}

// readMeta reads the directory of one image. A missing one is fs.ErrNotExist.
func readMeta(dir string) (meta, error) {
	var m meta
	f, err := os.Open(filepath.Join(dir, metaName))
	if err != nil {
		return m, err
	}
	defer f.Close()
	if err := decodeMeta(io.LimitReader(f, metaMaxBytes), &m); err != nil {
		return m, fmt.Errorf("read %q: %w", f.Name(), err)
	}
	if want := filepath.Base(dir); hexOf(m.Digest) != want {
		return m, fmt.Errorf("read %q: it is about another image, %s", f.Name(), m.Digest)
	}
	for _, name := range []string{m.Disk, m.Kernel, m.Initrd} {
		if name == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return m, err
		}
	}
	return m, nil
}

func decodeMeta(r io.Reader, m *meta) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after its end")
	}
	switch {
	case m.Version != metaVersion:
		return fmt.Errorf("version %d, this program knows %d", m.Version, metaVersion)
	case !sumPattern.MatchString(hexOf(m.Digest)) || m.Disk == "":
		return errors.New("no digest or no disk")
	}
	for _, name := range []string{m.Disk, m.Kernel, m.Initrd} {
		if name != "" && (strings.ContainsAny(name, "/\x00") || !fs.ValidPath(name) || name == ".") {
			return fmt.Errorf("%q is not a file's name", name)
		}
	}
	return nil
}

// image is m as the rest of the program sees it.
func (m meta) image(name, dir string) Image {
	img := Image{
		Name: name, Digest: m.Digest, Path: filepath.Join(dir, m.Disk), Format: m.Format,
		Virtual: m.Virtual, FirstBoot: m.FirstBoot, Cmdline: m.Cmdline,
	}
	if m.Kernel != "" {
		img.Kernel, img.Initrd = filepath.Join(dir, m.Kernel), filepath.Join(dir, m.Initrd)
	}
	return img
}
