package model

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
)

// TestVersion1 reads what version 1 made: its containers are in testdata/vectors-v1,
// and so are changes of them that are refused.
func TestVersion1(t *testing.T) {
	dir := filepath.Join("testdata", "vectors-v1")
	text, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if v.Format != formatName1 {
		t.Fatalf("vectors of %s", v.Format)
	}
	var first []byte
	for _, one := range v.Containers {
		if one.File == "" {
			continue // it is large: its manifest says all that is new in it
		}
		dat, err := os.ReadFile(filepath.Join(dir, one.File))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = dat
		}
		c, err := testOpener().Open(t.Context(), bytes.NewReader(dat), int64(len(dat)))
		if err != nil {
			t.Fatalf("%s: %v", one.Name, err)
		}
		want := digestSHA256
		if one.Name == "tags-only" {
			want = digestNone
		}
		if c.Digests() != want || c.Digest().String() != one.Digest {
			t.Errorf("%s: digests %s, %s", one.Name, c.Digests(), c.Digest())
		}
		if c.HasDigests() {
			if err := c.Check(t.Context()); err != nil {
				t.Errorf("%s: %v", one.Name, err)
			}
		}
		m := keyed(t, c, one.Key)
		defer m.Close()
		for _, f := range one.Files {
			if got := decrypt(t, m, f.Name); !bytes.Equal(got, vectorContent(f.Size)) {
				t.Errorf("%s: %s differs", one.Name, f.Name)
			}
		}
	}
	for _, r := range v.Refused {
		if r.Error != "tampered" || !r.Opens {
			continue // Open is the same for both versions: see TestVectors
		}
		at := r.At
		paste, err := hex.DecodeString(r.Paste)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Concat(first[:at], paste, first[at+r.Cut:])
		c, err := testOpener().Open(t.Context(), bytes.NewReader(bad), int64(len(bad)))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(t.Context()); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %v", r.Name, err)
		}
		if err := keyed(t, c, v.Containers[0].Key).Decrypt(t.Context(), io.Discard, v.Containers[0].Files[0].Name); !errors.Is(err, ErrTampered) {
			t.Errorf("%s: %v", r.Name, err)
		}
	}
	// Whoever has the key cannot change what is signed in version 1 either.
	b, err := hex.DecodeString(v.Containers[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	key, err := licensing.TakeKey(b)
	if err != nil {
		t.Fatal(err)
	}
	forged := forge(t, key, first)
	c, err := testOpener().Open(t.Context(), bytes.NewReader(forged), int64(len(forged)))
	if err != nil {
		t.Fatal(err)
	}
	if err := keyed(t, c, v.Containers[0].Key).Decrypt(t.Context(), io.Discard, v.Containers[0].Files[0].Name); !errors.Is(err, ErrTampered) {
		t.Errorf("forged with the key: %v", err)
	}
	// What is signed decides: neither version takes the other's digests for its own.
	payload := payloadOf(t, first)
	for from, to := range map[string]string{`"sha256"`: `"blake3"`, formatName1: formatName} {
		bad := resign(t, first, []byte(string(bytes.Replace([]byte(payload), []byte(from), []byte(to), 1))))
		if _, err := testOpener().Open(t.Context(), bytes.NewReader(bad), int64(len(bad))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s for %s: %v", to, from, err)
		}
	}
}

// keyed unlocks a container with a key in hex.
func keyed(t *testing.T, c *Container, text string) *Model {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := licensing.TakeKey(b)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Unlock(key)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Answers of the BLAKE3 team's test_vectors.json, whose input is byte i mod 251, too.
func TestBLAKE3(t *testing.T) {
	for size, want := range map[int]string{
		0:      "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
		1:      "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
		1024:   "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
		1025:   "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
		31744:  "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
		102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
	} {
		sum := hashOf(digestBLAKE3)(vectorContent(size))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%d bytes: %s, want %s", size, got, want)
		}
	}
	if hashOf(digestNone) != nil || hashOf(digestSHA256)(nil) != sha256.Sum256(nil) {
		t.Error("a digest is another's")
	}
}
