package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// rawDisk is a raw disk image of size bytes: a partition table, holes, and
// different data here and there.
func rawDisk(size int) []byte {
	disk := make([]byte, size)
	disk[510], disk[511] = 0x55, 0xaa
	for i := 4096; i+600 < size; i += 3 * 4096 {
		for j := range 600 {
			disk[i+j] = byte(i>>12 + j)
		}
	}
	return disk
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

func openCache(t *testing.T, dir string) *Cache {
	t.Helper()
	c, err := Open(dir, Options{Stall: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// server serves disk and counts requests and the bytes of their answers.
type server struct {
	*httptest.Server
	requests atomic.Int64
	bytes    atomic.Int64
}

// serve starts a server; each answers the nth request with the nth handler, the
// last one all that follow.
func serve(t *testing.T, each ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(s.requests.Add(1))
		each[min(n, len(each))-1](countingWriter{w, &s.bytes}, r)
	}))
	t.Cleanup(s.Close)
	return s
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// whole answers with disk, and with ranges of it.
func whole(disk []byte, etag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		http.ServeContent(w, r, "disk.img", time.Time{}, bytes.NewReader(disk))
	}
}

// cut promises all of disk and closes the connection after n bytes.
func cut(disk []byte, etag string, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Length", fmt.Sprint(len(disk)))
		w.Write(disk[:n])
		panic(http.ErrAbortHandler)
	}
}

// noRange answers with all of disk whatever was asked for.
func noRange(disk []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write(disk) }
}

func stalled(disk []byte, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(disk)))
		w.Write(disk[:n])
		w.(countingWriter).ResponseWriter.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestDownload(t *testing.T) {
	disk := rawDisk(1 << 20)
	other := bytes.Clone(disk)
	other[9000] ^= 1
	for name, tc := range map[string]struct {
		handlers []http.HandlerFunc
		requests int64
		maxBytes int
	}{
		"at once":                        {[]http.HandlerFunc{whole(disk, `"a"`)}, 1, len(disk)},
		"resumed after a cut":            {[]http.HandlerFunc{cut(disk, `"a"`, 700_000), whole(disk, `"a"`)}, 2, len(disk) + 8192},
		"cut twice":                      {[]http.HandlerFunc{cut(disk, `"a"`, 300_000), cut(disk, `"a"`, 700_000), whole(disk, `"a"`)}, 3, 2 * len(disk)},
		"changed meanwhile, by its ETag": {[]http.HandlerFunc{cut(other, `"b"`, 700_000), whole(disk, `"a"`)}, 2, 700_000 + len(disk)},
		"changed meanwhile, unnoticed":   {[]http.HandlerFunc{cut(other, "", 700_000), whole(disk, ""), whole(disk, "")}, 3, 3 * len(disk)},
		"server without ranges":          {[]http.HandlerFunc{cut(disk, "", 700_000), noRange(disk)}, 2, 2 * len(disk)},
		"server errors, then recovers":   {[]http.HandlerFunc{status(503), whole(disk, "")}, 2, len(disk)},
		"stalls, then goes on":           {[]http.HandlerFunc{stalled(disk, 500_000), whole(disk, "")}, 2, len(disk) + 8192},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tc.handlers...)
			c := openCache(t, t.TempDir())
			img, err := c.Ensure(t.Context(), Source{Name: "noble", URL: s.URL, SHA256: sum(disk)}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := os.ReadFile(img.Path); !bytes.Equal(got, disk) {
				t.Error("the cached disk is not the served one")
			}
			if img.Format != "raw" || img.Virtual != uint64(len(disk)) || img.FirstBoot != CloudInit || img.Digest != "sha256:"+sum(disk) {
				t.Errorf("image %+v", img)
			}
			if n := s.requests.Load(); n != tc.requests {
				t.Errorf("%d requests, want %d", n, tc.requests)
			}
			if n := s.bytes.Load(); n > int64(tc.maxBytes) {
				t.Errorf("%d bytes were sent, want at most %d", n, tc.maxBytes)
			}
			onlyTheImage(t, c)
			if _, err := c.Ensure(t.Context(), Source{Name: "noble", URL: s.URL, SHA256: sum(disk)}, nil); err != nil || s.requests.Load() != tc.requests {
				t.Errorf("second Ensure: %v, %d requests; want none", err, s.requests.Load()-tc.requests)
			}
		})
	}
}

// onlyTheImage checks that a finished run left nothing but one image.
func onlyTheImage(t *testing.T, c *Cache) {
	t.Helper()
	entries, err := c.List(t.Context())
	if err != nil || len(entries) != 1 || entries[0].Leftover || entries[0].Problem != "" {
		t.Errorf("cache holds %+v, %v; want one image", entries, err)
	}
	left, _ := filepath.Glob(filepath.Join(c.dir, "partial", "*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	filepath.WalkDir(c.imageDir(entries[0].Digest), func(path string, d os.DirEntry, _ error) error {
		if info, _ := d.Info(); !d.IsDir() && info.Mode().Perm() != 0o444 {
			t.Errorf("%s has mode %v, want read-only", path, info.Mode())
		}
		return nil
	})
}

func TestDownloadFailures(t *testing.T) {
	disk := rawDisk(64 << 10)
	page := []byte("<!DOCTYPE html><p>log in first")
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		sum     string
		want    string
		hint    string
	}{
		"checksum": {whole(page, ""), sum(disk), "expected " + sum(disk) + "\n    got      " + sum(page), "sha256"},
		"missing":  {status(404), sum(disk), "404 Not Found", "source"},
		"no image": {whole(page, ""), sum(page), "a web page", ""},
		"too large": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(int64(1)<<50))
		}, sum(disk), "more than the limit", ""},
		"endless redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, sum(disk), "redirects", ""},
		"always cut":       {cut(disk, "", 0), sum(disk), "EOF", "the next run goes on"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, tc.handler)
			c := openCache(t, t.TempDir())
			_, err := c.Ensure(t.Context(), Source{Name: "noble", URL: s.URL, SHA256: tc.sum}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), `image "noble": `) {
				t.Fatalf("error %v, want %q in it", err, tc.want)
			}
			if !strings.Contains(hint.Of(err), tc.hint) {
				t.Errorf("hint %q, want %q in it", hint.Of(err), tc.hint)
			}
			if entries, _ := c.List(t.Context()); len(entries) > 1 || len(entries) == 1 && !strings.Contains(entries[0].Origin, "download") {
				t.Errorf("left behind: %+v", entries)
			}
			if strings.HasPrefix(name, "checksum") {
				if left, _ := filepath.Glob(filepath.Join(c.dir, "partial", "*")); len(left) != 0 {
					t.Errorf("a file with the wrong checksum was kept: %v", left)
				}
			}
		})
	}
}

func TestDownloadEndsWithItsContext(t *testing.T) {
	disk := rawDisk(64 << 10)
	s := serve(t, stalled(disk, 8192))
	ctx, cancel := context.WithCancelCause(t.Context())
	interrupted := errors.New("interrupted")
	c := openCache(t, t.TempDir())
	_, err := c.Ensure(ctx, Source{Name: "noble", URL: s.URL, SHA256: sum(disk)}, func(_ string, done, _ int64) {
		if done > 0 {
			cancel(interrupted)
		}
	})
	if !errors.Is(err, interrupted) {
		t.Errorf("error %v, want the context's cause", err)
	}
}

func TestFileURLIsCopied(t *testing.T) {
	disk := rawDisk(256 << 10)
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	c := openCache(t, t.TempDir())
	img, err := c.Ensure(t.Context(), Source{Name: "x", URL: "file://" + path, SHA256: sum(disk)}, nil)
	if err != nil || img.Path == path {
		t.Fatalf("%+v, %v; want a copy", img, err)
	}
	if got, _ := os.ReadFile(img.Path); !bytes.Equal(got, disk) {
		t.Error("the copy differs")
	}
	if used, _ := diskUse(img.Path); used > int64(len(disk))*2/3 {
		t.Errorf("the copy takes %d bytes, its zeros are no holes", used)
	}
	_, err = openCache(t, t.TempDir()).Ensure(t.Context(), Source{Name: "x", URL: "file://" + path, SHA256: sum(nil)}, nil)
	var wrong *mismatch
	if !errors.As(err, &wrong) || wrong.want != sum(nil) || wrong.got != sum(disk) {
		t.Errorf("error %v, want both checksums", err)
	}
}

func TestSparseFileKeepsContent(t *testing.T) {
	disk := rawDisk(200_000)
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := &sparseFile{f: f}
	for rest, n := disk, 1; len(rest) > 0; n = n*7%20_011 + 1 {
		n := min(n, len(rest))
		if m, err := w.Write(rest[:n]); m != n || err != nil {
			t.Fatal(m, err)
		}
		rest = rest[n:]
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, disk) {
		t.Error("what was written differs from what is read")
	}
}
