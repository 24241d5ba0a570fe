package hosting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/run"
)

// Fronted is an engine with nginx in front of it, which is there while the engine
// answers, and is gone before anything is taken away from that.
type Fronted struct {
	Engine  Engine
	Program string                 // nginx
	Config  func() ([]byte, error) // for it, in the foreground
	Files   []string               // that it reads beside that: others are taken while it runs
	Look    time.Duration          // how often it is looked whether they are others
	State   *FrontState            // that of all that are started
	Dir     string                 // of its files; it is made
	Listens []string               // host:port where it does then
	Log     *slog.Logger
}

// fronted is an engine that runs, and its front.
type fronted struct {
	Instance
	f     Fronted
	ended chan struct{} // of either
	end   func()        // closes ended, once

	mu    sync.Mutex
	front *program // nil before it is begun
	over  bool     // no front is to be begun any more
	err   error    // of the front, which ended by itself
}

// Start implements Engine.
func (f Fronted) Start(ctx context.Context, models []Shown) (Instance, error) {
	inner, err := f.Engine.Start(ctx, models)
	if err != nil {
		return nil, err
	}
	i := &fronted{Instance: inner, f: f, ended: make(chan struct{})}
	i.end = sync.OnceFunc(func() { close(i.ended) })
	go func() {
		<-inner.Ended()
		i.off()
		i.end()
	}()
	return i, nil
}

// Ready implements Instance: the front is there when the engine answers.
func (i *fronted) Ready(ctx context.Context) error {
	if err := i.Instance.Ready(ctx); err != nil {
		return err
	}
	if err := i.on(); err != nil {
		return fmt.Errorf("start the front: %w", err)
	}
	for _, address := range i.f.Listens {
		err := await(ctx, i.ended, func(ctx context.Context) bool { return listens(ctx, address) })
		if errors.Is(err, errEnded) {
			return fmt.Errorf("start the front: %w", errors.Join(i.Err(), err))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (i *fronted) on() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return errors.New("the engine is stopped")
	}
	if err := atomicfile.PublicDir(i.f.Dir); err != nil { // its workers are another user
		return err
	}
	stamp := i.f.stamp()
	config, err := i.f.write(configName)
	if err != nil {
		return err
	}
	front, err := start(run.Cmd{
		Path: i.f.Program, Args: []string{"-e", "stderr", "-p", i.f.Dir, "-c", config},
		// SIGTERM, as its master alone ends its workers.
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM},
	}, func(line string) { i.f.Log.Warn("front says", "line", line) })
	if err != nil {
		return err
	}
	i.front = front
	go i.watch(front, stamp)
	go func() {
		<-front.ended
		i.mu.Lock()
		if !i.over {
			i.err = fmt.Errorf("its front ended: %w", front.err)
		}
		i.mu.Unlock()
		i.end()
	}()
	return nil
}

// off ends the front, and lets none begin any more.
func (i *fronted) off() {
	i.mu.Lock()
	i.over = true
	front := i.front
	i.mu.Unlock()
	if front != nil {
		front.end()
	}
}

// Hide implements Instance.
func (i *fronted) Hide(name string, number int64) {
	i.off()
	i.Instance.Hide(name, number)
}

// Stop implements Instance.
func (i *fronted) Stop() {
	i.off()
	i.Instance.Stop()
}

// Ended implements Instance.
func (i *fronted) Ended() <-chan struct{} { return i.ended }

// Err implements Instance.
func (i *fronted) Err() error {
	<-i.ended
	i.mu.Lock()
	err := i.err
	i.mu.Unlock()
	if err != nil {
		return err
	}
	return i.Instance.Err()
}

var _ Engine = Fronted{}
