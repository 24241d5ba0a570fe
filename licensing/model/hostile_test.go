package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// watched remembers the largest read and how many bytes were read.
type watched struct {
	r              io.ReaderAt
	largest, total int
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	w.largest, w.total = max(w.largest, len(p)), w.total+len(p)
	return w.r.ReadAt(p, off)
}

// Lengths that lie are refused before anything is allocated or read for them.
func TestLyingLengthsAreRefused(t *testing.T) {
	good := seal(t, testSealer(), file{"a", content(100)})
	l, err := readLayout(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	for _, lie := range []layout{
		{l.data, l.table, MaxSigned},
		{l.data, l.table, MaxSigned + 1},
		{l.data, l.table, math.MaxInt64},
		{l.data, l.table, -1},
		{l.data, l.table, l.signed + 1},
		{l.data, l.table, 0},
		{l.data, maxTable, l.signed},
		{l.data, math.MinInt64, l.signed},
		{MaxData, l.table, l.signed},
		{math.MaxInt64 - l.table - l.signed, l.table, l.signed},
		{l.data, math.MinInt64 + l.table, math.MinInt64 + l.signed}, // which add up to the size
		{l.data + 48, l.table - 48, l.signed},
		{l.data - 1, l.table, l.signed + 1},
		{0, l.data + l.table, l.signed},
		{0, 0, l.data + l.table + l.signed},
	} {
		bad := append(slices.Clone(good[:len(good)-trailerSize]), lie.encode()...)
		r := &watched{r: bytes.NewReader(bad)}
		if _, err := testOpener().Open(t.Context(), r, int64(len(bad))); !refused(err) {
			t.Errorf("%+v: %v", lie, err)
		}
		if r.total > len(bad)+headerSize {
			t.Errorf("%+v: read %d bytes of %d, %d at once", lie, r.total, len(bad), r.largest)
		}
	}
	for _, size := range []int64{math.MinInt64, -1, 0, 1, math.MaxInt64, MaxData * 2, int64(len(good)) + 1} {
		if _, err := testOpener().Open(t.Context(), bytes.NewReader(good), size); !refused(err) {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

// resign replaces a container's manifest with one of the vendor's own.
func resign(t *testing.T, dat []byte, payload []byte) []byte {
	t.Helper()
	l, err := readLayout(bytes.NewReader(dat), int64(len(dat)))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := newVendor(1).sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	bad := append(slices.Clone(dat[:l.signedAt()]), signed...)
	l.signed = int64(len(signed))
	return append(bad, l.encode()...)
}

func payloadOf(t testing.TB, dat []byte) string {
	r := regions(t, dat)[3]
	return string(dat[r.from+64 : r.to])
}

// What a vendor signs is not believed either: there is one encoding, and every
// number in it must fit the container.
func TestManifestsThatAreNotCanonicalAreRefused(t *testing.T) {
	good := seal(t, testSealer(), file{"a", content(100)}, file{"b", content(2 * ChunkSize)})
	m := payloadOf(t, good)
	if _, err := attempt(t, resign(t, good, []byte(m))); err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{
		{`{"chunk_size"`, ` {"chunk_size"`},
		{`"0002"}`, `"0002"} `},
		{`"0002"}`, `"0002"}{}`},
		{`"0002"}`, `"0002","x":1}`},
		{`"0002"}`, `"0002","version":"0002"}`},
		{`"version"`, `"Version"`},
		{`"Finds faces"`, `"Finds\u0020faces"`},
		{`"Finds faces"`, `"Finds\u001bfaces"`},
		{`"Finds faces"`, "\"Finds \xff\""},
		{`"Finds faces"`, `null`},
		{`"Finds faces"`, `"` + strings.Repeat("x", 4097) + `"`},
		{`"size":100`, `"size":1e2`},
		{`"size":100`, `"size":100.0`},
		{`"size":100`, `"size":-1`},
		{`"size":100`, `"size":9223372036854775807`},
		{`"size":100`, `"size":17592186044416`},
		{`"chunks":1,"name":"a","size":100`, `"chunks":16777217,"name":"a","size":17592186044417`},
		{`"chunks":1,"name":"a","size":100`, `"chunks":16777216,"name":"a","size":17592186044416`},
		{`"chunks":1,"name":"a","size":100`, `"chunks":1,"name":"a","size":9223372036854775807`},
		{`"chunks":1,"name":"a","size":100},{"chunks":2`, `"chunks":2,"name":"a","size":100},{"chunks":1`},
		{`"size":2097152`, `"size":2097153`},
		{`"size":2097152`, `"size":1048576`},
		{`"chunks":2`, `"chunks":1`},
		{`"chunks":1`, `"chunks":0`},
		{`"chunks":2`, `"chunks":9223372036854775807`},
		{`"chunk_size":1048576`, `"chunk_size":65536`},
		{`"name":"a"`, `"name":"b"`},
		{`"name":"a"`, `"name":"../a"`},
		{`"name":"a"`, `"name":""`},
		{`"digests":"blake3"`, `"digests":"md5"`},
		{`"digests":"blake3"`, `"digests":"sha256"`}, // version 1's
		{`ovsa-model/v2`, `ovsa-model/v1`},           // which has no BLAKE3
		{`ovsa-model/v2`, `ovsa-model/v3`},
		{`"model_guid":"0b9a4d1e`, `"model_guid":"0B9A4D1E`},
		{`"header_sha256":"`, `"header_sha256":"0`},
		{`"table_sha256":"`, `"table_sha256":"0`},
	} {
		if strings.Count(m, change[0]) == 0 {
			t.Fatalf("%q is not in %s", change[0], m)
		}
		bad := strings.Replace(m, change[0], change[1], 1)
		if out, err := attempt(t, resign(t, good, []byte(bad))); out != nil || !errors.Is(err, ErrFormat) {
			t.Errorf("%q for %q: %v", change[1], change[0], err)
		}
	}
	// Well formed, and not of this container.
	for _, change := range [][2]string{
		{`"size":100`, `"size":99`},
		{`"size":100`, `"size":101`},
		{`"digests":"blake3"`, `"digests":"none"`},
		{`,{"chunks":2,"name":"b","size":2097152}`, ``},
		{`"size":2097152}`, `"size":2097152},{"chunks":1,"name":"c","size":0}`},
	} {
		bad := strings.Replace(m, change[0], change[1], 1)
		if out, err := attempt(t, resign(t, good, []byte(bad))); out != nil || bad == m || !errors.Is(err, ErrTampered) {
			t.Errorf("%q for %q: %v", change[1], change[0], err)
		}
	}
	for _, bad := range []string{"", "null", "[]", "{}", m + m, strings.Repeat("[", 1<<20), fmt.Sprintf("%*s", maxManifest+1, m)} {
		if out, err := attempt(t, resign(t, good, []byte(bad))); out != nil || !errors.Is(err, ErrFormat) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

// Files exchanged in the manifest: everything else still fits.
func TestFilesExchangedInTheManifestAreAnotherModel(t *testing.T) {
	dat := seal(t, testSealer(), file{"a", content(100)}, file{"b", content(100)})
	m := payloadOf(t, dat)
	other := strings.NewReplacer(`"a"`, `"b"`, `"b"`, `"a"`).Replace(m)
	open := func(dat []byte) *Container {
		c, err := testOpener().Open(t.Context(), bytes.NewReader(dat), int64(len(dat)))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if open(dat).Digest() == open(resign(t, dat, []byte(other))).Digest() {
		t.Error("licences cannot tell the two apart")
	}
	forged := bytes.Replace(dat, []byte(m), []byte(other), 1)
	if out, err := attempt(t, forged); out != nil || !errors.Is(err, ErrSignature) {
		t.Errorf("not signed: %v", err)
	}
}
