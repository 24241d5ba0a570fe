package vmtest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/ovsactl/ovsactl/vm"
)

// Domains describes every domain.
func (h *Host) Domains(ctx context.Context) ([]vm.State, error) {
	var all []vm.State
	err := h.call(ctx, "Domains", "", func() error {
		for _, name := range sortedKeys(h.domains) {
			s, err := h.state(name)
			if err != nil {
				return err
			}
			all = append(all, s)
		}
		return nil
	})
	return all, err
}

// Inspect describes one domain; a missing one has Exists false.
func (h *Host) Inspect(ctx context.Context, name string) (s vm.State, err error) {
	err = h.call(ctx, "Inspect", name, func() error {
		s, err = h.state(name)
		return err
	})
	return s, err
}

func (h *Host) state(name string) (vm.State, error) {
	g := h.domains[name]
	if g == nil {
		return vm.State{Name: name}, nil
	}
	s, err := vm.ParseDomain(g.xml)
	if err != nil {
		return vm.State{}, err
	}
	s.Status = "shut off"
	if g.active {
		s.Active, s.Status = true, "running"
		if !g.noMark {
			s.StartedAt = g.started
		}
	}
	return s, nil
}

// own returns our domain, nil when there is none.
func (h *Host) own(name string) (*guest, error) {
	s, err := h.state(name)
	if err != nil {
		return nil, err
	}
	if s.Exists && !s.Ours {
		return nil, fmt.Errorf("domain %q: %w", name, vm.ErrForeign)
	}
	return h.domains[name], nil
}

// Define makes the domain match spec without starting it.
func (h *Host) Define(ctx context.Context, spec vm.Spec) error {
	return h.call(ctx, "Define", spec.Name, func() error {
		definition, err := vm.DomainXML(spec)
		if err != nil {
			return err
		}
		old, err := h.own(spec.Name)
		if err != nil {
			return err
		}
		for _, name := range sortedKeys(h.domains) {
			s, err := h.state(name)
			if err != nil {
				return err
			}
			if name != spec.Name && s.UUID == spec.UUID {
				return fmt.Errorf("define domain %q: UUID belongs to %q: %w", spec.Name, name, vm.ErrForeign)
			}
		}
		if old == nil {
			h.domains[spec.Name] = &guest{xml: definition}
		} else {
			old.xml = definition
		}
		return nil
	})
}

// SetMetadata replaces our metadata.
func (h *Host) SetMetadata(ctx context.Context, name string, m vm.Metadata) error {
	return h.call(ctx, "SetMetadata", name, func() error {
		g, err := h.own(name)
		if err != nil {
			return err
		}
		if g == nil {
			return fmt.Errorf("set metadata of domain %q: %w", name, vm.ErrMissing)
		}
		g.xml, err = vm.ReplaceMetadata(g.xml, m)
		return err
	})
}

// Start boots the guest; its disks, networks and a free display must be there.
func (h *Host) Start(ctx context.Context, name string) error {
	return h.call(ctx, "Start", name, func() error {
		g, err := h.own(name)
		if err != nil {
			return err
		}
		if g == nil {
			return fmt.Errorf("start domain %q: %w", name, vm.ErrMissing)
		}
		if g.active {
			return nil
		}
		if err := h.bootable(name, g); err != nil {
			return fmt.Errorf("start domain %q: %w", name, err)
		}
		g.active, g.started, g.noMark = true, h.now(), false
		g.serial = append(g.serial, "[    0.000000] Linux version 6.12.0 (vmtest)", name+" login: ")
		return nil
	})
}

func (h *Host) bootable(name string, g *guest) error {
	s, err := vm.ParseDomain(g.xml)
	if err != nil {
		return err
	}
	for _, disk := range s.Volumes {
		v := h.volume(disk.Pool, disk.Volume)
		if v == nil {
			return fmt.Errorf("volume %q in pool %q: %w", disk.Volume, disk.Pool, vm.ErrMissing)
		}
		if v.base {
			return fmt.Errorf("volume %q is a base image", disk.Volume)
		}
		if !disk.ReadOnly && v.disk == 0 {
			h.boots++
			v.disk = h.boots // first boot: the guest makes its host keys on this disk
		}
	}
	for _, other := range sortedKeys(h.domains) {
		o, err := h.state(other)
		if err != nil {
			return err
		}
		if other != name && o.Active && s.VNC != nil && o.VNC != nil && *s.VNC == *o.VNC {
			return fmt.Errorf("VNC display %d is used by domain %q: %w", *s.VNC, other, vm.ErrForeign)
		}
	}
	return nil
}

// Stop shuts the guest down.
func (h *Host) Stop(ctx context.Context, name string) error {
	return h.call(ctx, "Stop", name, func() error {
		g, err := h.own(name)
		if g != nil {
			g.active, g.started = false, time.Time{}
		}
		return err
	})
}

// Undefine forces the domain off and removes it.
func (h *Host) Undefine(ctx context.Context, name string) error {
	return h.call(ctx, "Undefine", name, func() error {
		if _, err := h.own(name); err != nil {
			return err
		}
		delete(h.domains, name)
		return nil
	})
}

// HostKeys returns the key of the guest's first disk once the guest has run for
// BootTime. A new disk has a new key.
func (h *Host) HostKeys(ctx context.Context, name string) (keys []string, err error) {
	var wait time.Duration
	err = h.call(ctx, "HostKeys", name, func() error {
		g, err := h.own(name)
		if err != nil {
			return err
		}
		if g == nil || !g.active {
			return fmt.Errorf("host keys of domain %q: not running", name)
		}
		s, err := vm.ParseDomain(g.xml)
		if err != nil {
			return err
		}
		wait = h.BootTime - h.now().Sub(g.started)
		disk := 0
		for _, d := range s.Volumes {
			if v := h.volume(d.Pool, d.Volume); v != nil && !d.ReadOnly {
				disk = v.disk
				break
			}
		}
		keys = []string{hostKey(s.UUID, disk)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if h.Silent[name] {
		<-ctx.Done()
		return nil, fmt.Errorf("wait for host keys of %q: %w", name, context.Cause(ctx))
	}
	if wait > 0 {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for host keys of %q: %w", name, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
	return keys, nil
}

// hostKey is an Ed25519 public key in authorized_keys format that depends on
// the guest and its disk alone.
func hostKey(uuid string, disk int) string {
	seed := sha256.Sum256(fmt.Appendf(nil, "%s/%d", uuid, disk))
	public := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	var wire []byte
	for _, part := range [][]byte{[]byte("ssh-ed25519"), public} {
		wire = binary.BigEndian.AppendUint32(wire, uint32(len(part)))
		wire = append(wire, part...)
	}
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(wire)
}

// SerialTail returns the end of what the guest printed.
func (h *Host) SerialTail(ctx context.Context, name string, lines int) (tail []string, err error) {
	err = h.call(ctx, "SerialTail", name, func() error {
		g, err := h.own(name)
		if g != nil {
			tail = append(tail, g.serial[max(0, len(g.serial)-lines):]...)
		}
		return err
	})
	return tail, err
}

// Accelerator resolves "auto" to the field Accel.
func (h *Host) Accelerator(ctx context.Context, want string, _ string) (accel vm.Accel, reason string, err error) {
	err = h.call(ctx, "Accelerator", want, func() error {
		switch want {
		case "kvm", "tcg":
			accel, reason = vm.Accel(want), "asked for"
		case "auto", "":
			accel, reason = vm.TCG, "chosen by the test"
			if h.Accel != "" {
				accel = h.Accel
			}
		default:
			return fmt.Errorf("accelerator %q is not auto, kvm or tcg", want)
		}
		return nil
	})
	return accel, reason, err
}
