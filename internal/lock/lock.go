// Package lock serialises processes on one host by advisory file locks
// (flock(2)). The kernel drops a lock when its holder dies, so no lock is ever
// stale and no clean-up after a crash is needed.
package lock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/owner"
)

// Lock is a held lock. Release it once.
type Lock struct{ f *os.File }

// Busy says that another process holds the lock.
type Busy struct {
	Path   string
	Holder string // what the holder wrote about itself; "" when it wrote nothing yet
}

func (b *Busy) Error() string {
	if b.Holder == "" {
		return fmt.Sprintf("lock %q is held by another process", b.Path)
	}
	return fmt.Sprintf("lock %q is held by %s", b.Path, b.Holder)
}

// Try takes the lock at path or returns a *Busy at once. holder, one line such
// as "pid 12 (ovsactl apply)", is what others are told. The file is created
// 0600 and stays: removing it would let two processes hold "the" lock. It belongs to
// the user of its directory, also where root makes it: see owner.Give.
func Try(path, holder string) (*Lock, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %q: %w", path, err)
		}
		buf := make([]byte, 256)
		n, _ := f.ReadAt(buf, 0)
		return nil, &Busy{Path: path, Holder: strings.TrimSpace(string(buf[:n]))}
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	if err := tell(f, holder); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	return &Lock{f}, nil
}

func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, os.ErrExist) {
		return os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if err := owner.Give(f, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// tell writes who holds the lock. A full disk only keeps that untold: what frees
// some of it takes locks, too.
func tell(w io.WriterAt, holder string) error {
	_, err := w.WriteAt([]byte(holder+"\n"), 0)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return nil
	}
	return err
}

// Wait takes the lock at path, waiting until it is free or ctx ends. onBusy,
// if not nil, is called once, when the wait begins.
func Wait(ctx context.Context, path, holder string, onBusy func(*Busy)) (*Lock, error) {
	for {
		l, err := Try(path, holder)
		var busy *Busy
		if !errors.As(err, &busy) {
			return l, err
		}
		if onBusy != nil {
			onBusy(busy)
			onBusy = nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for lock: %w: %w", context.Cause(ctx), busy)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Release gives the lock up.
func (l *Lock) Release() error {
	l.f.Truncate(0) // the next holder writes its own line; an empty one is honest meanwhile
	return l.f.Close()
}
