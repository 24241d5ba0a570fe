package model

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovsactl/ovsactl/licensing"
)

var update = flag.Bool("update", false, "write testdata/vectors anew")

// vectors are for those who write another implementation; docs/formats.md tells
// how to read them.
type vectors struct {
	Format     string    `json:"format"`
	Content    string    `json:"content"`
	Signed     string    `json:"signed"`
	VerifyKey  string    `json:"verify_key"`
	Containers []vector  `json:"containers"`
	Refused    []refusal `json:"refused"`
}

type vector struct {
	Name       string       `json:"name"`
	Key        string       `json:"key"`
	Salt       string       `json:"salt"`
	Files      []vectorFile `json:"files"`
	Table      string       `json:"table"`
	Commitment string       `json:"commitment"`
	Manifest   string       `json:"manifest"`
	Digest     string       `json:"model_digest"`
	Size       int64        `json:"container_size"`
	SHA256     string       `json:"container_sha256"`
	File       string       `json:"container,omitempty"` // beside the vectors, if it is small
}

type vectorFile struct {
	Name string `json:"name"`
	Size int    `json:"size"`
	Key  string `json:"key"`
}

// refusal is a change of the first container, and the error that it is. Each is
// refused by Open, or, if the container opens, when the first file is read.
type refusal struct {
	Name  string `json:"name"`
	At    int    `json:"at"`    // offset; from the end if negative
	Cut   int    `json:"cut"`   // bytes to remove there
	Paste string `json:"paste"` // bytes to put there instead
	Error string `json:"error"` // format, truncated, signature or tampered
	Opens bool   `json:"opens"`
}

func vectorContent(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func TestVectors(t *testing.T) {
	v := vectors{
		Format:    formatName,
		Content:   "byte i of every file is i mod 251",
		Signed:    "Ed25519 signature of the manifest (64 bytes), then the manifest",
		VerifyKey: hex.EncodeToString(newVendor(1).key.Public().(ed25519.PublicKey)),
	}
	var small []byte
	for i, tc := range []struct {
		name     string
		tagsOnly bool
		files    []vectorFile
	}{
		{"several", false, []vectorFile{{Name: "model.xml", Size: 300}, {Name: "empty"}, {Name: "größe.bin", Size: 17}}},
		{"one-byte", false, []vectorFile{{Name: "f", Size: 1}}},
		{"tags-only", true, []vectorFile{{Name: "f", Size: 100}, {Name: `q"<&>`, Size: 16}}},
		{"one-chunk", false, []vectorFile{{Name: "f", Size: ChunkSize}}},
		{"three-chunks", false, []vectorFile{{Name: "f", Size: 2*ChunkSize + 1}, {Name: "g", Size: ChunkSize + 1}}},
	} {
		s := testSealer()
		s.TagsOnly = tc.tagsOnly
		one, dat := makeVector(t, s, byte(i), tc.name, tc.files)
		if len(dat) < 4096 {
			one.File = tc.name + ".dat"
			compare(t, one.File, dat)
		}
		if small == nil {
			small = dat
		}
		v.Containers = append(v.Containers, one)
	}
	v.Refused = refusals(t, small)
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "vectors.json", append(text, '\n'))
}

// compare holds a file of the vectors against what it is to be.
func compare(t *testing.T, name string, want []byte) {
	t.Helper()
	path := filepath.Join("testdata", "vectors", name)
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), string(want)); diff != "" {
		t.Errorf("%s is not what this package makes: a reader of version 2 must read both\n%s", name, diff)
	}
}

func makeVector(t *testing.T, s Sealer, n byte, name string, files []vectorFile) (vector, []byte) {
	t.Helper()
	key := sha256.Sum256([]byte{'k', n})
	salt := sha256.Sum256([]byte{'s', n})
	v := vector{Name: name, Key: hex.EncodeToString(key[:]), Salt: hex.EncodeToString(salt[:])}
	prk, err := hkdf.Extract(sha256.New, key[:], salt[:])
	if err != nil {
		t.Fatal(err)
	}
	expand := func(info string) string {
		b, err := hkdf.Expand(sha256.New, prk, info, 32)
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(b)
	}
	v.Commitment = expand("ovsa-model/v1 commitment")
	if s.Key, err = licensing.TakeKey(key[:]); err != nil {
		t.Fatal(err)
	}
	s.salt = func(b []byte) { copy(b, salt[:]) }
	var in []file
	for i, f := range files {
		f.Key = expand(string(binary.BigEndian.AppendUint32([]byte("ovsa-model/v1 file"), uint32(i))))
		v.Files = append(v.Files, f)
		in = append(in, file{f.Name, vectorContent(f.Size)})
	}
	dat := seal(t, s, in...)
	r := regions(t, dat)
	v.Table = hex.EncodeToString(dat[r[2].from:r[2].to])
	v.Manifest = payloadOf(t, dat)
	digest, sum := sha256.Sum256([]byte(v.Manifest)), sha256.Sum256(dat)
	v.Digest, v.SHA256, v.Size = hex.EncodeToString(digest[:]), hex.EncodeToString(sum[:]), int64(len(dat))
	return v, dat
}

// refusals are changes that every reader must refuse; each is checked here.
func refusals(t *testing.T, dat []byte) []refusal {
	t.Helper()
	r := regions(t, dat)
	data, table, manifest, trailer := r[1].from, r[2].from, r[3].from, r[4].from
	flip := func(at int) string { return hex.EncodeToString([]byte{dat[at] ^ 1}) }
	all := []refusal{
		{"magic", 0, 1, flip(0), "format", false},
		{"salt", 16, 1, flip(16), "tampered", false},
		{"commitment", 48, 1, flip(48), "tampered", false},
		{"ciphertext of the first file", data, 1, flip(data), "tampered", true},
		{"tag of the first chunk", table, 1, flip(table), "tampered", false},
		{"digest of the first chunk", table + 16, 1, flip(table + 16), "tampered", false},
		{"entries of two files exchanged", table, 96, hex.EncodeToString(slices.Concat(dat[table+48:table+96], dat[table:table+48])), "tampered", false},
		{"signature", manifest, 1, flip(manifest), "signature", false},
		{"manifest", trailer - 4, 1, flip(trailer - 4), "signature", false},
		{"length of the ciphertext", trailer + 7, 1, flip(trailer + 7), "format", false},
		{"trailer's magic", -1, 1, flip(len(dat) - 1), "truncated", false},
		{"last byte missing", -1, 1, "", "truncated", false},
		{"only the header", 80, len(dat) - 80, "", "truncated", false},
		{"a byte of ciphertext missing", data, 1, "", "truncated", false},
		{"empty", 0, len(dat), "", "format", false},
		{"a byte behind", len(dat), 0, "00", "truncated", false},
		{"a trailer behind", len(dat), 0, hex.EncodeToString(dat[trailer:]), "format", false},
	}
	for _, c := range all {
		at := c.At
		if at < 0 {
			at += len(dat)
		}
		paste, err := hex.DecodeString(c.Paste)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Concat(dat[:at], paste, dat[at+c.Cut:])
		_, err = testOpener().Open(t.Context(), bytes.NewReader(bad), int64(len(bad)))
		want := map[string]error{"format": ErrFormat, "truncated": ErrTruncated, "signature": ErrSignature, "tampered": ErrTampered}[c.Error]
		if c.Opens {
			want = nil
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", c.Name, err, want)
		}
	}
	return all
}
