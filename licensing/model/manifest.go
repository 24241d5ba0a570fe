package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"lukechampine.com/blake3"

	"github.com/ovsactl/ovsactl/licensing"
)

// Info is what the vendor says about a model.
type Info struct {
	Name        string // 1 to 255 bytes
	Description string // at most 4096
	Version     string // 1 to 32
	GUID        string // UUID, lower case, with dashes
}

// File is one file of a model.
type File struct {
	Name string // a base name, unique in its model
	Size int64
}

const (
	maxManifest    = 4 << 20
	maxName        = 255
	maxDescription = 4096
	maxVersion     = licensing.MaxVersion

	formatName  = "ovsa-model/v2"
	formatName1 = "ovsa-model/v1" // which is read, and not made

	digestBLAKE3 = "blake3"
	digestSHA256 = "sha256" // of version 1
	digestNone   = "none"

	digestSize = 32
)

// digests are what each version may have of its chunks.
func digests(format string) []string {
	switch format {
	case formatName:
		return []string{digestBLAKE3, digestNone}
	case formatName1:
		return []string{digestSHA256, digestNone}
	}
	return nil
}

// hashOf is the digest of that name; nil for none.
func hashOf(digests string) func([]byte) [digestSize]byte {
	switch digests {
	case digestBLAKE3:
		return blake3.Sum256
	case digestSHA256:
		return sha256.Sum256
	}
	return nil
}

// manifest is what the vendor signs. Its one encoding is RFC 8785 (JCS), which
// is what encoding/json writes for these types as long as the fields are in
// alphabetical order and the strings have what checkText lets through.
type manifest struct {
	Chunk       int            `json:"chunk_size"`
	Description string         `json:"description"`
	Digests     string         `json:"digests"` // of chunks: blake3 or none
	Files       []manifestFile `json:"files"`
	Format      string         `json:"format"`
	Header      string         `json:"header_sha256"`
	GUID        string         `json:"model_guid"`
	Name        string         `json:"name"`
	Table       string         `json:"table_sha256"`
	Version     string         `json:"version"`
}

type manifestFile struct {
	Chunks int64  `json:"chunks"`
	Name   string `json:"name"`
	Size   int64  `json:"size"`
}

func (m manifest) marshal() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("encode model manifest: %w", err)
	}
	if b.Len() > maxManifest {
		return nil, fmt.Errorf("%w: a manifest of %d bytes, over %d", ErrInput, b.Len(), maxManifest)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// parseManifest accepts exactly what marshal can write.
func parseManifest(b []byte) (manifest, error) {
	if len(b) > maxManifest {
		return manifest{}, fmt.Errorf("%w: the manifest is over %d bytes", ErrFormat, maxManifest)
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return manifest{}, fmt.Errorf("%w: manifest: %w", ErrFormat, err)
	}
	if again, err := m.marshal(); err != nil || !bytes.Equal(again, b) {
		return manifest{}, fmt.Errorf("%w: the manifest is not canonical", ErrFormat)
	}
	if err := m.check(); err != nil {
		return manifest{}, fmt.Errorf("%w: manifest: %w", ErrFormat, err)
	}
	return m, nil
}

func (m manifest) check() error {
	allowed := digests(m.Format)
	if allowed == nil {
		return fmt.Errorf("format %q, want %q or %q", m.Format, formatName, formatName1)
	}
	if m.Chunk != ChunkSize {
		return fmt.Errorf("chunks of %d bytes, want %d", m.Chunk, ChunkSize)
	}
	if !slices.Contains(allowed, m.Digests) {
		return fmt.Errorf("digests %q, want one of %q", m.Digests, allowed)
	}
	if !isHex(m.Header) || !isHex(m.Table) {
		return fmt.Errorf("a digest that is not 64 lower-case hexadecimal digits")
	}
	if err := m.info().check(); err != nil {
		return err
	}
	return m.checkFiles()
}

func (m manifest) checkFiles() error {
	names := make([]string, len(m.Files))
	total := int64(0)
	for i, f := range m.Files {
		if f.Size < 0 || f.Size > MaxData-total {
			return fmt.Errorf("file %q has a size out of range", f.Name)
		}
		if f.Chunks != chunks(f.Size) {
			return fmt.Errorf("file %q has %d chunks, want %d", f.Name, f.Chunks, chunks(f.Size))
		}
		total += f.Size
		names[i] = f.Name
	}
	return checkNames(names)
}

// chunks is how many chunks a file has. An empty file has one, so that every
// file has a tag.
func chunks(size int64) int64 { return max(1, (size+ChunkSize-1)/ChunkSize) }

func (m manifest) info() Info {
	return Info{Name: m.Name, Description: m.Description, Version: m.Version, GUID: m.GUID}
}

// entrySize is the length of a chunk's entry in the table.
func (m manifest) entrySize() int {
	if m.Digests == digestNone {
		return tagSize
	}
	return maxEntry
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func (i Info) check() error {
	for _, f := range []struct {
		what, s  string
		min, max int
	}{
		{"name", i.Name, 1, maxName},
		{"description", i.Description, 0, maxDescription},
		{"version", i.Version, 1, maxVersion},
	} {
		if len(f.s) < f.min || len(f.s) > f.max {
			return fmt.Errorf("the %s has %d bytes, want %d to %d", f.what, len(f.s), f.min, f.max)
		}
		if !isText(f.s) {
			return fmt.Errorf("the %s %q has characters that are not printed", f.what, f.s)
		}
	}
	if !guid.MatchString(i.GUID) {
		return fmt.Errorf("the model GUID %q is not a lower-case UUID", i.GUID)
	}
	return nil
}

func checkNames(names []string) error {
	if len(names) == 0 || len(names) > MaxFiles {
		return fmt.Errorf("%d files, want 1 to %d", len(names), MaxFiles)
	}
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		switch {
		case name == "" || name == "." || name == ".." || strings.ContainsAny(name, `/\`):
			return fmt.Errorf("%q is not a file's base name", name)
		case len(name) > maxName:
			return fmt.Errorf("the file name %q is longer than %d bytes", name, maxName)
		case !isText(name):
			return fmt.Errorf("the file name %q has characters that are not printed", name)
		case seen[name]:
			return fmt.Errorf("two files are named %q", name)
		}
		seen[name] = true
	}
	return nil
}

// isText refuses invalid UTF-8, control characters, line and paragraph
// separators, what changes the direction of text, and the byte order mark. The
// list is fixed, so that it does not grow with Unicode.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x20 || r >= 0x7f && r <= 0x9f ||
			r == 0x061c || r == 0x200e || r == 0x200f ||
			r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff
	})
}

func isHex(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
