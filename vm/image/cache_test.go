package image

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
)

// put makes a cached image of data by way of a file URL.
func put(t *testing.T, c *Cache, data []byte) Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	img, err := c.Ensure(t.Context(), Source{Name: "x", URL: "file://" + path, SHA256: sum(data)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestLookupWritesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	c := openCache(t, dir)
	for _, src := range []Source{
		{Build: &Build{Suite: "trixie", Size: 4 << 30}},
		{URL: "https://example.org/x.img", SHA256: sum(nil)},
		{File: "/etc/hostname"},
	} {
		if _, ok, err := c.Lookup(t.Context(), src); ok || err != nil {
			t.Errorf("%+v: found %v, %v; want neither", src, ok, err)
		}
	}
	if _, err := c.List(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}

func TestSourceIsChecked(t *testing.T) {
	c := openCache(t, t.TempDir())
	for name, src := range map[string]Source{
		"nothing":        {},
		"two":            {URL: "http://x/", SHA256: sum(nil), File: "/x"},
		"no checksum":    {URL: "http://x/"},
		"bad checksum":   {URL: "http://x/", SHA256: "../../etc"},
		"option suite":   {Build: &Build{Suite: "--help"}},
		"odd mirror":     {Build: &Build{Suite: "trixie", Mirror: "ssh://x/"}},
		"option package": {Build: &Build{Suite: "trixie", Packages: []string{"-x"}}},
		"option unit":    {Build: &Build{Suite: "trixie", Disabled: []string{"--root=/"}}},
		"two packages":   {Build: &Build{Suite: "trixie", Packages: []string{"a,b"}}},
	} {
		if _, _, err := c.Lookup(t.Context(), src); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestBuildDigest(t *testing.T) {
	base := Build{Suite: "trixie", Packages: []string{"nginx", "curl"}, Size: 4 << 30}
	same := Build{Suite: "trixie", Packages: []string{"curl", "nginx", "curl"}, Size: 4 << 30}
	if base.Digest() != same.Digest() {
		t.Error("the order of packages changes the digest")
	}
	for name, b := range map[string]Build{
		"suite":    {Suite: "bookworm", Packages: base.Packages, Size: base.Size},
		"mirror":   {Suite: "trixie", Mirror: "http://m/", Packages: base.Packages, Size: base.Size},
		"packages": {Suite: "trixie", Packages: []string{"curl"}, Size: base.Size},
		"size":     {Suite: "trixie", Packages: base.Packages, Size: 5 << 30},
		"disabled": {Suite: "trixie", Packages: base.Packages, Size: base.Size, Disabled: []string{"nginx.service"}},
	} {
		if b.Digest() == base.Digest() {
			t.Errorf("another %s gives the same digest", name)
		}
	}
}

func TestLocalFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	disk := rawDisk(64 << 10)
	if err := os.WriteFile(path, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	c := openCache(t, t.TempDir())
	src := Source{Name: "local", File: path}
	img, err := c.Ensure(t.Context(), src, nil)
	if err != nil || img.Path != path || img.Digest != "sha256:"+sum(disk) || img.FirstBoot != CloudInit {
		t.Fatalf("%+v, %v", img, err)
	}
	again, ok, err := c.Lookup(t.Context(), src)
	if !ok || err != nil || again != img {
		t.Errorf("looked up %+v, %v, %v", again, ok, err)
	}
	_, _, err = c.Lookup(t.Context(), Source{File: path, SHA256: sum(nil)})
	if wrong := (*mismatch)(nil); !errors.As(err, &wrong) {
		t.Errorf("error %v, want a mismatch", err)
	}

	disk[5000] ^= 1
	if err := os.WriteFile(path, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := c.Lookup(t.Context(), src); ok || err != nil {
		t.Errorf("the changed file is still known: %v, %v", ok, err)
	}
	if img, err := c.Ensure(t.Context(), src, nil); err != nil || img.Digest != "sha256:"+sum(disk) {
		t.Errorf("%+v, %v; want the new digest", img, err)
	}
	os.Remove(path)
	if _, _, err := c.Lookup(t.Context(), src); !errors.Is(err, fs.ErrNotExist) || hint.Of(err) == "" {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}

func TestRemoveAndPrune(t *testing.T) {
	c := openCache(t, t.TempDir())
	a, b := put(t, c, rawDisk(64<<10)), put(t, c, rawDisk(128<<10))
	// What killed processes leave: a build, a download, a removal.
	leftover := strings.Repeat("ab", 32)
	os.MkdirAll(filepath.Join(c.dir, "tmp-"+leftover+"-123", "root", "etc"), 0o700)
	os.MkdirAll(filepath.Join(c.dir, "partial"), 0o700)
	os.WriteFile(filepath.Join(c.dir, "partial", leftover+".part"), []byte("half"), 0o600)

	digests := func(entries []Entry) (images, leftovers []string) {
		for _, e := range entries {
			if e.Leftover {
				leftovers = append(leftovers, e.Digest)
			} else {
				images = append(images, e.Digest)
			}
		}
		return images, leftovers
	}
	dry, err := c.Prune(t.Context(), PruneOptions{Keep: []string{a.Digest}, DryRun: true})
	if images, leftovers := digests(dry); err != nil || !slices.Equal(images, []string{b.Digest}) || len(leftovers) != 2 {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if entries, _ := c.List(t.Context()); len(entries) != 4 {
		t.Fatalf("the dry run removed something: %+v", entries)
	}

	held, err := lock.Try(filepath.Join(c.dir, "locks", leftover+".lock"), "somebody at work")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Prune(t.Context(), PruneOptions{Keep: []string{a.Digest}}); err != nil {
		t.Fatal(err)
	}
	entries, _ := c.List(t.Context())
	if images, leftovers := digests(entries); !slices.Equal(images, []string{a.Digest}) || len(leftovers) != 2 {
		t.Errorf("left: %+v; want what is kept and what is worked on", entries)
	}
	held.Release()

	if found, err := c.Find(t.Context(), hexOf(a.Digest)[:8]); err != nil || found != a.Digest {
		t.Errorf("found %q, %v", found, err)
	}
	for range 2 { // the second time there is nothing to remove
		if err := c.Remove(t.Context(), a.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if entries, err := c.List(t.Context()); len(entries) != 0 || err != nil {
		t.Errorf("left: %+v, %v", entries, err)
	}
	if _, err := c.Find(t.Context(), hexOf(a.Digest)); err == nil || hint.Of(err) == "" {
		t.Errorf("found a removed image: %v", err)
	}
}

func TestDamagedImageIsReported(t *testing.T) {
	c := openCache(t, t.TempDir())
	img := put(t, c, rawDisk(64<<10))
	path := filepath.Join(filepath.Dir(img.Path), metaName)
	os.Remove(path)
	if err := os.WriteFile(path, []byte(`{"Version":1,"Disk":"../x"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	src := Source{Name: "x", URL: "http://x/", SHA256: hexOf(img.Digest)}
	if _, _, err := c.Lookup(t.Context(), src); err == nil || !strings.Contains(hint.Of(err), "image rm") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
	if entries, err := c.List(t.Context()); err != nil || len(entries) != 1 || entries[0].Problem == "" {
		t.Errorf("listed %+v, %v", entries, err)
	}
	if err := c.Remove(t.Context(), img.Digest); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := c.Lookup(t.Context(), src); ok || err != nil {
		t.Errorf("after removal: %v, %v", ok, err)
	}
}

func TestEnsureWaitsAndSaysForWhom(t *testing.T) {
	disk := rawDisk(64 << 10)
	s := serve(t, whole(disk, ""))
	c := openCache(t, t.TempDir())
	held, err := c.lock(t.Context(), "sha256:"+sum(disk))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	var holder string
	second, err := Open(c.dir, Options{Holder: "second", OnWait: func(b *lock.Busy) { holder = b.Holder }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = second.Ensure(ctx, Source{Name: "x", URL: s.URL, SHA256: sum(disk)}, nil)
	if !errors.Is(err, context.DeadlineExceeded) || holder != c.opts.Holder {
		t.Errorf("error %v, holder %q; want a timeout and %q", err, holder, c.opts.Holder)
	}
	if s.requests.Load() != 0 {
		t.Error("it did not wait")
	}
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Digest":"sha256:` + strings.Repeat("0", 64) + `","Disk":"disk.qcow2","Format":"qcow2"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m meta
		if decodeMeta(bytes.NewReader(data), &m) == nil && (m.Disk == "" || filepath.Base(m.Disk) != m.Disk) {
			t.Errorf("accepted disk %q", m.Disk)
		}
	})
}
