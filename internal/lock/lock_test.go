package lock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSecondHolderIsToldWhoHoldsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Try(path, "pid 1 (test)")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Try(path, "pid 2 (test)")
	var busy *Busy
	if !errors.As(err, &busy) || busy.Holder != "pid 1 (test)" {
		t.Fatalf("error %v, want Busy by pid 1", err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	second, err := Try(path, "pid 2 (test)")
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	second.Release()
}

func TestFullDiskKeepsNobodyFromLocking(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	if err := tell(full, "pid 1 (test)"); err != nil {
		t.Error(err)
	}
}

func TestWaitTakesTheLockWhenItIsReleased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Try(path, "first")
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan *Busy, 2)
	got := make(chan error, 1)
	go func() {
		l, err := Wait(t.Context(), path, "second", func(b *Busy) { waiting <- b })
		if err == nil {
			err = l.Release()
		}
		got <- err
	}()
	if b := <-waiting; b.Holder != "first" {
		t.Errorf("waiting for %q, want first", b.Holder)
	}
	first.Release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if len(waiting) != 0 {
		t.Error("onBusy was called more than once")
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Try(path, "first")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = Wait(ctx, path, "second", nil)
	var busy *Busy
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &busy) {
		t.Fatalf("error %v, want the deadline and the holder", err)
	}
}
