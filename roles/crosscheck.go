package roles

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// claim is something that only one guest or network can have.
type claim struct {
	by      string // `role "runtime"`
	at      hcl.Range
	derived bool // from names: the user did not write it
}

// claims are by what is claimed.
type claims map[string]claim

// take records a claim. When somebody has it already it returns the two in the
// order (to blame, other): a derived value gives way to a written one.
func (c claims) take(what string, n claim) (blame, other claim, clash bool) {
	old, taken := c[what]
	if !taken {
		c[what] = n
		return claim{}, claim{}, false
	}
	if old.derived && !n.derived {
		c[what] = n
		return old, n, true
	}
	return n, old, true
}

// crossCheck finds what is right alone and wrong beside the rest.
func (l *loader) crossCheck() {
	l.checkNetworks()
	displays, macs, addresses := make(claims), make(claims), make(claims)
	for _, n := range l.order {
		if n.role == nil {
			continue
		}
		by := fmt.Sprintf("role %q", n.name)
		if vnc := n.role.VNC; vnc != nil {
			if blame, other, clash := displays.take(fmt.Sprint(vnc.Display), claim{by: by, at: n.places.vnc}); clash {
				l.fail(blame.at, "Duplicate VNC display", fmt.Sprintf("The display %d is also that of %s, %s.", vnc.Display, other.by, place(other.at)))
			}
		}
		for i, nic := range n.role.Networks {
			p := n.places.nics[i]
			l.claimMAC(macs, nic, claim{by, p.mac, p.derivedMAC})
			l.claimAddress(addresses, nic, claim{by, p.address, p.derivedAddress})
		}
	}
}

func (l *loader) claimMAC(macs claims, nic NIC, c claim) {
	if nic.MAC == "" {
		return
	}
	blame, other, clash := macs.take(nic.MAC, c)
	switch {
	case !clash:
	case blame.derived:
		l.fail(blame.at, "Duplicate MAC address", fmt.Sprintf("The MAC address derived from the names here, %s, is also that of %s, %s. Give this one its own:\n\n    mac = \"52:54:00:...\"", nic.MAC, other.by, place(other.at)))
	default:
		l.fail(blame.at, "Duplicate MAC address", fmt.Sprintf("The MAC address %s is also that of %s, %s.", nic.MAC, other.by, place(other.at)))
	}
}

func (l *loader) claimAddress(addresses claims, nic NIC, c claim) {
	if !nic.Address.IsValid() {
		return
	}
	blame, other, clash := addresses.take(nic.Address.String(), c)
	switch {
	case !clash:
	case blame.derived:
		l.fail(blame.at, "Duplicate address", fmt.Sprintf("The address derived from the names here, %s, is also that of %s, %s. Give this one its own:\n\n    network %q { address = \"...\" }", nic.Address, other.by, place(other.at), nic.Network))
	default:
		l.fail(blame.at, "Duplicate address", fmt.Sprintf("The address %s is also that of %s, %s.", nic.Address, other.by, place(other.at)))
	}
}

// checkNetworks finds NAT networks that share a bridge or addresses. The
// network that is not declared comes first: it is never the one to blame.
func (l *loader) checkNetworks() {
	var nats []*node
	for _, n := range l.order {
		switch {
		case n.network == nil || n.network.NAT == nil:
		case n.block != nil:
			nats = append(nats, n)
		case n.used:
			nats = append([]*node{n}, nats...)
		}
	}
	bridges := make(claims)
	for _, n := range nats {
		c := claim{by: fmt.Sprintf("network %q", n.name), at: n.at}
		if blame, other, clash := bridges.take(n.network.NAT.Bridge, c); clash {
			l.fail(blame.at, "Duplicate bridge", fmt.Sprintf("The bridge %q is also that of %s, %s.", n.network.NAT.Bridge, other.by, place(other.at)))
		}
	}
	l.checkOverlaps(nats)
}

// checkOverlaps compares neighbours in the order of their addresses.
func (l *loader) checkOverlaps(nats []*node) {
	cidr := func(n *node) netip.Prefix { return n.network.NAT.CIDR }
	nats = slices.DeleteFunc(nats, func(n *node) bool { return !cidr(n).IsValid() })
	slices.SortStableFunc(nats, func(a, b *node) int { return cidr(a).Addr().Compare(cidr(b).Addr()) })
	for i := 1; i < len(nats); i++ {
		a, b := nats[i-1], nats[i]
		if b.block == nil {
			a, b = b, a
		}
		if cidr(a).Overlaps(cidr(b)) {
			l.fail(b.at, "Overlapping networks", fmt.Sprintf("The range %s overlaps with %s of network %q.", cidr(b), cidr(a), a.name))
		}
	}
}
