package vmtest

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"

	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vm/image"
)

type pool struct {
	path    string
	volumes map[string]*volume
}

type volume struct {
	base    bool   // a base image
	over    string // the base of an overlay
	size    uint64
	content []byte
	disk    int // counts disks that have booted, 0 before the first boot
}

type network struct {
	spec     vm.NetworkSpec
	reserved []vm.Reservation
}

func (h *Host) volume(poolName, name string) *volume {
	if p := h.pools[poolName]; p != nil {
		return p.volumes[name]
	}
	return nil
}

// VolumeContent returns what WriteVolume wrote, nil when there is none.
func (h *Host) VolumeContent(poolName, name string) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v := h.volume(poolName, name); v != nil {
		return bytes.Clone(v.content)
	}
	return nil
}

// EnsurePool makes the pool.
func (h *Host) EnsurePool(ctx context.Context, spec vm.PoolSpec) error {
	return h.call(ctx, "EnsurePool", spec.Name, func() error {
		if p := h.pools[spec.Name]; p != nil {
			if p.path != spec.Path {
				return fmt.Errorf("pool %q is at %q, not %q: %w", spec.Name, p.path, spec.Path, vm.ErrForeign)
			}
			return nil
		}
		h.pools[spec.Name] = &pool{path: spec.Path, volumes: map[string]*volume{}}
		return nil
	})
}

// inPool runs change with the pool's volumes.
func (h *Host) inPool(ctx context.Context, method, poolName, name string, change func(map[string]*volume) error) error {
	return h.call(ctx, method, name, func() error {
		p := h.pools[poolName]
		if p == nil {
			return fmt.Errorf("pool %q: %w", poolName, vm.ErrMissing)
		}
		return change(p.volumes)
	})
}

// EnsureBase makes the base volume of the image; it does not read the file.
func (h *Host) EnsureBase(ctx context.Context, poolName string, img image.Image, progress image.Progress) (string, error) {
	name, err := vm.BaseVolume(img)
	if err != nil {
		return "", err
	}
	err = h.inPool(ctx, "EnsureBase", poolName, name, func(volumes map[string]*volume) error {
		if volumes[name] == nil {
			volumes[name] = &volume{base: true, size: img.Virtual}
			if progress != nil {
				progress("upload", 1, 1)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return name, nil
}

// CreateOverlay makes a volume over base, or grows the one that is there.
func (h *Host) CreateOverlay(ctx context.Context, poolName, name, base string, size uint64) error {
	return h.inPool(ctx, "CreateOverlay", poolName, name, func(volumes map[string]*volume) error {
		if b := volumes[base]; b == nil || !b.base {
			return fmt.Errorf("create volume %q: base volume %q: %w", name, base, vm.ErrMissing)
		}
		old := volumes[name]
		switch {
		case old == nil:
			volumes[name] = &volume{over: base, size: size}
		case old.over != base:
			return fmt.Errorf("volume %q is over %q, not %q", name, old.over, base)
		case old.size > size:
			return fmt.Errorf("volume %q has %d bytes and cannot shrink to %d", name, old.size, size)
		default:
			old.size = size
		}
		return nil
	})
}

// WriteVolume makes a raw volume with these bytes.
func (h *Host) WriteVolume(ctx context.Context, poolName, name string, data []byte) error {
	return h.inPool(ctx, "WriteVolume", poolName, name, func(volumes map[string]*volume) error {
		volumes[name] = &volume{size: uint64(len(data)), content: bytes.Clone(data)}
		return nil
	})
}

// DeleteVolume removes a volume.
func (h *Host) DeleteVolume(ctx context.Context, poolName, name string) error {
	return h.call(ctx, "DeleteVolume", name, func() error {
		if p := h.pools[poolName]; p != nil {
			delete(p.volumes, name)
		}
		return nil
	})
}

// Volumes lists the pool's volumes; a missing pool has none.
func (h *Host) Volumes(ctx context.Context, poolName string) (names []string, err error) {
	err = h.call(ctx, "Volumes", poolName, func() error {
		if p := h.pools[poolName]; p != nil {
			names = sortedKeys(p.volumes)
		}
		return nil
	})
	return names, err
}

// EnsureNetwork makes the network or takes one that agrees.
func (h *Host) EnsureNetwork(ctx context.Context, spec vm.NetworkSpec) error {
	return h.call(ctx, "EnsureNetwork", spec.Name, func() error {
		if n := h.networks[spec.Name]; n != nil {
			if n.spec != spec {
				return fmt.Errorf("network %q is %s on %q: %w", spec.Name, n.spec.CIDR, n.spec.Bridge, vm.ErrForeign)
			}
			return nil
		}
		h.networks[spec.Name] = &network{spec: spec}
		return nil
	})
}

// Reservations lists the fixed leases of a network.
func (h *Host) Reservations(name string) []vm.Reservation {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := h.networks[name]; n != nil {
		return append([]vm.Reservation(nil), n.reserved...)
	}
	return nil
}

// Reserve adds or replaces one fixed lease.
func (h *Host) Reserve(ctx context.Context, name string, r vm.Reservation) error {
	return h.call(ctx, "Reserve", name, func() error {
		n := h.networks[name]
		if n == nil {
			return fmt.Errorf("network %q: %w", name, vm.ErrMissing)
		}
		if !n.spec.CIDR.Contains(r.Address) {
			return fmt.Errorf("reserve %s: outside %s", r.Address, n.spec.CIDR)
		}
		replaced, err := vm.PlanReservation(n.reserved, r)
		if err != nil {
			return err
		}
		n.reserved = append(without(n.reserved, replaced), r)
		return nil
	})
}

// Unreserve removes the fixed lease of mac.
func (h *Host) Unreserve(ctx context.Context, name, mac string) error {
	return h.call(ctx, "Unreserve", name, func() error {
		if n := h.networks[name]; n != nil {
			n.reserved = without(n.reserved, []vm.Reservation{{MAC: mac, Address: netip.Addr{}}})
		}
		return nil
	})
}

func without(all, gone []vm.Reservation) []vm.Reservation {
	var kept []vm.Reservation
	for _, r := range all {
		drop := false
		for _, g := range gone {
			drop = drop || g.MAC == r.MAC
		}
		if !drop {
			kept = append(kept, r)
		}
	}
	return kept
}
