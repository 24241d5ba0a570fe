package vm

import (
	"context"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"
)

// Start boots the guest; one that runs is left alone, one that is paused goes
// on.
func (h *Host) Start(ctx context.Context, name string) error {
	return do(ctx, h, fmt.Sprintf("start domain %q", name), func(c *libvirt.Connect) error {
		d, s, err := require(c, name)
		if err != nil {
			return err
		}
		defer d.Free()
		switch {
		case s.Status == "paused":
			return d.Resume()
		case s.Active:
			return nil
		}
		if err := d.Create(); err != nil {
			if active, activeErr := d.IsActive(); activeErr == nil && active {
				return nil // somebody was faster
			}
			return err
		}
		run, err := encodeRun(time.Now())
		if err != nil {
			return err
		}
		// For the uptime only: a guest without the mark is as good.
		_ = d.SetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, run, "ovsarun", runNamespace, libvirt.DOMAIN_AFFECT_LIVE)
		return nil
	})
}

// Stop shuts the guest down, and forces it off when it does not follow within
// Options.ShutdownTimeout. A missing or stopped guest is stopped.
func (h *Host) Stop(ctx context.Context, name string) error {
	operation := fmt.Sprintf("stop domain %q", name)
	stopped, err := call(ctx, h, operation, func(c *libvirt.Connect) (bool, error) {
		d, s, err := lookup(c, name)
		if err != nil || d == nil || !s.Active {
			return true, err
		}
		defer d.Free()
		if s.Status != "running" {
			return true, forceOff(d) // a paused guest hears no request
		}
		return false, h.shutDown(ctx, c, d)
	})
	if err != nil || stopped {
		return err
	}
	return do(ctx, h, operation, func(c *libvirt.Connect) error {
		d, s, err := lookup(c, name)
		if err != nil || d == nil {
			return err
		}
		defer d.Free()
		if !s.Active {
			return nil
		}
		return forceOff(d)
	})
}

// shutDown asks the guest to shut down until it has, ctx ends or the time is
// over. A guest in its early boot does not hear the first request.
func (h *Host) shutDown(ctx context.Context, c *libvirt.Connect, d *libvirt.Domain) error {
	ctx, cancel := context.WithTimeout(ctx, h.opts.ShutdownTimeout)
	defer cancel()
	changed := make(chan struct{}, 1)
	id, err := c.DomainEventLifecycleRegister(d, func(_ *libvirt.Connect, _ *libvirt.Domain, _ *libvirt.DomainEventLifecycle) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	if err == nil {
		defer c.DomainEventDeregister(id)
	} else if !isCode(err, libvirt.ERR_NO_SUPPORT) {
		return err
	}
	for tick := 0; ; tick++ {
		active, err := d.IsActive()
		if isCode(err, libvirt.ERR_NO_DOMAIN) || err == nil && !active {
			return nil
		} else if err != nil {
			return err
		}
		if tick%10 == 0 {
			// A guest that is on its way down refuses another request.
			_ = d.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(time.Second):
		}
	}
}

// forceOff cuts the guest's power.
func forceOff(d *libvirt.Domain) error {
	err := d.DestroyFlags(libvirt.DOMAIN_DESTROY_GRACEFUL)
	if err != nil && !isCode(err, libvirt.ERR_OPERATION_INVALID, libvirt.ERR_NO_DOMAIN) {
		err = d.Destroy()
	}
	if isCode(err, libvirt.ERR_OPERATION_INVALID, libvirt.ERR_NO_DOMAIN) {
		return nil // not running
	}
	return err
}

// Undefine forces the domain off and removes it with its NVRAM, vTPM state,
// managed save, snapshots and serial log. A missing domain is undefined.
func (h *Host) Undefine(ctx context.Context, name string) error {
	err := do(ctx, h, fmt.Sprintf("undefine domain %q", name), func(c *libvirt.Connect) error {
		d, s, err := lookup(c, name)
		if err != nil || d == nil {
			return err
		}
		defer d.Free()
		if s.Active {
			if err := forceOff(d); err != nil {
				return err
			}
		}
		return undefine(d)
	})
	if err != nil {
		return err
	}
	return h.removeSerialLog(ctx, name)
}

// undefine asks for everything at once and leaves out what this libvirt does
// not know: the vTPM flag came with 8.9, and the test driver has few.
func undefine(d *libvirt.Domain) error {
	flags := libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
		libvirt.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.DOMAIN_UNDEFINE_NVRAM | libvirt.DOMAIN_UNDEFINE_TPM
	var err error
	for _, less := range []libvirt.DomainUndefineFlagsValues{
		0, libvirt.DOMAIN_UNDEFINE_TPM, libvirt.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA, libvirt.DOMAIN_UNDEFINE_NVRAM,
	} {
		flags &^= less
		err = d.UndefineFlags(flags)
		if err == nil || isCode(err, libvirt.ERR_NO_DOMAIN) {
			return nil
		}
		if !unsupportedFlags(err) {
			return err
		}
	}
	return err
}
