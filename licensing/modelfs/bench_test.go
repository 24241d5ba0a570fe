package modelfs_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/licensing/model"
	"github.com/ovsactl/ovsactl/licensing/modelfs"
)

// benchSize is how long a model is that is read, in bytes: as many MiB as OVSA_BENCH_READ
// says.
func benchSize(b *testing.B) int64 {
	b.Helper()
	text := os.Getenv("OVSA_BENCH_READ")
	if text == "" {
		text = "256"
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		b.Fatalf("OVSA_BENCH_READ is %q: want a number of MiB", text)
	}
	return n << 20
}

// BenchmarkRead is reading a model from its beginning to its end, by a program that
// wants nothing else: in the file system, where nothing of it is in the kernel's cache
// and then where all is. It is beside what decrypting it costs on all cores, a file of a
// tmpfs, and a file system of FUSE that has nothing to decrypt. The container is on a
// tmpfs, too, so no disk has a part in it.
//
// cpu-s/GiB is the time of processors, of this process and of who reads.
func BenchmarkRead(b *testing.B) {
	size := benchSize(b)
	w := newWorld(b, 0)
	plain := tmpfs(b)
	m := w.sealLarge(plain, size)
	p := w.shell()
	b.Run("decrypt", func(b *testing.B) {
		measureRead(b, size, func() time.Duration {
			if err := m.Decrypt(b.Context(), io.Discard, "face.bin"); err != nil {
				b.Fatal(err)
			}
			return 0
		})
	})
	b.Run("tmpfs", func(b *testing.B) {
		measureRead(b, size, func() time.Duration { return p.reads(plain + "/face.bin") })
	})
	b.Run("cold", func(b *testing.B) {
		before := w.counters.Decrypted.Load()
		measureRead(b, size, func() time.Duration {
			b.StopTimer()
			w.fs.Remove("face", 1)
			if err := w.fs.Add("face", 1, m); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			return p.reads("face/1/face.bin")
		})
		b.ReportMetric(float64(w.counters.Decrypted.Load()-before)/float64(size)/float64(b.N), "times-decrypted")
	})
	b.Run("warm", func(b *testing.B) {
		p.reads("face/1/face.bin")
		measureRead(b, size, func() time.Duration { return p.reads("face/1/face.bin") })
	})
	w.fs.Remove("face", 1)
	b.Run("fuse", func(b *testing.B) {
		same := &sameBytes{size: size, data: content(1, model.ChunkSize)}
		root := &fs.Inode{}
		raw := fs.NewNodeFS(root, &fs.Options{UID: nobody, GID: nobody, OnAdd: func(ctx context.Context) {
			root.AddChild("face.bin", root.NewPersistentInode(ctx, same, fs.StableAttr{Mode: syscall.S_IFREG}), true)
		}})
		p := w.startWith(func(device *os.File) (*modelfs.Server, error) { return nil, serveRaw(raw, device) }, "sh")
		measureRead(b, size, func() time.Duration {
			b.StopTimer()
			same.NotifyContent(0, 0)
			b.StartTimer()
			return p.reads("face.bin")
		})
	})
}

// measureRead measures a read of so many bytes, which returns the processors' time of
// other processes than this.
func measureRead(b *testing.B, size int64, read func() time.Duration) {
	b.Helper()
	b.SetBytes(size)
	var others time.Duration
	before := processorTime(b)
	for b.Loop() {
		others += read()
	}
	all := others + processorTime(b) - before
	b.ReportMetric(all.Seconds()/float64(b.N)/(float64(size)/(1<<30)), "cpu-s/GiB")
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reads has a shell read a file, and returns the processors' time that took there.
func (p *process) reads(path string) time.Duration {
	p.t.Helper()
	said := p.run("dd if=" + path + " of=/dev/null bs=1M status=none && times")
	lines := strings.Split(said, "\n") // of the shell, and of its children
	var all time.Duration
	for i, line := range lines {
		if i == len(lines)-1 && line == "done 0" && i >= 2 {
			return all
		}
		for _, part := range strings.Fields(line) {
			d, err := time.ParseDuration(part)
			if err != nil {
				p.t.Fatal(said)
			}
			all += d
		}
	}
	p.t.Fatal(said)
	return 0
}

// sealLarge makes a container of a file of so many bytes in a directory, without having
// either in memory of its own, and shows it as face/1.
func (w *world) sealLarge(dir string, size int64) *model.Model {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	plain, err := os.Create(filepath.Join(dir, "face.bin"))
	must(err)
	defer plain.Close()
	block := content(7, 16<<20)
	for at := int64(0); at < size; at += int64(len(block)) {
		_, err := plain.WriteAt(block[:min(size-at, int64(len(block)))], at)
		must(err)
	}
	must(os.Chmod(plain.Name(), 0o644))
	dat, err := os.Create(filepath.Join(dir, "face.dat"))
	must(err)
	w.t.Cleanup(func() { dat.Close() })
	s := model.Sealer{Key: w.key, Info: model.Info{Name: "face", Version: "1", GUID: "0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a01"}, Sign: func(b []byte) ([]byte, error) { return b, nil }}
	_, err = s.Seal(w.t.Context(), dat, []model.Source{{Name: "face.bin", Reader: plain}})
	must(err)
	info, err := dat.Stat()
	must(err)
	o := model.Opener{Verify: func(b []byte) ([]byte, error) { return b, nil }}
	c, err := o.Open(w.t.Context(), dat, info.Size())
	must(err)
	m, err := c.Unlock(w.key)
	must(err)
	w.t.Cleanup(m.Close)
	must(w.fs.Add("face", 1, m))
	return m
}

// sameBytes is a file whose every part is the same bytes, which are there already.
type sameBytes struct {
	fs.Inode
	size int64
	data []byte
}

// Getattr implements fs.NodeGetattrer.
func (f *sameBytes) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = syscall.S_IFREG|0o400, uint64(f.size)
	return fs.OK
}

// Open implements fs.NodeOpener.
func (f *sameBytes) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, fs.OK
}

// Read implements fs.NodeReader.
func (f *sameBytes) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultData(f.data[:max(0, min(int64(len(dest)), int64(len(f.data)), f.size-off))]), fs.OK
}

// serveRaw answers the kernel as modelfs does, for another file system.
func serveRaw(raw fuse.RawFileSystem, device *os.File) error {
	fd, err := syscall.Dup(int(device.Fd()))
	if err != nil {
		return err
	}
	server, err := fuse.NewServer(raw, fmt.Sprintf("/dev/fd/%d", fd), &fuse.MountOptions{MaxWrite: 1 << 20, MaxBackground: 64, DisableXAttrs: true, DisableSplice: true, ExplicitDataCacheControl: true})
	if err != nil {
		return err
	}
	go server.Serve()
	return nil
}

func tmpfs(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		b.Fatal(err)
	}
	return dir
}
