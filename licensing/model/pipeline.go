package model

import (
	"context"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
)

// slot is one chunk on its way through a pipeline.
type slot struct {
	buf   []byte // with room for a tag
	n     int    // bytes of the chunk in buf
	file  *fileCipher
	at    place
	entry [maxEntry]byte
}

// grow makes room for a chunk of n bytes.
func (s *slot) grow(n int) {
	if cap(s.buf) < n+tagSize {
		clear(s.buf[:cap(s.buf)])
		s.buf = make([]byte, n+tagSize)
	}
	s.buf, s.n = s.buf[:cap(s.buf)], n
}

// pipeline takes chunks through fill and emit, which are called in order and one at a
// time, and work between them, which many do. A chunk stays with one worker, and so in
// one core's cache.
type pipeline struct {
	workers int
	fill    func(*slot) (more bool, err error)
	work    func(*slot) error
	emit    func(*slot) error
}

// run returns when all is done or something failed, and then all goroutines have ended
// and all buffers are wiped. What comes before a chunk that failed was emitted. It
// cannot interrupt a Read or a Write that blocks.
func (p pipeline) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	q := queue{fill: p.fill, last: make(chan struct{})}
	close(q.last)
	for range p.workers {
		g.Go(func() error {
			s := new(slot)
			defer func() { clear(s.buf[:cap(s.buf)]) }()
			for {
				turn, done, err := q.next(ctx, s)
				if done == nil {
					return err
				}
				if err == nil {
					err = p.work(s)
				}
				select {
				case <-turn:
				case <-ctx.Done():
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err == nil {
					err = p.emit(s)
				}
				if err != nil {
					return err
				}
				close(done)
			}
		})
	}
	return g.Wait()
}

// queue gives out chunks.
type queue struct {
	fill func(*slot) (more bool, err error)

	mu   sync.Mutex
	over bool
	last chan struct{} // is closed when the chunk that was filled last is done
}

// next fills s. turn is closed when all chunks before are done, and done is to be when
// this one is; done is nil when there is no more.
func (q *queue) next(ctx context.Context, s *slot) (turn <-chan struct{}, done chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if q.over {
		return nil, nil, nil
	}
	more, err := q.fill(s)
	if q.over = err != nil || !more; q.over && err == nil {
		return nil, nil, nil
	}
	turn, done = q.last, make(chan struct{})
	q.last = done
	return turn, done, err
}

// write is w.Write that knows no short writes.
func write(w io.Writer, b []byte) error {
	n, err := w.Write(b)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	return err
}
