package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
)

// region is a part of a container.
type region struct {
	name     string
	from, to int
}

func regions(t testing.TB, dat []byte) []region {
	t.Helper()
	l, err := readLayout(bytes.NewReader(dat), int64(len(dat)))
	if err != nil {
		t.Fatal(err)
	}
	return []region{
		{"header", 0, headerSize},
		{"ciphertext", headerSize, int(l.tableAt())},
		{"table", int(l.tableAt()), int(l.signedAt())},
		{"manifest", int(l.signedAt()), int(l.signedAt() + l.signed)},
		{"trailer", int(l.signedAt() + l.signed), len(dat)},
	}
}

// attempt opens a container and decrypts all that can be, and returns what came
// out for each file and the first error.
func attempt(t testing.TB, dat []byte) (out map[string][]byte, first error) {
	t.Helper()
	c, err := testOpener().Open(t.Context(), bytes.NewReader(dat), int64(len(dat)))
	if err != nil {
		return nil, err
	}
	m, err := c.Unlock(testKey())
	if err != nil {
		return nil, err
	}
	defer m.Close()
	out = map[string][]byte{}
	for _, f := range m.Files() {
		var b bytes.Buffer
		err := m.Decrypt(t.Context(), &b, f.Name)
		if first == nil {
			first = err
		}
		out[f.Name] = b.Bytes()
		if r, rerr := m.Reader(f.Name); rerr != nil {
			t.Fatal(rerr)
		} else if all, rerr := io.ReadAll(io.NewSectionReader(r, 0, r.Size())); (rerr == nil) != (err == nil) || len(all) != b.Len() {
			t.Errorf("%q: Decrypt: %d bytes, %v; Reader: %d bytes, %v", f.Name, b.Len(), err, len(all), rerr)
		}
	}
	if err := m.Check(t.Context()); (err == nil) != (first == nil) {
		t.Errorf("Decrypt: %v, but Check: %v", first, err)
	}
	if m.HasDigests() {
		if err := c.Check(t.Context()); (err == nil) != (first == nil) {
			t.Errorf("Decrypt: %v, but Check without the key: %v", first, err)
		}
	}
	return out, first
}

func refused(err error) bool {
	return errors.Is(err, ErrFormat) || errors.Is(err, ErrTruncated) || errors.Is(err, ErrSignature) ||
		errors.Is(err, ErrTampered) || errors.Is(err, ErrKey)
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	for _, tagsOnly := range []bool{false, true} {
		s := testSealer()
		s.TagsOnly = tagsOnly
		good := seal(t, s, file{"a", content(40)}, file{"empty", nil}, file{"b", content(30)})
		for _, r := range regions(t, good) {
			for bit := 8 * r.from; bit < 8*r.to; bit++ {
				bad := slices.Clone(good)
				bad[bit/8] ^= 1 << (bit % 8)
				out, err := attempt(t, bad)
				if !refused(err) {
					t.Fatalf("%s, bit %d: %v", r.name, bit, err)
				}
				if r.name != "ciphertext" && out != nil {
					t.Fatalf("%s, bit %d: opened: %v", r.name, bit, err)
				}
				if hit := bit/8 - headerSize; r.name == "ciphertext" && (hit < 40 && len(out["a"]) > 0 || hit >= 40 && len(out["b"]) > 0) {
					t.Fatalf("%s, bit %d: plaintext of the changed file", r.name, bit)
				}
			}
		}
	}
}

// A long file whose later chunk was changed gives its beginning and not a byte
// of the chunk, or nothing at all to who calls Check first.
func TestNothingOfAChangedChunkComesOut(t *testing.T) {
	data := content(4*ChunkSize + 10)
	good := seal(t, testSealer(), file{"f", data})
	for chunk := range 5 {
		bad := slices.Clone(good)
		bad[headerSize+chunk*ChunkSize+5] ^= 1
		out, err := attempt(t, bad)
		if !errors.Is(err, ErrTampered) || !bytes.Equal(out["f"], data[:chunk*ChunkSize]) {
			t.Errorf("chunk %d: %d bytes, %v", chunk, len(out["f"]), err)
		}
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	small := seal(t, testSealer(), file{"a", content(40)}, file{"b", nil})
	for n := range len(small) {
		out, err := attempt(t, small[:n])
		if out != nil || n > 0 && !errors.Is(err, ErrTruncated) || n == 0 && !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	large := seal(t, testSealer(), file{"a", content(2*ChunkSize + 1)}, file{"b", content(ChunkSize)})
	bounds := []int{headerSize + ChunkSize, headerSize + 2*ChunkSize, headerSize + 2*ChunkSize + 1}
	for _, r := range regions(t, large) {
		bounds = append(bounds, r.from, r.to-1)
	}
	for _, at := range bounds {
		for n := max(1, at-1); n <= at+1 && n < len(large); n++ {
			if out, err := attempt(t, large[:n]); out != nil || !errors.Is(err, ErrTruncated) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
	}
}

// A piece that is missing in the middle, with the trailer in its place.
func TestMissingMiddleIsRefused(t *testing.T) {
	good := seal(t, testSealer(), file{"a", content(2 * ChunkSize)}, file{"b", content(10)})
	for _, r := range regions(t, good) {
		for _, n := range []int{1, min(16, r.to-r.from), (r.to - r.from) / 2, r.to - r.from} {
			bad := slices.Delete(slices.Clone(good), r.from, r.from+n)
			if out, err := attempt(t, bad); out != nil || !refused(err) {
				t.Errorf("%d bytes of the %s: %v", n, r.name, err)
			}
		}
	}
	// The same with lengths that fit: one chunk, or one file, less.
	l, err := readLayout(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []struct{ data, table int64 }{{ChunkSize, maxEntry}, {10, maxEntry}, {10, 0}, {0, maxEntry}, {l.data, l.table}} {
		bad := slices.Concat(good[:l.tableAt()-cut.data], good[l.tableAt():l.signedAt()-cut.table], good[l.signedAt():l.signedAt()+l.signed],
			layout{l.data - cut.data, l.table - cut.table, l.signed}.encode())
		if out, err := attempt(t, bad); out != nil || !errors.Is(err, ErrTampered) {
			t.Errorf("%+v: %v", cut, err)
		}
	}
}

func TestWhatFollowsIsRefused(t *testing.T) {
	good := seal(t, testSealer(), file{"a", content(100)})
	for name, tail := range map[string][]byte{
		"a byte": {0}, "zeros": make([]byte, 4096), "another trailer": good[len(good)-trailerSize:], "another container": good,
	} {
		if out, err := attempt(t, slices.Concat(good, tail)); out != nil || !refused(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Two containers by one vendor, under one key, with files of the same sizes:
// no mixture of their parts opens.
func TestEverySpliceIsRefused(t *testing.T) {
	a := seal(t, testSealer(), file{"f", content(ChunkSize + 50)}, file{"g", content(60)})
	b := seal(t, testSealer(), file{"f", content(ChunkSize + 50)}, file{"g", content(60)})
	parts := regions(t, a)[:4]
	for mix := 1; mix < 1<<len(parts)-1; mix++ {
		bad, from := slices.Clone(a), ""
		for i, r := range parts {
			if mix>>i&1 == 1 {
				copy(bad[r.from:r.to], b[r.from:r.to])
				from += " " + r.name
			}
		}
		out, err := attempt(t, bad)
		if !refused(err) || len(out["f"]) > 0 || len(out["g"]) > 0 {
			t.Errorf("with the other's%s: %d and %d bytes, %v", from, len(out["f"]), len(out["g"]), err)
		}
	}
}

// swap exchanges two ranges of the same length.
func swap(b []byte, x, y, n int) {
	for i := range n {
		b[x+i], b[y+i] = b[y+i], b[x+i]
	}
}

func TestEveryReorderIsRefused(t *testing.T) {
	good := seal(t, testSealer(), file{"f", content(3 * ChunkSize)}, file{"g", content(3 * ChunkSize)})
	table := regions(t, good)[2].from
	chunk := func(i int) int { return headerSize + i*ChunkSize }
	for _, tc := range []struct {
		name        string
		x, y, n     int // chunks
		data, table bool
	}{
		{"chunks of one file", 0, 1, 1, true, false},
		{"chunks and their entries", 0, 1, 1, true, true},
		{"entries", 0, 1, 1, false, true},
		{"the last chunk and its entry", 1, 2, 1, true, true},
		{"chunks of two files", 0, 3, 1, true, false},
		{"chunks of two files and their entries", 0, 3, 1, true, true},
		{"two files", 0, 3, 3, true, false},
		{"two files and their entries", 0, 3, 3, true, true},
	} {
		bad := slices.Clone(good)
		if tc.data {
			swap(bad, chunk(tc.x), chunk(tc.y), tc.n*ChunkSize)
		}
		if tc.table {
			swap(bad, table+tc.x*maxEntry, table+tc.y*maxEntry, tc.n*maxEntry)
		}
		out, err := attempt(t, bad)
		if !errors.Is(err, ErrTampered) || tc.table && out != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if want := tc.x * ChunkSize; len(out["f"]) > want {
			t.Errorf("%s: %d bytes came out", tc.name, len(out["f"]))
		}
	}
}

func TestOtherKeysAndVendorsAreRefused(t *testing.T) {
	good := seal(t, testSealer(), file{"f", content(10)})
	c, err := testOpener().Open(t.Context(), bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Unlock(licensing.NewKey()); !errors.Is(err, ErrKey) {
		t.Errorf("another key: %v", err)
	}
	wiped := licensing.NewKey()
	wiped.Wipe()
	for name, key := range map[string]licensing.Key{"no key": {}, "a wiped key": wiped} {
		if _, err := c.Unlock(key); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
		s := testSealer()
		s.Key = key
		if _, err := s.Seal(t.Context(), failWriter{}, sources([]file{{"f", nil}})); !errors.Is(err, ErrKey) {
			t.Errorf("sealed with %s: %v", name, err)
		}
	}
	if _, err := (Opener{Verify: newVendor(2).verify}).Open(t.Context(), bytes.NewReader(good), int64(len(good))); !errors.Is(err, ErrSignature) {
		t.Errorf("another vendor: %v", err)
	}
	if _, err := (Opener{}).Open(t.Context(), bytes.NewReader(good), int64(len(good))); err == nil {
		t.Error("opened without verifying")
	}
}

// changing is a container that changes after it was opened.
type changing struct{ b []byte }

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(c.b).ReadAt(p, off)
}

func TestChangesAfterOpenAreRefused(t *testing.T) {
	var files []file
	for i := range 2100 { // three pieces of the table
		files = append(files, file{fmt.Sprint(i), content(3)})
	}
	good := seal(t, testSealer(), files...)
	table := regions(t, good)[2].from
	for name, change := range map[string]func([]byte) []byte{
		"table":      func(b []byte) []byte { b[table+2000*maxEntry] ^= 1; return b },
		"ciphertext": func(b []byte) []byte { b[headerSize+3*2000] ^= 1; return b },
		"truncated":  func(b []byte) []byte { return b[:headerSize+3*2000+1] },
	} {
		r := &changing{slices.Clone(good)}
		c, err := testOpener().Open(t.Context(), r, int64(len(good)))
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Unlock(testKey())
		if err != nil {
			t.Fatal(err)
		}
		r.b = change(r.b)
		var out bytes.Buffer
		if err := m.Decrypt(t.Context(), &out, "2000"); !errors.Is(err, ErrTampered) && !errors.Is(err, ErrTruncated) || out.Len() > 0 {
			t.Errorf("%s: %d bytes, %v", name, out.Len(), err)
		}
		if name != "truncated" {
			if err := m.Decrypt(t.Context(), &out, "10"); err != nil {
				t.Errorf("%s: a file that was not changed: %v", name, err)
			}
		}
	}
}
