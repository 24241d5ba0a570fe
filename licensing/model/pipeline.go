package model

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"
)

// slot is one chunk on its way through a pipeline.
type slot struct {
	buf   []byte // with room for a tag
	n     int    // bytes of the chunk in buf
	file  *fileCipher
	at    place
	entry [maxEntry]byte
	done  chan error
}

// grow makes room for a chunk of n bytes.
func (s *slot) grow(n int) {
	if cap(s.buf) < n+tagSize {
		clear(s.buf[:cap(s.buf)])
		s.buf = make([]byte, n+tagSize)
	}
	s.buf, s.n = s.buf[:cap(s.buf)], n
}

// pipeline moves chunks through fill, which is called in order by one goroutine,
// work, by many, and emit, in order again by run's caller.
type pipeline struct {
	workers int
	fill    func(*slot) (more bool, err error)
	work    func(*slot) error
	emit    func(*slot) error
}

// run returns when all is done or something failed, and then all goroutines
// have ended and all buffers are wiped. It cannot interrupt a Read or a Write
// that blocks.
func (p pipeline) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make([]*slot, 2*p.workers+1)
	// Every channel has room for all slots, so sending never blocks.
	free, todo, order := make(chan *slot, len(slots)), make(chan *slot, len(slots)), make(chan *slot, len(slots))
	for i := range slots {
		slots[i] = &slot{done: make(chan error, 1)}
		free <- slots[i]
	}
	var g errgroup.Group
	g.Go(func() error {
		defer close(order)
		defer close(todo)
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case s := <-free:
				if more, err := p.fill(s); err != nil || !more {
					return err
				}
				order <- s
				todo <- s
			}
		}
	})
	for range p.workers {
		g.Go(func() error {
			for s := range todo {
				if ctx.Err() != nil {
					s.done <- context.Cause(ctx)
					continue
				}
				s.done <- p.work(s)
			}
			return nil
		})
	}
	err := p.drain(ctx, order, free)
	if err != nil {
		cancel(err)
	}
	if waited := g.Wait(); err == nil {
		err = waited
	}
	for _, s := range slots {
		clear(s.buf[:cap(s.buf)])
	}
	return err
}

// drain emits the chunks as they are finished, in order.
func (p pipeline) drain(ctx context.Context, order <-chan *slot, free chan<- *slot) error {
	for s := range order {
		if err := <-s.done; err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.emit(s); err != nil {
			return err
		}
		free <- s
	}
	return nil
}

// write is w.Write that knows no short writes.
func write(w io.Writer, b []byte) error {
	n, err := w.Write(b)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	return err
}
