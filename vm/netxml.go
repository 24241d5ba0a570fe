package vm

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// networkXML renders a NAT network whose gateway is the first address of its
// range and that leases all others.
func networkXML(spec NetworkSpec) (string, error) {
	cidr := spec.CIDR.Masked()
	if !namePattern.MatchString(spec.Name) || !cidr.Addr().Is4() || cidr.Bits() > 29 || cidr.Bits() < 8 {
		return "", fmt.Errorf("network %q: want a name and an IPv4 range between /8 and /29, not %s", spec.Name, spec.CIDR)
	}
	first, last := hostRange(cidr)
	n := libvirtxml.Network{
		Name:    spec.Name,
		Forward: &libvirtxml.NetworkForward{Mode: "nat"},
		Bridge:  &libvirtxml.NetworkBridge{Name: spec.Bridge, STP: "on", Delay: "0"},
		IPs: []libvirtxml.NetworkIP{{
			Address: first.String(), Netmask: net.IP(net.CIDRMask(cidr.Bits(), 32)).String(),
			DHCP: &libvirtxml.NetworkDHCP{Ranges: []libvirtxml.NetworkDHCPRange{{Start: first.Next().String(), End: last.String()}}},
		}},
	}
	out, err := n.Marshal()
	if err != nil {
		return "", fmt.Errorf("render network %q: %w", spec.Name, err)
	}
	return out + "\n", nil
}

// hostRange returns the first and last host address of an IPv4 range.
func hostRange(cidr netip.Prefix) (netip.Addr, netip.Addr) {
	base := cidr.Addr().As4()
	size := uint32(1) << (32 - cidr.Bits())
	var end [4]byte
	binary.BigEndian.PutUint32(end[:], binary.BigEndian.Uint32(base[:])+size-2)
	return cidr.Addr().Next(), netip.AddrFrom4(end)
}

// networkRange is the IPv4 range of a network, zero when it has none.
func networkRange(n libvirtxml.Network) netip.Prefix {
	for _, ip := range n.IPs {
		addr, err := netip.ParseAddr(ip.Address)
		if err != nil || !addr.Is4() {
			continue
		}
		bits := int(ip.Prefix)
		if mask := net.ParseIP(ip.Netmask).To4(); mask != nil {
			bits, _ = net.IPMask(mask).Size()
		}
		if p, err := addr.Prefix(bits); err == nil && bits > 0 {
			return p
		}
	}
	return netip.Prefix{}
}

// networkAgrees says whether an existing network is what spec asks for. What
// spec does not speak of (DNS, domain, reservations) may be anything.
func networkAgrees(have libvirtxml.Network, spec NetworkSpec) error {
	mode, bridge, dhcp := "isolated", "", false
	if have.Forward != nil {
		mode = have.Forward.Mode
	}
	if have.Bridge != nil {
		bridge = have.Bridge.Name
	}
	for _, ip := range have.IPs {
		dhcp = dhcp || ip.DHCP != nil
	}
	var differs []string
	if mode != "nat" {
		differs = append(differs, fmt.Sprintf("its mode is %s, not nat", mode))
	}
	if spec.Bridge != "" && bridge != spec.Bridge {
		differs = append(differs, fmt.Sprintf("its bridge is %q, not %q", bridge, spec.Bridge))
	}
	if r := networkRange(have); r != spec.CIDR.Masked() {
		differs = append(differs, fmt.Sprintf("its range is %s, not %s", r, spec.CIDR.Masked()))
	}
	if !dhcp {
		differs = append(differs, "it has no DHCP")
	}
	if differs == nil {
		return nil
	}
	return hint.Wrap(fmt.Errorf("a network of that name differs: %s: %w", strings.Join(differs, ", "), ErrForeign),
		"change the network block to match `virsh net-dumpxml %s`, or use another name, bridge and range", spec.Name)
}

// networkCollides says whether a network of another name stands in the way.
func networkCollides(have libvirtxml.Network, spec NetworkSpec) error {
	if spec.Bridge != "" && have.Bridge != nil && have.Bridge.Name == spec.Bridge {
		return hint.Wrap(fmt.Errorf("bridge %q belongs to network %q: %w", spec.Bridge, have.Name, ErrForeign),
			"choose another bridge for the network")
	}
	if r := networkRange(have); r.IsValid() && r.Overlaps(spec.CIDR) {
		return hint.Wrap(fmt.Errorf("range %s overlaps %s of network %q: %w", spec.CIDR, r, have.Name, ErrForeign),
			"choose another cidr for the network")
	}
	return nil
}

// reservations lists the fixed leases of a network.
func reservations(n libvirtxml.Network) []Reservation {
	var out []Reservation
	for _, ip := range n.IPs {
		if ip.DHCP == nil {
			continue
		}
		for _, host := range ip.DHCP.Hosts {
			addr, err := netip.ParseAddr(host.IP)
			if err != nil || host.MAC == "" {
				continue // by DHCPv6 id or name alone: not what we make
			}
			out = append(out, Reservation{MAC: strings.ToLower(host.MAC), Address: addr, Name: host.Name})
		}
	}
	return out
}

func reservationXML(r Reservation) (string, error) {
	if _, err := net.ParseMAC(r.MAC); err != nil {
		return "", fmt.Errorf("reservation: %w", err)
	}
	if !r.Address.Is4() {
		return "", fmt.Errorf("reservation of %s: address %s is not IPv4", r.MAC, r.Address)
	}
	host := libvirtxml.NetworkDHCPHost{MAC: strings.ToLower(r.MAC), Name: r.Name, IP: r.Address.String()}
	return host.Marshal()
}

func sameReservation(a, b Reservation) bool {
	return strings.EqualFold(a.MAC, b.MAC) && a.Address == b.Address && a.Name == b.Name
}
