package vtpm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/ovsactl/ovsactl/internal/lock"
)

// Options say where things are.
type Options struct {
	DataDir  string           // the host's data directory; the CA and the records are in its vtpm/
	StateDir string           // libvirt's, default /var/lib/libvirt/swtpm
	TPM      string           // the host's TPM: a device, or unix:PATH of a stand-in
	Now      func() time.Time // nil: time.Now
}

// Host is the vTPM side of one host. It is safe for concurrent use, also by
// several processes.
type Host struct {
	opts Options

	once    sync.Once // guards what the host's TPM said about itself
	current hostState
	err     error
}

// Open returns the host. It touches nothing yet.
func Open(opts Options) (*Host, error) {
	opts.StateDir = cmp.Or(opts.StateDir, "/var/lib/libvirt/swtpm")
	opts.TPM = cmp.Or(opts.TPM, "/dev/tpmrm0")
	if opts.Now == nil {
		opts.Now = time.Now
	}
	for _, p := range []string{opts.DataDir, opts.StateDir, strings.TrimPrefix(opts.TPM, "unix:")} {
		// swtpm puts its TPM into failure mode when it is given a relative path.
		if !filepath.IsAbs(p) {
			return nil, fmt.Errorf("vtpm: %q is not an absolute path", p)
		}
	}
	return &Host{opts: opts}, nil
}

func (h *Host) simulated() bool { return strings.HasPrefix(h.opts.TPM, "unix:") }

// dir is a path below the data directory's vtpm/.
func (h *Host) dir(parts ...string) string {
	return filepath.Join(append([]string{h.opts.DataDir, "vtpm"}, parts...)...)
}

func (h *Host) recordPath(uuid string) string { return h.dir(uuid, "record.json") }

// nextPath is the record that a Bind is about to write, or a dead one was.
func (h *Host) nextPath(uuid string) string { return h.dir(uuid, "record.next.json") }

// eksPath is the host's copy of the vTPM's endorsement keys.
func (h *Host) eksPath(uuid string) string { return h.dir(uuid, "eks.json") }

// akCertPath is where the certificate of the host's AK is, once it is enrolled.
func (h *Host) akCertPath() string { return h.dir("ak.pem") }

// stateDir is where libvirt looks for a VM's TPM 2.0 state.
func (h *Host) stateDir(uuid string) string { return filepath.Join(h.opts.StateDir, uuid, "tpm2") }

// stateFile holds all of a TPM's permanent state.
const stateFile = "tpm2-00.permall"

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func checkUUID(uuid string) error {
	if !uuidPattern.MatchString(uuid) {
		return fmt.Errorf("vtpm: %q is not a UUID", uuid)
	}
	return nil
}

// lock serialises work on one thing: a VM's vTPM, the CA, the host's TPM. Locks
// are beside what they guard and outlive it.
func (h *Host) lock(ctx context.Context, name string) (*lock.Lock, error) {
	if err := os.MkdirAll(h.dir("locks"), 0o700); err != nil {
		return nil, fmt.Errorf("vtpm lock: %w", err)
	}
	return lock.Wait(ctx, h.dir("locks", name), fmt.Sprintf("pid %d (ovsactl)", os.Getpid()), nil)
}

// lockState is the lock of a VM's state. VMs share sixteen: a lock's file stays
// when it is released, and a VM that is removed leaves nothing.
func (h *Host) lockState(ctx context.Context, uuid string) (*lock.Lock, error) {
	return h.lock(ctx, "state-"+uuid[:1])
}

// exists tells whether there is vTPM state. A directory without state is an
// error: libvirt would start a blank TPM from it.
func (h *Host) exists(uuid string) (bool, error) {
	info, err := os.Stat(filepath.Join(h.stateDir(uuid), stateFile))
	switch {
	case err == nil && info.Size() > 0:
		return true, nil
	case err == nil || !errors.Is(err, fs.ErrNotExist):
		return false, errors.Join(fmt.Errorf("vtpm state of %s cannot be used", uuid), err)
	}
	return false, nil
}

// Remove deletes all vTPM state of the VM, and what it left of itself in the
// data directory. The VM has to be off. Nothing left is no error.
func (h *Host) Remove(ctx context.Context, uuid string) error {
	if err := checkUUID(uuid); err != nil {
		return err
	}
	l, err := h.lockState(ctx, uuid)
	if err != nil {
		return err
	}
	defer l.Release()
	if err := errors.Join(
		os.RemoveAll(filepath.Join(h.opts.StateDir, uuid)),
		os.RemoveAll(h.buildDir(uuid)),
		os.RemoveAll(h.dir(uuid)),
	); err != nil {
		return fmt.Errorf("remove vtpm state: %w", err)
	}
	return nil
}
