package modelfs

import (
	"container/list"
	"io/fs"
	"sync"

	"github.com/ovsactl/ovsactl/licensing/model"
)

// source is a file whose chunks are read.
type source interface {
	Chunk(n int64, buf []byte) ([]byte, error)
}

// key is a chunk of a file.
type key struct {
	file  source
	index int64
}

// chunk is one that is decrypted, or is being decrypted.
type chunk struct {
	key
	buf   []byte        // of ChunkBuffer bytes
	data  []byte        // in buf
	err   error         // instead of data
	ready chan struct{} // closed when data or err is there
	users int           // that read it, or fill it
	idle  *list.Element // where nobody does
}

// cache keeps the chunks that were used last, a limited number of them. Who asks for
// one that another asked for waits for that.
type cache struct {
	mu     sync.Mutex
	room   sync.Cond // for those who wait for a buffer
	limit  int
	count  *Counters
	chunks map[key]*chunk
	bufs   int      // that exist
	free   [][]byte // wiped
	closed bool
	idle   *list.List // of *chunk, the one that is needed least at the front
}

func newCache(limit int, count *Counters) *cache {
	c := &cache{limit: limit, count: count, chunks: map[key]*chunk{}, idle: list.New()}
	c.room.L = &c.mu
	return c
}

// get returns a chunk, which the caller releases, or the error of reading it.
func (c *cache) get(k key) (*chunk, error) {
	c.mu.Lock()
	ch, there := c.chunks[k]
	for !there {
		if c.closed {
			c.mu.Unlock()
			return nil, fs.ErrClosed
		}
		if buf := c.buffer(); buf != nil {
			ch = c.add(k, buf)
			break
		}
		c.room.Wait()
		ch, there = c.chunks[k]
	}
	if there {
		c.use(ch)
		c.count.Kept.Add(1)
	}
	c.mu.Unlock()
	if !there {
		c.fill(ch)
	}
	<-ch.ready
	if ch.err != nil {
		c.release(ch)
		return nil, ch.err
	}
	return ch, nil
}

// ahead reads a chunk for those who will ask for it soon, where there is room.
func (c *cache) ahead(k key) {
	c.mu.Lock()
	if _, there := c.chunks[k]; there || c.closed {
		c.mu.Unlock()
		return
	}
	buf := c.buffer()
	if buf == nil {
		c.mu.Unlock()
		return
	}
	ch := c.add(k, buf)
	c.mu.Unlock()
	c.fill(ch)
	c.release(ch)
}

// fill reads a chunk that was added.
func (c *cache) fill(ch *chunk) {
	ch.data, ch.err = ch.file.Chunk(ch.index, ch.buf[:0])
	if ch.err == nil {
		c.count.Decrypted.Add(uint64(len(ch.data)))
	}
	close(ch.ready)
}

// release lets a chunk go that get returned.
func (c *cache) release(ch *chunk) { c.letGo(ch, false) }

// letGo is release, of a chunk that is the next to make room where it was read to its
// end: the kernel has it then, and what was read ahead stays until somebody asks for it.
func (c *cache) letGo(ch *chunk, read bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.users--; ch.users > 0 {
		return
	}
	if ch.err != nil || c.closed || c.chunks[ch.key] != ch { // it was dropped meanwhile
		c.forget(ch)
		return
	}
	if read {
		ch.idle = c.idle.PushFront(ch)
	} else {
		ch.idle = c.idle.PushBack(ch)
	}
	c.room.Signal()
}

// drop forgets the chunks of a file. Those that somebody reads go when they have.
func (c *cache) drop(file source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, ch := range c.chunks {
		if k.file != file {
			continue
		}
		if ch.users > 0 {
			delete(c.chunks, k)
			continue
		}
		c.forget(ch)
	}
}

// close wipes all that is kept, when nobody reads any more, and makes get fail. A
// chunk that is being read ahead is wiped when it was.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, ch := range c.chunks {
		select {
		case <-ch.ready:
			clear(ch.buf) // whoever was to have it may be gone without letting it go
		default:
		}
	}
	c.room.Broadcast()
}

// The rest is called with mu held.

// buffer returns one that is free, if need be that of the chunk which is needed least: one
// that was read to its end, or which nobody has used for the longest time; nil where all
// are in use.
func (c *cache) buffer() []byte {
	switch {
	case len(c.free) > 0:
		buf := c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
		return buf
	case c.bufs < c.limit:
		c.bufs++
		return make([]byte, model.ChunkBuffer)
	case c.idle.Len() > 0:
		return c.take(c.idle.Front().Value.(*chunk))
	}
	return nil
}

// take takes the buffer of a chunk that nobody uses. What is in it is about to be
// written over.
func (c *cache) take(ch *chunk) []byte {
	if ch.idle != nil {
		c.idle.Remove(ch.idle)
		ch.idle = nil
	}
	if c.chunks[ch.key] == ch {
		delete(c.chunks, ch.key)
	}
	buf := ch.buf
	ch.buf, ch.data = nil, nil
	return buf
}

// add makes a chunk that one user fills.
func (c *cache) add(k key, buf []byte) *chunk {
	ch := &chunk{key: k, buf: buf, ready: make(chan struct{}), users: 1}
	c.chunks[k] = ch
	return ch
}

// use counts another user of a chunk.
func (c *cache) use(ch *chunk) {
	ch.users++
	if ch.idle != nil {
		c.idle.Remove(ch.idle)
		ch.idle = nil
	}
}

// forget wipes a chunk that nobody uses, and keeps its buffer.
func (c *cache) forget(ch *chunk) {
	buf := c.take(ch)
	clear(buf)
	c.free = append(c.free, buf)
	c.room.Signal()
}
