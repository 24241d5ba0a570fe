package hosting

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/run"
)

// FrontStatus is what becomes of a front.
type FrontStatus struct {
	Up            bool   `json:"up"` // nginx runs
	Reloads       uint64 `json:"reloads"`
	FailedReloads uint64 `json:"failed_reloads"`
	Why           string `json:"why,omitempty"` // other files are not used
}

// FrontState is that of the fronts that a Fronted starts one after another. It is safe
// for concurrent use. Make it with NewFrontState.
type FrontState struct {
	mu     sync.Mutex
	status FrontStatus
	look   chan struct{}
}

// NewFrontState makes the state of a front that is not up.
func NewFrontState() *FrontState { return &FrontState{look: make(chan struct{}, 1)} }

// Get is the status now.
func (s *FrontState) Get() FrontStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Look has it looked soon whether the front's files are others.
func (s *FrontState) Look() {
	select {
	case s.look <- struct{}{}:
	default: // somebody has asked already
	}
}

func (s *FrontState) note(change func(*FrontStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

// write writes the configuration of a front as it is now.
func (f Fronted) write(name string) (path string, err error) {
	text, err := f.Config()
	if err != nil {
		return "", err
	}
	path = filepath.Join(f.Dir, name)
	return path, atomicfile.WriteFile(path, text, 0o600)
}

// stamp tells the files that nginx reads from others.
func (f Fronted) stamp() string { return stampOf(f.Files...) }

// watch has nginx take other files, which it read when they had that stamp, until it
// ends. Requests go on.
func (i *fronted) watch(front *program, stamp string) {
	state := i.f.State
	state.note(func(s *FrontStatus) { s.Up, s.Why = true, "" })
	defer state.note(func(s *FrontStatus) { s.Up = false })
	ticks := time.NewTicker(i.f.Look)
	defer ticks.Stop()
	failed := ""
	for {
		select {
		case <-front.ended:
			return
		case <-ticks.C:
		case <-state.look:
		}
		now := i.f.stamp()
		if now == stamp {
			continue
		}
		err := i.reload(front)
		if err == nil {
			stamp, failed = now, ""
			state.note(func(s *FrontStatus) { s.Reloads++; s.Why = "" })
			i.f.Log.Info("the front has taken other certificates")
			continue
		}
		// They may be half of what is being written: it is looked again.
		if err.Error() != failed {
			failed = err.Error()
			i.f.Log.Error("the front's certificates are refused: what was in use stays", "why", failed)
		}
		state.note(func(s *FrontStatus) { s.FailedReloads++; s.Why = failed })
	}
}

// checkTime is how long nginx may take to check a configuration.
const checkTime = 10 * time.Second

// reload has nginx check its files, and then read them.
func (i *fronted) reload(front *program) error {
	path, err := i.f.write("next.conf")
	if err != nil {
		return err
	}
	defer os.Remove(path)
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	err = run.Cmd{Path: i.f.Program, Args: []string{"-t", "-q", "-e", "stderr", "-p", i.f.Dir, "-c", path}}.Run(ctx)
	var refused *run.Error
	if errors.As(err, &refused) && refused.Stderr != "" {
		return errors.New(refused.Stderr)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(i.f.Dir, configName)); err != nil {
		return fmt.Errorf("configure nginx: %w", err)
	}
	return front.signal(syscall.SIGHUP)
}

// configName is the file of nginx's configuration.
const configName = "nginx.conf"
