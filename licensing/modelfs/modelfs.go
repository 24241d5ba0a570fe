package modelfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ovsactl/ovsactl/licensing/model"
)

// Options are how models are shown.
type Options struct {
	UID, GID uint32       // whose the files are, and who alone may read them
	Cache    int64        // bytes of chunks that are kept, at least one for each core and two more; 0: four times that
	Log      *slog.Logger // of what could not be read; nil: none
	Counters *Counters    // nil: nobody counts
}

// FS is a file system of models. It is safe for concurrent use.
type FS struct {
	opts  Options
	cache *cache
	root  *directory
	raw   fuse.RawFileSystem

	mu     sync.Mutex // of what is below
	served bool
	models map[version]*shown
}

// version is one of a model.
type version struct {
	name   string
	number int64
}

// shown is what is shown of one.
type shown struct {
	dir   *directory
	files []*file
}

// ErrExists says that a version is shown already.
var ErrExists = errors.New("it is shown already")

// forever is how long the kernel may believe what it was told: it is told of changes.
const forever = 24 * time.Hour

// New makes a file system without models, which is not mounted.
func New(o Options) *FS {
	least := runtime.GOMAXPROCS(0) + 2
	limit := int(o.Cache / model.ChunkBuffer)
	if o.Cache == 0 {
		limit = 4 * least
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Counters == nil {
		o.Counters = new(Counters)
	}
	f := &FS{opts: o, cache: newCache(max(least, limit), o.Counters), root: &directory{}, models: map[version]*shown{}}
	long := forever
	f.raw = fs.NewNodeFS(f.root, &fs.Options{EntryTimeout: &long, AttrTimeout: &long, UID: o.UID, GID: o.GID})
	return f
}

// Server answers the kernel for a mount.
type Server struct{ ended chan struct{} }

// Serve begins to answer the kernel over device, /dev/fuse as Open returned it, which
// somebody has mounted: see Attach. The file system has one mount.
func (f *FS) Serve(device *os.File) (*Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.served {
		return nil, fmt.Errorf("serve models: %w", ErrExists)
	}
	// The descriptor is the server's alone, which closes it.
	fd, err := syscall.Dup(int(device.Fd()))
	if err != nil {
		return nil, fmt.Errorf("serve models: %w", err)
	}
	server, err := fuse.NewServer(f.raw, "/dev/fd/"+strconv.Itoa(fd), &fuse.MountOptions{
		Name: fsName, MaxWrite: maxRead, MaxBackground: 64, DisableXAttrs: true, DisableSplice: true, ExplicitDataCacheControl: true,
		Logger: slog.NewLogLogger(f.opts.Log.Handler(), slog.LevelWarn),
	})
	if err != nil {
		return nil, fmt.Errorf("serve models: %w", err)
	}
	s := &Server{make(chan struct{})}
	go func() {
		server.Serve() // until nobody has the mount
		f.close()
		close(s.ended)
	}()
	f.served = true
	return s, nil
}

// Wait returns when the mount is gone, as it is when the last process is that had it,
// and what was kept of models is wiped.
func (s *Server) Wait() { <-s.ended }

// close forgets what it knows of models, when nobody can read them any more.
func (f *FS) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.models {
		for _, file := range s.files {
			file.close()
		}
	}
	f.cache.close()
}

// Add shows a version of a model. Remove it before the model is closed.
func (f *FS) Add(name string, number int64, m *model.Model) error {
	v := version{name, number}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.models[v]; there {
		return fmt.Errorf("show %s/%d: %w", name, number, ErrExists)
	}
	s := &shown{dir: &directory{}}
	for _, info := range m.Files() {
		reader, err := m.Reader(info.Name)
		if err != nil {
			return fmt.Errorf("show %s/%d: %w", name, number, err)
		}
		s.files = append(s.files, &file{fs: f, source: reader, name: info.Name, of: v})
	}
	ctx := context.Background()
	all := f.root.GetChild(name)
	if all == nil {
		all = f.root.NewPersistentInode(ctx, &directory{}, fs.StableAttr{Mode: syscall.S_IFDIR})
		f.root.AddChild(name, all, true)
	}
	dir := all.NewPersistentInode(ctx, s.dir, fs.StableAttr{Mode: syscall.S_IFDIR})
	for _, file := range s.files {
		dir.AddChild(file.name, dir.NewPersistentInode(ctx, file, fs.StableAttr{Mode: syscall.S_IFREG}), true)
	}
	all.AddChild(strconv.FormatInt(number, 10), dir, true)
	f.models[v] = s
	// A negative answer is never cached, so nobody has to be told.
	return nil
}

// Remove takes a version away, if it is shown: the kernel drops its pages, and what is
// kept of it is wiped. Files that are open cannot be read any more.
func (f *FS) Remove(name string, number int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := version{name, number}
	s := f.models[v]
	if s == nil {
		return
	}
	delete(f.models, v)
	for _, file := range s.files {
		file.close()
		f.cache.drop(file.source)
		if f.served {
			file.NotifyContent(0, 0) // from its beginning to its end
		}
		f.remove(&s.dir.Inode, file.name)
	}
	all := f.root.GetChild(name)
	f.remove(all, strconv.FormatInt(number, 10))
	if len(all.Children()) == 0 {
		f.remove(&f.root.Inode, name)
	}
}

// remove takes a name out of a directory, and has the kernel forget it.
func (f *FS) remove(from *fs.Inode, name string) {
	from.RmChild(name)
	if f.served {
		from.NotifyEntry(name)
	}
}

// directory has what was added to it.
type directory struct{ fs.Inode }

var _ fs.NodeGetattrer = (*directory)(nil)

// Getattr implements fs.NodeGetattrer.
func (d *directory) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = syscall.S_IFDIR | 0o500
	return fs.OK
}
