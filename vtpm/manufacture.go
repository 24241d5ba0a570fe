package vtpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
)

// Handles and indices of the TCG EK Credential Profile 2.5 (2.2.1.4, 2.2.1.5) and
// the TCG PC Client Platform Firmware Profile; swtpm_setup uses the same.
const (
	rsaEKHandle = tpm2.TPMHandle(0x81010001)
	eccEKHandle = tpm2.TPMHandle(0x81010016)

	rsaCertIndex      = tpm2.TPMHandle(0x01c00002)
	eccCertIndex      = tpm2.TPMHandle(0x01c00016)
	platformCertIndex = tpm2.TPMHandle(0x01c08000)
)

// Manufacture makes the vTPM state of the VM where libvirt expects it: a TPM
// with the SHA-256 and SHA-384 banks, RSA-2048 and P-384 endorsement keys,
// certificates for them from the host's CA, and a platform certificate. State
// that is there already is left alone, so that an identity never changes. The
// state appears complete or not at all, whenever the process dies.
func (h *Host) Manufacture(ctx context.Context, id Identity) error {
	if err := checkUUID(id.UUID); err != nil {
		return err
	}
	l, err := h.lockState(ctx, id.UUID)
	if err != nil {
		return err
	}
	defer l.Release()
	if made, err := h.exists(id.UUID); err != nil || made {
		return err
	}
	// Not RemoveAll: what is in there is not ours to judge. libvirt skips its own
	// set-up when the directory exists, even an empty one.
	if err := os.Remove(h.stateDir(id.UUID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("vtpm state directory has no TPM in it: %w", err)
	}
	ca, err := h.authority(ctx)
	if err != nil {
		return err
	}
	work := h.buildDir(id.UUID)
	if err := os.RemoveAll(work); err != nil { // of a run that died
		return fmt.Errorf("manufacture vtpm: %w", err)
	}
	// As libvirt makes it: swtpm, which is not root, passes through it.
	if err := os.MkdirAll(h.opts.StateDir, 0o711); err != nil {
		return fmt.Errorf("manufacture vtpm: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(work, "tpm2"), 0o700); err != nil {
		return fmt.Errorf("manufacture vtpm: %w", err)
	}
	defer os.RemoveAll(work)
	if err := h.manufacture(ctx, ca, filepath.Join(work, "tpm2"), id); err != nil {
		return fmt.Errorf("manufacture vtpm: %w", err)
	}
	return h.publish(filepath.Join(work, "tpm2"), id.UUID)
}

// buildDir is where a VM's state is made: on the file system of its place, so
// that it can be renamed there.
func (h *Host) buildDir(uuid string) string { return filepath.Join(h.opts.StateDir, ".ovsactl-"+uuid) }

func (h *Host) manufacture(ctx context.Context, ca *authority, dir string, id Identity) error {
	// The choice of banks takes effect when the TPM starts again.
	if err := withSWTPM(ctx, dir, allocateBanks); err != nil {
		return err
	}
	return withSWTPM(ctx, dir, func(t transport.TPM) error {
		for _, ek := range []struct {
			template tpm2.TPMTPublic
			handle   tpm2.TPMHandle
			index    tpm2.TPMHandle
		}{
			{tpm2.RSAEKTemplate, rsaEKHandle, rsaCertIndex},
			{eccEKTemplate(), eccEKHandle, eccCertIndex},
		} {
			pub, err := createEK(t, ek.template, ek.handle)
			if err != nil {
				return err
			}
			der, err := ca.issue(oidEKCert, id.Name, pub, h.opts.Now())
			if err != nil {
				return err
			}
			if err := writeIndex(t, ek.index, der); err != nil {
				return fmt.Errorf("store EK certificate: %w", err)
			}
			if ek.index != rsaCertIndex {
				continue
			}
			platform, err := ca.issue(oidPlatformCert, id.Name, pub, h.opts.Now())
			if err != nil {
				return err
			}
			if err := writeIndex(t, platformCertIndex, platform); err != nil {
				return fmt.Errorf("store platform certificate: %w", err)
			}
		}
		return nil
	})
}

// withSWTPM runs do on a TPM over dir. The state is whole when it returns nil.
func withSWTPM(ctx context.Context, dir string, do func(transport.TPM) error) error {
	t, err := startSWTPM(ctx, dir)
	if err != nil {
		return err
	}
	if err := do(t); err != nil {
		t.abort()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return t.close()
}

// publish makes finished state stable and puts it in libvirt's place.
func (h *Host) publish(dir, uuid string) error {
	uid, gid := owner()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".lock" {
			return os.Remove(path)
		}
		if uid >= 0 {
			if err := os.Lchown(path, uid, gid); err != nil {
				return err
			}
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
	if err != nil {
		return fmt.Errorf("store vtpm state: %w", err)
	}
	parent := filepath.Dir(h.stateDir(uuid))
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return fmt.Errorf("store vtpm state: %w", err)
	}
	if err := os.Rename(dir, h.stateDir(uuid)); err != nil {
		return fmt.Errorf("store vtpm state: %w", err)
	}
	return errors.Join(atomicfile.SyncDir(parent), atomicfile.SyncDir(h.opts.StateDir))
}

// owner is the user that libvirt runs swtpm as: tss on Debian, swtpm on
// Ubuntu. libvirt makes it the owner again at every start. Negative: nobody, or
// not ours to give.
func owner() (uid, gid int) {
	if os.Geteuid() != 0 {
		return -1, -1
	}
	for _, name := range []string{"swtpm", "tss"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errU := strconv.Atoi(u.Uid)
		gid, errG := strconv.Atoi(u.Gid)
		if errU == nil && errG == nil {
			return uid, gid
		}
	}
	return -1, -1
}
