package provision

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/vm"
)

// owned is everything of a role that can be left on a host. It is derived from
// names, so it can be removed whatever part of it was made.
type owned struct {
	Role         string        `json:"role"`
	Domain       string        `json:"domain"`
	UUID         string        `json:"uuid"`
	Volumes      []string      `json:"volumes"`
	Reservations []reservation `json:"reservations,omitempty"`
	Address      netip.Addr    `json:"address,omitzero"`
}

type reservation struct {
	Network string `json:"network"`
	MAC     string `json:"mac"`
}

func (in intent) owned(role, uuid string) owned {
	o := owned{Role: role, Domain: DomainName(role), UUID: uuid, Volumes: []string{diskVolume(role), seedVolume(role)}}
	for _, n := range in.Networks {
		if n.NAT != "" {
			o.Reservations = append(o.Reservations, reservation{n.Network, n.MAC})
		}
	}
	o.Address = in.address()
	return o
}

// journal is what a run has in flight: one JSON object per line, each on
// stable storage before its step begins. A run that ends removes its journal, so
// a journal that is there under the lock is that of a dead run.
type journal struct {
	mu   sync.Mutex
	f    *os.File
	path string
}

// entry is one line. Owns comes first for each role, then its steps.
type entry struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"` // "owns", "begin", "done", "failed"
	Step  string    `json:"step,omitempty"`
	Owns  *owned    `json:"owns,omitempty"`
}

func (e *Engine) journalDir() string { return filepath.Join(e.DataDir, "journal") }

func (e *Engine) openJournal() (*journal, error) {
	if err := os.MkdirAll(e.journalDir(), 0o700); err != nil {
		return nil, fmt.Errorf("make journal: %w", err)
	}
	path := filepath.Join(e.journalDir(), fmt.Sprintf("%s-%d.jsonl", e.now().UTC().Format("20060102T150405.000000000"), os.Getpid()))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make journal: %w", err)
	}
	if err := atomicfile.SyncDir(e.journalDir()); err != nil {
		f.Close()
		return nil, fmt.Errorf("make journal: %w", err)
	}
	return &journal{f: f, path: path}, nil
}

// write adds an entry. sync makes it stable before the step that it announces;
// what tells that a step is over may be lost: it is then only done again.
func (j *journal) write(e entry, sync bool) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if sync {
		if err := j.f.Sync(); err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
	}
	return nil
}

// finish ends the run: nothing is in flight any more.
func (j *journal) finish() error {
	return errors.Join(j.f.Close(), os.Remove(j.path))
}

// recover undoes what dead runs left half-made: everything of a role that has
// no domain. With a domain, the next plan sees how far it is and goes on.
func (e *Engine) recover(ctx context.Context) error {
	files, err := os.ReadDir(e.journalDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(e.journalDir(), f.Name())
		owners, err := readJournal(path)
		if err != nil {
			return err
		}
		for _, o := range owners {
			if err := e.undo(ctx, o); err != nil {
				return fmt.Errorf("role %q: %w", o.Role, err)
			}
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// undo removes what is left of a role whose domain does not exist.
func (e *Engine) undo(ctx context.Context, o owned) error {
	d, err := e.Hypervisor.Inspect(ctx, o.Domain)
	if err != nil || d.Exists {
		return err
	}
	e.emit(Event{Kind: Note, Step: "role." + o.Role, Text: "removing what an earlier run left half-made"})
	return e.release(ctx, o)
}

// release removes everything of a role but its domain, which is gone.
func (e *Engine) release(ctx context.Context, o owned) error {
	var errs []error
	for _, v := range o.Volumes {
		if err := e.Hypervisor.DeleteVolume(ctx, Pool, v); err != nil {
			errs = append(errs, fmt.Errorf("remove volume %q: %w", v, err))
		}
	}
	if err := e.TPM.Remove(ctx, o.UUID); err != nil {
		errs = append(errs, fmt.Errorf("remove vtpm: %w", err))
	}
	for _, r := range o.Reservations {
		if err := e.Hypervisor.Unreserve(ctx, r.Network, r.MAC); err != nil {
			errs = append(errs, fmt.Errorf("remove reservation of %s: %w", r.MAC, err))
		}
	}
	if err := e.Remote.Forget(o.Domain, o.Address); err != nil {
		errs = append(errs, fmt.Errorf("forget known host: %w", err))
	}
	return errors.Join(errs...)
}

// readJournal returns what the roles in a dead run's journal own. A last line
// that is not whole was never acted on.
func readJournal(path string) ([]owned, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []owned
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var en entry
		if err := json.Unmarshal(lines.Bytes(), &en); err != nil {
			break
		}
		if en.Owns != nil {
			out = append(out, *en.Owns)
		}
	}
	return out, lines.Err()
}

// ownedOf is what a role owns, by the manifest and by what its guest was made
// from, which may have had other networks.
func ownedOf(in intent, d vm.State, role, uuid string) []owned {
	all := []owned{in.owned(role, uuid)}
	if d.Exists && d.Ours {
		if old, err := decodeIntent(d.Metadata.Intent); err == nil {
			all = append(all, old.owned(role, d.UUID))
		}
	}
	return all
}
