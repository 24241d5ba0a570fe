package vm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/sleep"
)

// EnsurePool makes a directory pool that libvirt starts by itself, or takes the
// one that is at the same path.
func (h *Host) EnsurePool(ctx context.Context, spec PoolSpec) error {
	definition, err := poolXML(spec)
	if err != nil {
		return err
	}
	h.pools.Lock() // defining is not idempotent in libvirt
	defer h.pools.Unlock()
	return do(ctx, h, fmt.Sprintf("make storage pool %q", spec.Name), func(c *libvirt.Connect) error {
		pool, err := c.LookupStoragePoolByName(spec.Name)
		created := false
		if isCode(err, libvirt.ERR_NO_STORAGE_POOL) {
			pool, err = c.StoragePoolDefineXML(definition, 0)
			created = true
		}
		if err != nil {
			return err
		}
		defer pool.Free()
		if created {
			if err := pool.Build(libvirt.STORAGE_POOL_BUILD_NEW); err != nil {
				return errors.Join(err, pool.Undefine())
			}
			if err := pool.SetAutostart(true); err != nil {
				return err
			}
		} else if err := poolAgrees(pool, spec); err != nil {
			return err
		}
		active, err := pool.IsActive()
		if err != nil || active {
			return err
		}
		return startPool(pool)
	})
}

// startPool makes the directory again when it has gone.
func startPool(pool *libvirt.StoragePool) error {
	err := pool.Create(libvirt.STORAGE_POOL_CREATE_WITH_BUILD)
	if unsupportedFlags(err) {
		err = pool.Create(libvirt.STORAGE_POOL_CREATE_NORMAL)
	}
	if isCode(err, libvirt.ERR_OPERATION_INVALID) {
		return nil // somebody was faster
	}
	return err
}

func poolXML(spec PoolSpec) (string, error) {
	if !namePattern.MatchString(spec.Name) || !filepath.IsAbs(spec.Path) {
		return "", fmt.Errorf("storage pool %q at %q: want a name and an absolute path", spec.Name, spec.Path)
	}
	pool := libvirtxml.StoragePool{Type: "dir", Name: spec.Name, Target: &libvirtxml.StoragePoolTarget{
		Path:        filepath.Clean(spec.Path),
		Permissions: &libvirtxml.StoragePoolTargetPermissions{Mode: "0711"},
	}}
	return pool.Marshal()
}

func poolAgrees(pool *libvirt.StoragePool, spec PoolSpec) error {
	text, err := pool.GetXMLDesc(0)
	if err != nil {
		return err
	}
	var have libvirtxml.StoragePool
	if err := have.Unmarshal(text); err != nil {
		return err
	}
	if have.Type == "dir" && have.Target != nil && filepath.Clean(have.Target.Path) == filepath.Clean(spec.Path) {
		return nil
	}
	at := "no path"
	if have.Target != nil {
		at = fmt.Sprintf("%q", have.Target.Path)
	}
	return hint.Wrap(fmt.Errorf("a %s pool at %s has that name, not one at %q: %w", have.Type, at, spec.Path, ErrForeign),
		"set data_dir in the host block to where the pool is, or remove the pool with `virsh pool-destroy %s` and `virsh pool-undefine %s`", spec.Name, spec.Name)
}

// Volumes lists the names of a pool's volumes. A missing pool has none.
func (h *Host) Volumes(ctx context.Context, pool string) ([]string, error) {
	return call(ctx, h, fmt.Sprintf("list volumes of pool %q", pool), func(c *libvirt.Connect) ([]string, error) {
		p, err := c.LookupStoragePoolByName(pool)
		if isCode(err, libvirt.ERR_NO_STORAGE_POOL) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		defer p.Free()
		if active, err := p.IsActive(); err != nil || !active {
			return nil, err
		}
		if err := refresh(ctx, p); err != nil {
			return nil, err
		}
		names, err := p.ListStorageVolumes()
		if err != nil {
			return nil, err
		}
		names = slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, completeSuffix) })
		slices.Sort(names)
		return names, nil
	})
}

// DeleteVolume removes a volume. A missing volume or pool is no error.
func (h *Host) DeleteVolume(ctx context.Context, pool, name string) error {
	if err := checkVolume(name); err != nil {
		return err
	}
	return do(ctx, h, fmt.Sprintf("delete volume %q", name), func(c *libvirt.Connect) error {
		// A run that died between making the pool and starting it leaves one that is not.
		err := withPool(c, pool, func(p *libvirt.StoragePool) error {
			// The mark goes first: what is left of a base is then incomplete.
			if err := deleteVolume(ctx, p, name+completeSuffix); err != nil {
				return err
			}
			return deleteVolume(ctx, p, name)
		})
		if isCode(err, libvirt.ERR_NO_STORAGE_POOL) {
			return nil
		}
		return err
	})
}

func deleteVolume(ctx context.Context, p *libvirt.StoragePool, name string) error {
	v, err := findVolume(ctx, p, name)
	if err != nil || v == nil {
		return err
	}
	defer v.Free()
	err = v.Delete(libvirt.STORAGE_VOL_DELETE_NORMAL)
	if isCode(err, libvirt.ERR_NO_STORAGE_VOL) {
		return nil
	}
	return err
}

// findVolume returns nil when there is none. libvirt only knows the volumes it
// made or saw at the last refresh, so a miss is looked up again after one.
func findVolume(ctx context.Context, p *libvirt.StoragePool, name string) (*libvirt.StorageVol, error) {
	v, err := p.LookupStorageVolByName(name)
	if !isCode(err, libvirt.ERR_NO_STORAGE_VOL) {
		return v, err
	}
	if err := refresh(ctx, p); err != nil {
		return nil, err
	}
	v, err = p.LookupStorageVolByName(name)
	if isCode(err, libvirt.ERR_NO_STORAGE_VOL) {
		return nil, nil
	}
	return v, err
}

// refresh makes libvirt look at the pool's directory. It refuses to while a volume
// is written in that pool, by anybody, so it is asked again until ctx ends.
func refresh(ctx context.Context, p *libvirt.StoragePool) error {
	for {
		err := p.Refresh(0)
		if !isCode(err, libvirt.ERR_INTERNAL_ERROR) || !strings.Contains(err.Error(), "asynchronous jobs") {
			return err
		}
		if sleep.For(ctx, poolBusy) != nil {
			return err
		}
	}
}

// poolBusy is how long to wait for a pool in which a volume is written.
const poolBusy = 20 * time.Millisecond

// withPool runs f with a pool that must exist and run.
func withPool(c *libvirt.Connect, name string, f func(*libvirt.StoragePool) error) error {
	p, err := c.LookupStoragePoolByName(name)
	if err != nil {
		return err
	}
	defer p.Free()
	active, err := p.IsActive()
	if err != nil {
		return err
	}
	if !active {
		if err := startPool(p); err != nil {
			return err
		}
	}
	return f(p)
}

// CreateOverlay makes a qcow2 volume of size bytes over the volume base. One
// that is there over the same base is grown when it is smaller.
func (h *Host) CreateOverlay(ctx context.Context, pool, name, base string, size uint64) error {
	if err := checkVolume(name); err != nil {
		return err
	}
	return do(ctx, h, fmt.Sprintf("make volume %q", name), func(c *libvirt.Connect) error {
		return withPool(c, pool, func(p *libvirt.StoragePool) error {
			return overlay(ctx, p, name, base, size)
		})
	})
}

func overlay(ctx context.Context, p *libvirt.StoragePool, name, base string, size uint64) error {
	below, err := findVolume(ctx, p, base)
	if err != nil {
		return err
	}
	if below == nil {
		return fmt.Errorf("base volume %q: %w", base, ErrMissing)
	}
	defer below.Free()
	path, err := below.GetPath()
	if err != nil {
		return err
	}
	old, err := findVolume(ctx, p, name)
	if err != nil {
		return err
	}
	if old != nil {
		defer old.Free()
		return growOverlay(old, path, size)
	}
	info, err := below.GetInfo()
	if err != nil {
		return err
	}
	if info.Capacity > size {
		return hint.Wrap(fmt.Errorf("size of %d bytes is below the image's %d", size, info.Capacity),
			"give the role a disk of %d GiB or more", (info.Capacity+1<<30-1)>>30)
	}
	text, err := overlayXML(name, path, size).Marshal()
	if err != nil {
		return err
	}
	v, err := p.StorageVolCreateXML(text, 0)
	if err != nil {
		return err
	}
	return v.Free()
}

func overlayXML(name, backing string, size uint64) *libvirtxml.StorageVolume {
	format := "qcow2"
	if strings.HasSuffix(backing, ".img") {
		format = "raw"
	}
	v := volumeXML(name, "qcow2", size)
	v.BackingStore = &libvirtxml.StorageVolumeBackingStore{
		Path: backing, Format: &libvirtxml.StorageVolumeTargetFormat{Type: format},
	}
	return v
}

// volumeXML is a sparse volume that only root and, once libvirt gives it to a
// guest, the guest's QEMU can read.
func volumeXML(name, format string, capacity uint64) *libvirtxml.StorageVolume {
	return &libvirtxml.StorageVolume{
		Name:       name,
		Allocation: &libvirtxml.StorageVolumeSize{Value: 0, Unit: "bytes"},
		Capacity:   &libvirtxml.StorageVolumeSize{Value: capacity, Unit: "bytes"},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: format},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0600"},
		},
	}
}

func growOverlay(v *libvirt.StorageVol, backing string, size uint64) error {
	text, err := v.GetXMLDesc(0)
	if err != nil {
		return err
	}
	var have libvirtxml.StorageVolume
	if err := have.Unmarshal(text); err != nil {
		return err
	}
	over := ""
	if have.BackingStore != nil {
		over = have.BackingStore.Path
	}
	if over != backing {
		return fmt.Errorf("it is over %q, not %q", over, backing)
	}
	info, err := v.GetInfo()
	switch {
	case err != nil:
		return err
	case info.Capacity > size:
		return fmt.Errorf("it has %d bytes and cannot shrink to %d", info.Capacity, size)
	case info.Capacity < size:
		return v.Resize(size, 0)
	}
	return nil
}
