// Package netclient says who counts as one client of a server on the network.
package netclient

import "net/netip"

// How much of an IPv6 address belongs to one client, who has all the others in it,
// and to one site (RFC 6177).
const (
	clientBits = 64
	siteBits   = 48
)

// Of is the client at an address such as "192.0.2.1:4452": an IPv4 address, or an
// IPv6 network of 64 bits. An IPv4 address in IPv6's form is the same client. What
// is no address is the zero Prefix, as one client.
func Of(address string) netip.Prefix { return prefix(address, clientBits) }

// Site is the network that a client of IPv6 is likely to have all of, of 48 bits;
// for IPv4 it is the client.
func Site(address string) netip.Prefix { return prefix(address, siteBits) }

func prefix(address string, bits int) netip.Prefix {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Prefix{}
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
