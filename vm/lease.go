package vm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"
)

// leases are addresses that a network's dnsmasq has leased to one MAC.
type leases struct {
	bridge    string
	server    netip.Addr
	mac       net.HardwareAddr
	addresses []netip.Addr
}

func leasesOf(n *libvirt.Network, mac string) (leases, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return leases{}, err
	}
	have, err := n.GetDHCPLeases()
	if isCode(err, libvirt.ERR_NO_SUPPORT) {
		return leases{}, nil
	} else if err != nil {
		return leases{}, err
	}
	bridge, err := n.GetBridgeName()
	if err != nil {
		return leases{}, err
	}
	definition, err := readNetwork(n, 0)
	if err != nil {
		return leases{}, err
	}
	out := leases{bridge: bridge, mac: hw}
	for _, ip := range definition.IPs {
		if addr, err := netip.ParseAddr(ip.Address); err == nil && addr.Is4() && !out.server.IsValid() {
			out.server = addr
		}
	}
	for _, lease := range have {
		addr, err := netip.ParseAddr(lease.IPaddr)
		if err == nil && addr.Is4() && strings.EqualFold(lease.Mac, mac) {
			out.addresses = append(out.addresses, addr)
		}
	}
	return out, nil
}

// release tells dnsmasq, as the guest would have, that the addresses are free.
// dnsmasq keeps leases in memory, so editing its file would not do. It listens
// on the bridge only, so the message is sent out of the bridge to the bridge's
// own address.
func (l leases) release(ctx context.Context) error {
	for _, addr := range l.addresses {
		err := l.releaseOne(addr)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
			return nil // not root, or not this machine's bridge: the lease ends by itself within an hour
		} else if err != nil {
			return fmt.Errorf("give back the lease of %s: %w", addr, err)
		}
	}
	return ctx.Err()
}

func (l leases) releaseOne(addr netip.Addr) error {
	if !l.server.IsValid() {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.BindToDevice(fd, l.bridge); err != nil {
		return err
	}
	return unix.Sendto(fd, releaseMessage(l.mac, addr, l.server), 0, &unix.SockaddrInet4{Port: 67, Addr: l.server.As4()})
}

// releaseMessage is a DHCPRELEASE (RFC 2131 section 4.4.6).
func releaseMessage(mac net.HardwareAddr, addr, server netip.Addr) []byte {
	msg := make([]byte, 236, 300)
	msg[0], msg[1], msg[2] = 1, 1, byte(len(mac)) // BOOTREQUEST, Ethernet
	binary.BigEndian.PutUint32(msg[4:], 0x6f767361)
	copy(msg[12:16], addr.AsSlice())
	copy(msg[28:44], mac)
	msg = append(msg, 0x63, 0x82, 0x53, 0x63) // magic cookie
	msg = append(msg, 53, 1, 7)               // message type: release
	msg = append(msg, 54, 4)                  // server identifier
	msg = append(msg, server.AsSlice()...)
	msg = append(msg, 255)
	return append(msg, make([]byte, 300-len(msg))...)
}
