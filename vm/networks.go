package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// EnsureNetwork makes the NAT network, or adopts one of that name that agrees
// with spec, and starts it. One that does not agree is ErrForeign.
func (h *Host) EnsureNetwork(ctx context.Context, spec NetworkSpec) error {
	definition, err := networkXML(spec)
	if err != nil {
		return err
	}
	return do(ctx, h, fmt.Sprintf("make network %q", spec.Name), func(c *libvirt.Connect) error {
		n, err := c.LookupNetworkByName(spec.Name)
		if isCode(err, libvirt.ERR_NO_NETWORK) {
			return createNetwork(c, spec, definition)
		} else if err != nil {
			return err
		}
		defer n.Free()
		have, err := readNetwork(n, libvirt.NETWORK_XML_INACTIVE)
		if err != nil {
			return err
		}
		if err := networkAgrees(have, spec); err != nil {
			return err
		}
		return startNetwork(n)
	})
}

func createNetwork(c *libvirt.Connect, spec NetworkSpec, definition string) error {
	others, err := c.ListAllNetworks(0)
	if err != nil {
		return err
	}
	defer func() {
		for i := range others {
			others[i].Free()
		}
	}()
	for i := range others {
		have, err := readNetwork(&others[i], libvirt.NETWORK_XML_INACTIVE)
		if err != nil {
			return err
		}
		if err := networkCollides(have, spec); err != nil {
			return err
		}
	}
	n, err := c.NetworkDefineXML(definition)
	if err != nil {
		return err
	}
	defer n.Free()
	if err := startNetwork(n); err != nil {
		return errors.Join(err, n.Undefine()) // what cannot start is not left for the next run to adopt
	}
	return n.SetAutostart(true)
}

func startNetwork(n *libvirt.Network) error {
	active, err := n.IsActive()
	if err != nil || active {
		return err
	}
	err = n.Create()
	if isCode(err, libvirt.ERR_OPERATION_INVALID) {
		if active, activeErr := n.IsActive(); activeErr == nil && active {
			return nil // somebody was faster
		}
	}
	return err
}

func readNetwork(n *libvirt.Network, flags libvirt.NetworkXMLFlags) (libvirtxml.Network, error) {
	var have libvirtxml.Network
	text, err := n.GetXMLDesc(flags)
	if unsupportedFlags(err) {
		text, err = n.GetXMLDesc(0)
	}
	if err == nil {
		err = have.Unmarshal(text)
	}
	return have, err
}

// Reserve adds or replaces one fixed lease, in the definition and in the
// running network, without disturbing others.
func (h *Host) Reserve(ctx context.Context, network string, r Reservation) error {
	entry, err := reservationXML(r)
	if err != nil {
		return err
	}
	operation := fmt.Sprintf("reserve %s on network %q", r.Address, network)
	return do(ctx, h, operation, func(c *libvirt.Connect) error {
		return eachView(c, network, func(n *libvirt.Network, have []Reservation, affect libvirt.NetworkUpdateFlags) error {
			replaced, err := PlanReservation(have, r)
			if err != nil {
				return hint.Wrap(err, "give the role another address, or remove the reservation with `virsh net-update %s delete ip-dhcp-host`", network)
			}
			if len(replaced) == 1 && sameReservation(replaced[0], r) {
				return nil
			}
			for _, old := range replaced {
				if err := removeReservation(n, old, affect); err != nil {
					return err
				}
			}
			return n.Update(libvirt.NETWORK_UPDATE_COMMAND_ADD_LAST, libvirt.NETWORK_SECTION_IP_DHCP_HOST, -1, entry, affect)
		})
	})
}

// Unreserve removes the fixed lease of mac. On a local host it also gives back
// the lease that dnsmasq still remembers for it; elsewhere that ends by itself.
// A missing network or lease is no error.
func (h *Host) Unreserve(ctx context.Context, network, mac string) error {
	operation := fmt.Sprintf("remove reservation of %s on network %q", mac, network)
	leased, err := call(ctx, h, operation, func(c *libvirt.Connect) (leases, error) {
		var out leases
		err := eachView(c, network, func(n *libvirt.Network, have []Reservation, affect libvirt.NetworkUpdateFlags) error {
			for _, old := range have {
				if !strings.EqualFold(old.MAC, mac) {
					continue
				}
				if err := removeReservation(n, old, affect); err != nil {
					return err
				}
			}
			if affect == libvirt.NETWORK_UPDATE_AFFECT_LIVE {
				var err error
				out, err = leasesOf(n, mac)
				return err
			}
			return nil
		})
		if isCode(err, libvirt.ERR_NO_NETWORK) {
			return leases{}, nil
		}
		return out, err
	})
	if err != nil || !local(h.uri) {
		return err
	}
	if err := leased.release(ctx); err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	return nil
}

// eachView runs f for the running network and for its definition, which may
// differ: each is read and changed by itself.
func eachView(c *libvirt.Connect, name string, f func(*libvirt.Network, []Reservation, libvirt.NetworkUpdateFlags) error) error {
	n, err := c.LookupNetworkByName(name)
	if err != nil {
		return err
	}
	defer n.Free()
	active, err := n.IsActive()
	if err != nil {
		return err
	}
	persistent, err := n.IsPersistent()
	if err != nil {
		return err
	}
	views := map[libvirt.NetworkUpdateFlags]libvirt.NetworkXMLFlags{}
	if active {
		views[libvirt.NETWORK_UPDATE_AFFECT_LIVE] = 0
	}
	if persistent {
		views[libvirt.NETWORK_UPDATE_AFFECT_CONFIG] = libvirt.NETWORK_XML_INACTIVE
	}
	for _, affect := range []libvirt.NetworkUpdateFlags{libvirt.NETWORK_UPDATE_AFFECT_CONFIG, libvirt.NETWORK_UPDATE_AFFECT_LIVE} {
		flags, ok := views[affect]
		if !ok {
			continue
		}
		have, err := readNetwork(n, flags)
		if err != nil {
			return err
		}
		if err := f(n, reservations(have), affect); err != nil {
			return err
		}
	}
	return nil
}

func removeReservation(n *libvirt.Network, r Reservation, affect libvirt.NetworkUpdateFlags) error {
	entry, err := reservationXML(r)
	if err != nil {
		return err
	}
	err = n.Update(libvirt.NETWORK_UPDATE_COMMAND_DELETE, libvirt.NETWORK_SECTION_IP_DHCP_HOST, -1, entry, affect)
	if isCode(err, libvirt.ERR_OPERATION_INVALID) && strings.Contains(err.Error(), "couldn't locate") {
		return nil // another run removed it
	}
	return err
}
