package hosting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
)

// Group is a control group for one engine.
type Group interface {
	// Dir is open, and where the engine is to begin.
	Dir() *os.File
	// Killed says whether something in it was killed for the memory that it used.
	Killed() (bool, error)
	// Close ends what is left in it, and removes it.
	Close() error
}

// Limited is an engine each of which has a control group of its own.
type Limited struct {
	Engine func(group *os.File) Engine // one that begins in a group
	Group  func() (Group, error)
	Memory int64          // bytes that the group lets it use; 0: any
	Kills  *atomic.Uint64 // how often one was killed for more
	Log    *slog.Logger
}

// ErrMemory says why an engine was killed.
var ErrMemory = errors.New("the engine used more memory than it may")

// limited is one that runs.
type limited struct {
	Instance
	ended chan struct{}
	err   error // when ended is closed
}

// Start implements Engine.
func (l Limited) Start(ctx context.Context, models []Shown) (Instance, error) {
	group, err := l.Group()
	if err != nil {
		return nil, fmt.Errorf("start the engine: %w", err)
	}
	inner, err := l.Engine(group.Dir()).Start(ctx, models)
	if err != nil {
		return nil, l.end(group, err)
	}
	i := &limited{Instance: inner, ended: make(chan struct{})}
	go func() {
		<-inner.Ended()
		i.err = l.end(group, inner.Err())
		close(i.ended)
	}()
	return i, nil
}

// end removes a group whose engine has ended, and returns why that has.
func (l Limited) end(group Group, why error) error {
	killed, err := group.Killed()
	if err = errors.Join(err, group.Close()); err != nil {
		l.Log.Warn("the engine's control group", "why", err.Error())
	}
	switch {
	case !killed:
		return why
	case l.Memory == 0:
		why = fmt.Errorf("%w: the machine had no more: %w", ErrMemory, why)
	default:
		why = fmt.Errorf("%w: its limit is %s: %w", ErrMemory, size(l.Memory), why)
	}
	l.Kills.Add(1)
	return why
}

// size is a number of bytes for people.
func size(bytes int64) string {
	if bytes > 0 && bytes%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d bytes", bytes)
}

// Ready implements Instance.
func (i *limited) Ready(ctx context.Context) error {
	err := i.Instance.Ready(ctx)
	if err == nil {
		return nil
	}
	select {
	case <-i.Instance.Ended():
		<-i.ended
		if errors.Is(i.err, ErrMemory) {
			return i.err
		}
	default:
	}
	return err
}

// Stop implements Instance.
func (i *limited) Stop() {
	i.Instance.Stop()
	<-i.ended
}

// Ended implements Instance.
func (i *limited) Ended() <-chan struct{} { return i.ended }

// Err implements Instance.
func (i *limited) Err() error {
	<-i.ended
	return i.err
}

var _ Engine = Limited{}
