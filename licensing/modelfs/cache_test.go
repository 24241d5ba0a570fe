package modelfs

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/need"
)

// counted is a file that says which chunks were read.
type counted struct {
	mu   sync.Mutex
	read map[int64]int
	fail error
}

func (c *counted) Chunk(n int64, buf []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return nil, c.fail
	}
	c.read[n]++
	return append(buf, bytes.Repeat([]byte{byte(n)}, 100)...), nil
}

func (c *cache) must(t *testing.T, k key) *chunk {
	t.Helper()
	ch, err := c.get(k)
	if err != nil || ch.data[0] != byte(k.index) {
		t.Fatalf("chunk %d: %v", k.index, err)
	}
	return ch
}

// What was read to its end makes room, and not what was read ahead before.
func TestReadAheadStays(t *testing.T) {
	c, f := newCache(2, new(Counters)), &counted{read: map[int64]int{}}
	c.ahead(key{f, 2})
	c.letGo(c.must(t, key{f, 1}), true)
	c.ahead(key{f, 3}) // in the place of 1
	c.release(c.must(t, key{f, 2}))
	if f.read[2] != 1 || f.read[3] != 1 {
		t.Errorf("read %v", f.read)
	}
}

func TestCache(t *testing.T) {
	c, f := newCache(2, new(Counters)), &counted{read: map[int64]int{}}
	a := c.must(t, key{f, 1})
	b := c.must(t, key{f, 1})
	if a != b || f.read[1] != 1 {
		t.Errorf("read %v", f.read)
	}
	c.release(a)
	c.release(b)
	c.release(c.must(t, key{f, 2}))
	c.release(c.must(t, key{f, 1})) // is kept, and used after 2
	c.release(c.must(t, key{f, 3})) // in the place of 2
	c.release(c.must(t, key{f, 1}))
	c.release(c.must(t, key{f, 2}))
	if f.read[1] != 1 || f.read[2] != 2 || f.read[3] != 1 || c.bufs != 2 {
		t.Errorf("read %v, buffers %d", f.read, c.bufs)
	}

	// A failure is whoever's that asks, and the next try is another.
	f.fail = errors.New("broken")
	if _, err := c.get(key{f, 9}); !errors.Is(err, f.fail) {
		t.Error(err)
	}
	f.fail = nil
	c.release(c.must(t, key{f, 9}))

	// What is dropped is wiped: at once or, where somebody reads it, when that is over.
	held := c.must(t, key{f, 5})
	idle := c.must(t, key{f, 6})
	data := idle.buf[:100]
	c.release(idle)
	c.drop(f)
	if !bytes.Equal(data, make([]byte, 100)) {
		t.Error("what nobody reads is not wiped")
	}
	data = held.buf[:100]
	if data[0] != 5 {
		t.Error("what somebody reads is wiped")
	}
	c.release(held)
	if !bytes.Equal(data, make([]byte, 100)) || len(c.chunks) != 0 {
		t.Error("it is not wiped when that is over")
	}
}

// Those who wait for room get it when there is some, and an error when there will be
// none.
func TestCacheWaits(t *testing.T) {
	c, f := newCache(1, new(Counters)), &counted{read: map[int64]int{}}
	held := c.must(t, key{f, 1})
	c.ahead(key{f, 2}) // does not wait
	got := make(chan error)
	ask := func(n int64) {
		ch, err := c.get(key{f, n})
		if err == nil {
			c.release(ch)
		}
		got <- err
	}
	waits := func() {
		t.Helper()
		select {
		case err := <-got:
			t.Fatalf("it does not wait: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	go ask(2)
	waits()
	c.release(held)
	if err := <-got; err != nil || f.read[2] != 1 {
		t.Errorf("%v, read %v", err, f.read)
	}
	held = c.must(t, key{f, 3})
	go ask(4)
	waits()
	c.close()
	if err := <-got; !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if held.data[0] != 0 {
		t.Error("what is kept is not wiped in the end")
	}
	if _, err := c.get(key{f, 5}); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	c.ahead(key{f, 6})
	if f.read[6] != 0 {
		t.Error("it reads on")
	}
	c.release(held)
}

func TestOpenWithoutADevice(t *testing.T) {
	dir := t.TempDir()
	if _, err := open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(hint.Of(err), "modprobe fuse") {
		t.Errorf("%v, %q", err, hint.Of(err))
	}
	need.Root(t)
	// Of a driver that there is not, and where there may be no devices.
	for flags, want := range map[uintptr]struct {
		err  error
		hint string
	}{0: {unix.ENODEV, "modprobe fuse"}, unix.MS_NODEV: {fs.ErrPermission, "run it as root"}} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", flags, ""); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "device")
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 254))); err != nil {
			t.Fatal(err)
		}
		_, err := open(path)
		if !errors.Is(err, want.err) || !strings.Contains(hint.Of(err), want.hint) {
			t.Errorf("%v, %q, want %v", err, hint.Of(err), want.err)
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
}
