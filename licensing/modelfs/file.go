package modelfs

import (
	"context"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ovsactl/ovsactl/licensing/model"
)

// file is one of a model.
type file struct {
	fs.Inode
	fs     *FS
	source *model.Reader
	name   string
	of     version
	over   atomic.Bool // it was removed
	told   sync.Map    // the chunks that were told of: int64
}

var (
	_ fs.NodeGetattrer = (*file)(nil)
	_ fs.NodeOpener    = (*file)(nil)
	_ fs.NodeReader    = (*file)(nil)
)

// Getattr implements fs.NodeGetattrer.
func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = syscall.S_IFREG | 0o400
	out.Size = uint64(f.source.Size())
	out.Blocks = uint64((f.source.Size() + 511) / 512)
	return fs.OK
}

// Open implements fs.NodeOpener. What the kernel has of the file stays true.
func (f *file) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, syscall.EROFS
	}
	if f.over.Load() {
		return nil, 0, syscall.ENOENT
	}
	return &handle{}, fuse.FOPEN_KEEP_CACHE, fs.OK
}

// close makes all that is read of it fail.
func (f *file) close() {
	f.over.Store(true)
	f.source.Close()
}

// handle is a file that somebody has open.
type handle struct {
	mu   sync.Mutex
	next int64 // the chunk that comes next for who reads from the beginning to the end
	upTo int64 // the first chunk that was not read ahead
}

// Read implements fs.NodeReader.
func (f *file) Read(_ context.Context, h fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if off >= f.source.Size() {
		return fuse.ReadResultData(nil), fs.OK
	}
	end := min(off+int64(len(dest)), f.source.Size())
	first, last := off/model.ChunkSize, (end-1)/model.ChunkSize
	if h, ok := h.(*handle); ok {
		f.readAhead(h, first, last)
	}
	if first == last {
		ch, err := f.fs.cache.get(key{f.source, first})
		if err != nil {
			return nil, f.failed(first, err)
		}
		at := off - first*model.ChunkSize
		f.fs.opts.Counters.Read.Add(uint64(end - off))
		return &lent{f.fs.cache, ch, ch.data[at : at+end-off], at+end-off == int64(len(ch.data))}, fs.OK
	}
	n := 0
	for i := first; i <= last; i++ {
		ch, err := f.fs.cache.get(key{f.source, i})
		if err != nil {
			return nil, f.failed(i, err)
		}
		n += copy(dest[n:end-off], ch.data[max(0, off-i*model.ChunkSize):])
		f.fs.cache.release(ch)
	}
	f.fs.opts.Counters.Read.Add(uint64(n))
	return fuse.ReadResultData(dest[:n]), fs.OK
}

// failed tells of a chunk that cannot be read, once: the kernel tries one again without
// end for who maps a file with MAP_POPULATE. Of a file that was removed none can.
func (f *file) failed(index int64, err error) syscall.Errno {
	if !f.over.Load() {
		f.fs.opts.Counters.Wrong.Add(1)
		if _, told := f.told.LoadOrStore(index, true); told {
			return syscall.EIO
		}
		f.fs.opts.Log.Error("a model cannot be read", "model", f.of.name, "version", f.of.number, "file", f.name, "chunk", index, "error", err.Error())
	}
	return syscall.EIO
}

// readAhead has the chunks after last decrypted, on all cores, for who reads one after
// another.
func (f *file) readAhead(h *handle, first, last int64) {
	h.mu.Lock()
	goesOn := first == h.next || first+1 == h.next
	h.next = last + 1
	if !goesOn {
		h.upTo = 0
		h.mu.Unlock()
		return
	}
	from, to := max(last+1, h.upTo), min(last+1+f.fs.ahead(), (f.source.Size()+model.ChunkSize-1)/model.ChunkSize)
	h.upTo = max(h.upTo, to)
	h.mu.Unlock()
	for i := from; i < to; i++ {
		go func() {
			// Where it begins late, its reader may be further already, and the chunk gone.
			if h.wants(i) {
				f.fs.cache.ahead(key{f.source, i})
			}
		}()
	}
}

// wants says whether a chunk was not asked for yet.
func (h *handle) wants(index int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return index >= h.next
}

// ahead is how many chunks are read ahead: enough for each core, and not all that are
// kept.
func (f *FS) ahead() int64 { return int64(f.cache.limit / 2) }

// lent is a part of a chunk, which is let go when the kernel has it.
type lent struct {
	cache *cache
	chunk *chunk
	data  []byte
	last  bool // to the chunk's end
}

// Slices has go-fuse write the chunk to the kernel as it is, and call Done then: of
// other results it may call it before, when another chunk may be in this one's place.
func (l *lent) Slices() ([][]byte, fuse.Status) { return [][]byte{l.data}, fuse.OK }

// Bytes implements fuse.ReadResult.
func (l *lent) Bytes(buf []byte) ([]byte, fuse.Status) { return append(buf[:0], l.data...), fuse.OK }

// Size implements fuse.ReadResult.
func (l *lent) Size() int { return len(l.data) }

// Done implements fuse.ReadResult.
func (l *lent) Done() { l.cache.letGo(l.chunk, l.last) }
