package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// runNamespace marks an element that only the running domain has: when it was
// started. It is gone when the domain stops.
const runNamespace = "https://ovsactl.dev/xmlns/run/1"

// Domains describes every domain of the host, ours and foreign.
func (h *Host) Domains(ctx context.Context) ([]State, error) {
	return call(ctx, h, "list domains", func(c *libvirt.Connect) ([]State, error) {
		domains, err := c.ListAllDomains(0)
		if err != nil {
			return nil, err
		}
		defer func() {
			for i := range domains {
				domains[i].Free()
			}
		}()
		states := make([]State, 0, len(domains))
		for i := range domains {
			s, err := describe(&domains[i])
			if isCode(err, libvirt.ERR_NO_DOMAIN) {
				continue // gone since the list was made
			} else if err != nil {
				return nil, err
			}
			states = append(states, s)
		}
		return states, nil
	})
}

// Inspect describes one domain. A missing one is a State with Exists false.
func (h *Host) Inspect(ctx context.Context, name string) (State, error) {
	return call(ctx, h, fmt.Sprintf("inspect domain %q", name), func(c *libvirt.Connect) (State, error) {
		d, err := c.LookupDomainByName(name)
		if isCode(err, libvirt.ERR_NO_DOMAIN) {
			return State{Name: name}, nil
		} else if err != nil {
			return State{}, err
		}
		defer d.Free()
		return describe(d)
	})
}

// describe takes the definition from the persistent configuration and what
// runs from the running domain.
func describe(d *libvirt.Domain) (State, error) {
	status, reason, err := d.GetState()
	if err != nil {
		return State{}, err
	}
	definition, err := d.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		return State{}, err
	}
	s, err := ParseDomain(definition)
	if err != nil {
		// Somebody else's domain with something we cannot read: what matters is
		// that its name is taken.
		name, nameErr := d.GetName()
		s = State{Name: name, Exists: true, Problem: err.Error()}
		if nameErr != nil {
			return State{}, nameErr
		}
	}
	s.Status, s.Reason = statusText(status, reason)
	s.Active = status != libvirt.DOMAIN_SHUTOFF && status != libvirt.DOMAIN_CRASHED
	if s.Autostart, err = d.GetAutostart(); err != nil && !isCode(err, libvirt.ERR_OPERATION_INVALID, libvirt.ERR_NO_SUPPORT) {
		return State{}, err
	}
	if s.Active && s.Ours {
		s.StartedAt = startedAt(d)
		s.Stale = stale(d, s.Metadata)
	}
	return s, nil
}

// startedAt reads the mark that Start leaves; zero when somebody else started it.
func startedAt(d *libvirt.Domain) time.Time {
	element, err := d.GetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, runNamespace, libvirt.DOMAIN_AFFECT_LIVE)
	if err != nil {
		return time.Time{}
	}
	return parseRun(element)
}

// stale says whether the running domain was started from another definition.
func stale(d *libvirt.Domain, want Metadata) bool {
	element, err := d.GetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, MetadataNamespace, libvirt.DOMAIN_AFFECT_LIVE)
	if err != nil || len(element) > maxMetadata {
		return false
	}
	live, err := decodeMetadata([]byte(element), "") // libvirt takes the namespace off
	return err == nil && live.Manifest != want.Manifest
}

// lookup finds a domain, nil when there is none. One that is not ours is
// ErrForeign. The caller frees it.
func lookup(c *libvirt.Connect, name string) (*libvirt.Domain, State, error) {
	d, err := c.LookupDomainByName(name)
	if isCode(err, libvirt.ERR_NO_DOMAIN) {
		return nil, State{Name: name}, nil
	} else if err != nil {
		return nil, State{}, err
	}
	s, err := describe(d)
	if err == nil && !s.Ours {
		err = foreign(s)
	}
	if err != nil {
		d.Free()
		return nil, State{}, err
	}
	return d, s, nil
}

func foreign(s State) error {
	if s.Problem != "" {
		return hint.Wrap(fmt.Errorf("%w: its metadata cannot be read (%s)", ErrForeign, s.Problem),
			"look at it with `virsh dumpxml %s`", s.Name)
	}
	return hint.Wrap(ErrForeign, "a domain of this name exists and was not made by ovsactl: rename the role, or remove it with `virsh undefine %s`", s.Name)
}

// require is lookup for a domain that must exist.
func require(c *libvirt.Connect, name string) (*libvirt.Domain, State, error) {
	d, s, err := lookup(c, name)
	if err == nil && d == nil {
		err = ErrMissing
	}
	return d, s, err
}

// Define makes the domain match spec without starting it. A running domain gets
// it at its next start and is Stale until then.
func (h *Host) Define(ctx context.Context, spec Spec) error {
	definition, err := DomainXML(spec)
	if err != nil {
		return err
	}
	return do(ctx, h, fmt.Sprintf("define domain %q", spec.Name), func(c *libvirt.Connect) error {
		old, s, err := lookup(c, spec.Name)
		if err != nil {
			return err
		}
		if old != nil {
			defer old.Free()
			if err := redefinable(old, s, spec); err != nil {
				return err
			}
		} else if err := uuidFree(c, spec.UUID); err != nil {
			return err
		}
		d, err := validated(func() (*libvirt.Domain, error) {
			h.defining.Lock()
			defer h.defining.Unlock()
			return c.DomainDefineXMLFlags(definition, libvirt.DOMAIN_DEFINE_VALIDATE)
		})
		if err != nil {
			return err
		}
		return d.Free()
	})
}

// validated defines a domain that libvirt checks against its schema. libxml2 sets
// the schema's types up without a lock, so that of the first definitions that a
// libvirtd gets, at the same time, some fail because of the schema itself. We send
// one at a time; where somebody else's came in between, it is asked again.
func validated(define func() (*libvirt.Domain, error)) (d *libvirt.Domain, err error) {
	for range 3 {
		d, err = define()
		var e libvirt.Error
		if !errors.As(err, &e) || e.Code != libvirt.ERR_INTERNAL_ERROR || !strings.Contains(e.Message, "Unable to parse RNG") {
			return d, err
		}
	}
	return nil, err
}

// redefinable refuses a definition that a saved guest would ignore: libvirt
// restores the old one with it.
func redefinable(d *libvirt.Domain, s State, spec Spec) error {
	if s.UUID != spec.UUID {
		return fmt.Errorf("it has UUID %s, not %s: %w", s.UUID, spec.UUID, ErrForeign)
	}
	saved, err := d.HasManagedSaveImage(0)
	if err != nil && !isCode(err, libvirt.ERR_NO_SUPPORT) {
		return err
	}
	if saved && s.Metadata.Manifest != spec.Metadata.Manifest {
		return hint.Wrap(errors.New("the guest is saved to disk with its old definition"),
			"start it and let it shut down (`virsh start %s`), or drop what was saved (`virsh managedsave-remove %s`)", s.Name, s.Name)
	}
	return nil
}

func uuidFree(c *libvirt.Connect, uuid string) error {
	d, err := c.LookupDomainByUUIDString(uuid)
	if isCode(err, libvirt.ERR_NO_DOMAIN) {
		return nil
	} else if err != nil {
		return err
	}
	defer d.Free()
	name, err := d.GetName()
	if err != nil {
		return err
	}
	return fmt.Errorf("UUID %s belongs to domain %q: %w", uuid, name, ErrForeign)
}

// SetMetadata replaces our metadata, in the definition and in the running
// domain.
func (h *Host) SetMetadata(ctx context.Context, name string, m Metadata) error {
	element, err := m.encode()
	if err != nil {
		return fmt.Errorf("set metadata of domain %q: %w", name, err)
	}
	return do(ctx, h, fmt.Sprintf("set metadata of domain %q", name), func(c *libvirt.Connect) error {
		d, s, err := require(c, name)
		if err != nil {
			return err
		}
		defer d.Free()
		affect := libvirt.DOMAIN_AFFECT_CONFIG
		if s.Active {
			affect |= libvirt.DOMAIN_AFFECT_LIVE
		}
		return d.SetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, string(element), MetadataPrefix, MetadataNamespace, affect)
	})
}
