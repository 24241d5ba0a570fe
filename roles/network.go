package roles

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// The network that needs no declaration is libvirt's own.
const (
	defaultCIDR   = "192.168.122.0/24"
	defaultBridge = "virbr0"
)

var interfaceName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,14}$`)

// decodeNetwork reads a network block. Its value is what references see.
func (l *loader) decodeNetwork(n *node) cty.Value {
	net := &Network{Name: n.name, Range: n.at}
	n.network = net
	if n.block == nil {
		net.NAT = &NAT{CIDR: netip.MustParsePrefix(defaultCIDR), Bridge: defaultBridge}
		return networkValue(n)
	}
	f := l.open(n.block, nil, []string{"nat", "bridge"})
	nat, bridge := f.single("nat"), f.single("bridge")
	switch {
	case nat != nil && bridge != nil:
		l.fail(bridge.DefRange, "Conflicting blocks", "A network has a nat block or a bridge block, not both.")
	case nat != nil:
		net.NAT = l.decodeNAT(n, nat)
	case bridge != nil:
		net.Bridge = l.decodeBridge(bridge)
	default:
		l.fail(n.block.DefRange, "Incomplete network", "A network has a nat block, for guests behind the host, or a bridge block, for guests beside it.")
	}
	return networkValue(n)
}

func (l *loader) decodeBridge(block *hcl.Block) *Bridge {
	f := l.open(block, []string{"name", "cidr", "gateway", "dns"}, nil)
	f.require("name", `it is the interface of a bridge that exists on the host, such as "br0".`)
	b := &Bridge{Name: f.text("name", "")}
	f.checkInterface("name", b.Name)
	for _, name := range []string{"gateway", "dns"} {
		if f.has(name) && !f.has("cidr") {
			f.fail(name, "Unexpected argument", fmt.Sprintf("Without a \"cidr\" guests learn their %s by DHCP.", name))
		}
	}
	if text := f.text("cidr", ""); f.has("cidr") {
		b.CIDR = f.cidr("cidr", text)
	}
	if f.has("gateway") {
		b.Gateway = f.hostAddress("gateway", b.CIDR)
	}
	for _, text := range f.texts("dns") {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			f.fail("dns", "Unsuitable address", fmt.Sprintf("%q is not the address of a name server.", text))
			continue
		}
		b.DNS = append(b.DNS, a)
	}
	return b
}

func (l *loader) decodeNAT(n *node, block *hcl.Block) *NAT {
	f := l.open(block, []string{"cidr", "bridge"}, nil)
	cidr, bridge := "", defaultBridge
	if n.name == "default" {
		cidr = defaultCIDR
	} else {
		f.require("cidr", `it is the range of the guests' addresses, such as "192.168.150.0/24".`)
		sum := sha256.Sum256([]byte("bridge/" + l.hostName + "/" + n.name))
		bridge = "ovsa-" + hex.EncodeToString(sum[:4])
	}
	nat := &NAT{Bridge: f.text("bridge", bridge)}
	f.checkInterface("bridge", nat.Bridge)
	if text := f.text("cidr", cidr); text != "" {
		nat.CIDR = f.cidr("cidr", text)
	}
	return nat
}

// cidr parses the range of a network's addresses.
func (f fields) cidr(name, text string) netip.Prefix {
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !prefix.Addr().Is4():
		f.fail(name, "Invalid address range", `A range is an IPv4 network and its length, such as "192.168.150.0/24".`)
	case prefix.Masked() != prefix:
		f.fail(name, "Invalid address range", fmt.Sprintf("This is an address inside of a network. Did you mean %q?", prefix.Masked()))
	case prefix.Bits() < 8 || prefix.Bits() > 29:
		f.fail(name, "Invalid address range", "The length of a range is from /8 to /29.")
	case !prefix.Addr().IsGlobalUnicast():
		f.fail(name, "Invalid address range", "Guests cannot have addresses of this range.")
	default:
		return prefix
	}
	return netip.Prefix{}
}

// hostAddress reads an address that somebody on a network can have.
func (f fields) hostAddress(name string, network netip.Prefix) netip.Addr {
	s, ok := f.written(name)
	if !ok || !network.IsValid() {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	var problem string
	switch {
	case err != nil || a.Zone() != "":
		problem = `An address is written as "192.168.122.20".`
	case !network.Contains(a):
		problem = fmt.Sprintf("The address is outside of the network, %s.", network)
	case a == network.Addr():
		problem = fmt.Sprintf("This is the address of the network %s itself.", network)
	case a == broadcast(network):
		problem = fmt.Sprintf("This is the broadcast address of the network %s.", network)
	default:
		return a
	}
	f.fail(name, "Unsuitable address", problem)
	return netip.Addr{}
}

func (f fields) checkInterface(name, value string) {
	if value != "" && !interfaceName.MatchString(value) {
		f.fail(name, "Invalid interface name", "The name of an interface has up to 15 letters, digits, dots, dashes and underscores.")
	}
}

func networkValue(n *node) cty.Value {
	cidr := cty.NullVal(cty.String)
	gateway := cty.NullVal(cty.String)
	if nat := n.network.NAT; nat != nil && nat.CIDR.IsValid() {
		cidr = cty.StringVal(nat.CIDR.String())
		gateway = cty.StringVal(nat.Gateway().String())
	}
	if bridge := n.network.Bridge; bridge != nil && bridge.CIDR.IsValid() {
		cidr = cty.StringVal(bridge.CIDR.String())
		if bridge.Gateway.IsValid() {
			gateway = cty.StringVal(bridge.Gateway.String())
		}
	}
	return cty.ObjectVal(map[string]cty.Value{
		"id": cty.StringVal(n.addr()), "name": cty.StringVal(n.name), "cidr": cidr, "gateway": gateway,
	})
}

// Gateway is the host's own address on the network.
func (n NAT) Gateway() netip.Addr { return n.CIDR.Addr().Next() }

// Broadcast is the last address of the range.
func (n NAT) Broadcast() netip.Addr { return broadcast(n.CIDR) }

func broadcast(n netip.Prefix) netip.Addr {
	b := n.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|(1<<(32-n.Bits())-1))
	return netip.AddrFrom4(b)
}

// deriveAddress picks a guest's address on a NAT network by its names alone,
// so that it stays the same whatever else the manifest holds.
func deriveAddress(n NAT, host, role, network string) netip.Addr {
	sum := sha256.Sum256([]byte("address/" + host + "/" + role + "/" + network))
	hosts := uint64(1)<<(32-n.CIDR.Bits()) - 3 // without network, gateway, broadcast
	b := n.CIDR.Addr().As4()
	first := binary.BigEndian.Uint32(b[:]) + 2
	binary.BigEndian.PutUint32(b[:], first+uint32(binary.BigEndian.Uint64(sum[:8])%hosts))
	return netip.AddrFrom4(b)
}

// deriveMAC is a guest's hardware address by its names alone.
func deriveMAC(host, role, network string) string {
	sum := sha256.Sum256([]byte(host + "/" + role + "/" + network))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}
