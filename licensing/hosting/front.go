package hosting

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
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
	Program string   // nginx
	Config  []byte   // for it, in the foreground
	Dir     string   // of its files; it is made
	Listens []string // host:port where it does then
	Log     *slog.Logger
}

// fronted is an engine that runs, and its front.
type fronted struct {
	Instance
	f     Fronted
	ended chan struct{} // of either

	mu    sync.Mutex
	front *run.Process
	stop  context.CancelFunc
	gone  chan struct{} // closed when the front is
	over  bool          // no front is to be begun any more
	err   error         // of the front, which ended by itself
}

// Start implements Engine.
func (f Fronted) Start(ctx context.Context, models []Shown) (Instance, error) {
	inner, err := f.Engine.Start(ctx, models)
	if err != nil {
		return nil, err
	}
	i := &fronted{Instance: inner, f: f, ended: make(chan struct{})}
	go func() {
		<-inner.Ended()
		i.off()
		i.end()
	}()
	return i, nil
}

// end tells that one of the two has ended.
func (i *fronted) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	select {
	case <-i.ended:
	default:
		close(i.ended)
	}
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
		for !listens(ctx, address) {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-i.ended:
				return fmt.Errorf("start the front: %w", errors.Join(i.Err(), errors.New("it ended")))
			case <-time.After(pollEvery):
			}
		}
	}
	return nil
}

func listens(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func (i *fronted) on() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		return errors.New("the engine is stopped")
	}
	if err := os.MkdirAll(i.f.Dir, 0o755); err != nil {
		return err
	}
	config := filepath.Join(i.f.Dir, "nginx.conf")
	if err := atomicfile.WriteFile(config, i.f.Config, 0o600); err != nil {
		return err
	}
	says, output := io.Pipe()
	cmd := run.Cmd{
		Path: i.f.Program, Args: []string{"-e", "stderr", "-p", i.f.Dir, "-c", config}, Stdout: output, Stderr: output,
		// SIGTERM, as its master alone ends its workers.
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: unix.SIGTERM},
	}
	living, stop := context.WithCancel(context.Background())
	front, err := cmd.Start(living)
	if err != nil {
		stop()
		return err
	}
	i.front, i.stop, i.gone = front, stop, make(chan struct{})
	go logLines(says, func(line string) { i.f.Log.Warn("front says", "line", line) })
	go func() {
		err := front.Wait()
		stop()
		output.Close()
		i.mu.Lock()
		if !i.over {
			i.err = fmt.Errorf("its front ended: %w", cmp.Or(err, errByItself))
		}
		i.mu.Unlock()
		close(i.gone)
		i.end()
	}()
	return nil
}

// off ends the front, and lets none begin any more.
func (i *fronted) off() {
	i.mu.Lock()
	i.over = true
	stop, gone := i.stop, i.gone
	i.mu.Unlock()
	if stop == nil {
		return
	}
	stop()
	<-gone
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

// errByItself is why something ended that says nothing of it.
var errByItself = errors.New("by itself")

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
