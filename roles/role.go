package roles

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// What a role has where it does not say: the guide's values.
const (
	defaultCPUs   = 8
	defaultMemory = 4 * GiB
	defaultDisk   = 20 * GiB
	defaultUser   = "ovsa"

	minMemory = 256 * MiB // less does not boot
	minDisk   = GiB

	defaultTimeout = 10 * time.Minute
	licensePort    = 4452
)

// maxDisplay is the last VNC display that has a TCP port, 5900 + display.
const maxDisplay = 65535 - 5900

var userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// places are where a role says what no other role may say.
type places struct {
	vnc  hcl.Range
	nics []nicPlaces // as Role.Networks
}

type nicPlaces struct {
	block, mac, address hcl.Range
	derivedMAC          bool
	derivedAddress      bool
}

// decodeRole reads a role block. Its value is what references see.
func (l *loader) decodeRole(n *node) cty.Value {
	f := l.open(n.block,
		[]string{"image", "cpus", "memory", "disk", "firmware", "ssh_user", "clone_of"},
		[]string{"kernel", "network NAME", "vnc", "vtpm", "component NAME"})
	if f.has("clone_of") {
		l.unsupported(f.content.Attributes["clone_of"].Range, "clone_of")
	}
	r := &Role{
		Name:    n.name,
		CPUs:    f.integer("cpus", defaultCPUs, 1, 512),
		Memory:  f.size("memory", defaultMemory, minMemory, 16*TiB),
		Disk:    f.size("disk", defaultDisk, minDisk, 64*TiB),
		SSHUser: f.text("ssh_user", defaultUser),
		VTPM:    l.decodeVTPM(f.single("vtpm")),
		Range:   n.at,
	}
	n.role = r
	f.checkWhole("memory", r.Memory)
	f.checkWhole("disk", r.Disk)
	if !userName.MatchString(r.SSHUser) {
		f.fail("ssh_user", "Unsuitable value", "This cannot be the name of a user.")
	}
	img := l.roleImage(f)
	if img != nil {
		r.Image = img.name
		if b := img.image.Build; b != nil && r.Disk < b.Size {
			f.fail("disk", "Disk smaller than its image", fmt.Sprintf("The disk is at least as large as the image it starts from, %s.", FormatSize(b.Size)))
		}
	}
	l.decodeKernel(f, r, img)
	l.decodeVNC(f.single("vnc"), n)
	l.decodeNICs(f, n)
	l.decodeComponents(f, r)
	return roleValue(n)
}

// roleImage is the image that a role names, or the only one there is.
func (l *loader) roleImage(f fields) *node {
	var img *node
	switch declared := l.declaredImages(); {
	case f.has("image"):
		img = f.reference("image", "image")
	case len(declared) == 0:
		img = l.nodes["image.default"]
	case len(declared) == 1:
		img = declared[0]
	default:
		l.fail(f.block, "Missing required argument", `The argument "image" is required, since there is more than one image.`)
	}
	if img != nil {
		l.eval(img, f.at("image"))
		img.used = true
	}
	if img == nil || img.image == nil {
		return nil
	}
	return img
}

// declaredImages is the first two images that are declared: none, one or more
// than one is all that matters.
func (l *loader) declaredImages() []*node {
	var out []*node
	for _, name := range l.names["image"] {
		if n := l.nodes["image."+name]; n.block != nil {
			out = append(out, n)
		}
		if len(out) == 2 {
			break
		}
	}
	return out
}

func (l *loader) decodeKernel(f fields, r *Role, img *node) {
	block := f.single("kernel")
	words := []string{"uefi", "bios", "kernel"}
	if block != nil && !f.has("firmware") {
		r.Firmware = "kernel"
	} else {
		r.Firmware = f.oneOf("firmware", words...)
	}
	switch {
	case block != nil && r.Firmware != "kernel":
		l.fail(block.DefRange, "Unexpected kernel block", `A kernel block goes with firmware = "kernel".`)
	case block != nil:
		k := l.open(block, []string{"path", "initrd", "cmdline"}, nil)
		k.require("path", "it is the kernel's file on the host.")
		r.Kernel = &Kernel{Path: k.path("path"), Initrd: k.path("initrd"), Cmdline: k.text("cmdline", "")}
	case r.Firmware == "kernel" && img != nil && img.image.Build == nil:
		f.fail("firmware", "Missing kernel block", "Only images that are built here bring their kernel along; for others a kernel block names it.")
	}
}

// decodeVTPM reads the vtpm block. A role has one unless it says "none".
func (l *loader) decodeVTPM(block *hcl.Block) *VTPM {
	if block == nil {
		return &VTPM{Model: "crb"}
	}
	f := l.open(block, []string{"model"}, nil)
	model := f.oneOf("model", "crb", "tis", "none")
	if model == "none" {
		return nil
	}
	return &VTPM{Model: model}
}

func (l *loader) decodeVNC(block *hcl.Block, n *node) {
	if block == nil {
		return
	}
	f := l.open(block, []string{"display"}, nil)
	// The displays of the guide's two guests.
	display, known := map[string]int{"isv_dev": 1, "runtime": 2}[n.name]
	if !known {
		f.require("display", "the port is 5900 + display, on the host's loopback.")
	}
	n.places.vnc = f.at("display")
	n.role.VNC = &VNC{Display: f.integer("display", display, 0, maxDisplay)}
	if !f.has("display") && !known {
		n.role.VNC = nil
	}
}

func (l *loader) decodeNICs(f fields, n *node) {
	seen := make(map[string]hcl.Range)
	for _, b := range f.content.Blocks {
		if b.Type != "network" {
			continue
		}
		name, at := b.Labels[0], b.LabelRanges[0]
		net := l.nodes["network."+name]
		first, again := seen[name]
		switch {
		case net == nil:
			l.fail(at, "Unknown network", fmt.Sprintf("There is no network named %q.", name)+didYouMean(name, l.names["network"]))
			continue
		case again:
			l.fail(at, "Duplicate network", fmt.Sprintf("The role is on network %q already, %s.", name, place(first)))
			continue
		}
		seen[name] = at
		l.eval(net, at)
		l.decodeNIC(l.open(b, []string{"mac", "address"}, nil), n, net)
	}
	if len(f.content.Blocks.OfType("network")) == 0 {
		net := l.nodes["network.default"]
		l.eval(net, f.block)
		l.decodeNIC(fields{l, &hcl.BodyContent{}, f.block}, n, net)
	}
}

func (l *loader) decodeNIC(f fields, n, net *node) {
	net.used = true
	nic := NIC{Network: net.name, MAC: deriveMAC(l.hostName, n.name, net.name)}
	at := nicPlaces{block: f.block, mac: f.at("mac"), address: f.at("address"), derivedMAC: !f.has("mac"), derivedAddress: !f.has("address")}
	if f.has("mac") {
		nic.MAC = f.hardwareAddress("mac")
	}
	if net.network != nil {
		nat, bridge := net.network.NAT, net.network.Bridge
		switch {
		case f.has("address") && bridge != nil && bridge.CIDR.IsValid():
			nic.Address = f.hostAddress("address", bridge.CIDR)
			if nic.Address.IsValid() && nic.Address == bridge.Gateway {
				f.fail("address", "Unsuitable address", fmt.Sprintf("This is the gateway of network %q.", net.name))
			}
		case f.has("address"):
			nic.Address = f.address("address", nat)
		case bridge != nil && bridge.CIDR.IsValid():
			f.require("address", fmt.Sprintf("nobody gives out addresses on network %q, which has a range of its own.", net.name))
		case nat != nil && nat.CIDR.IsValid():
			nic.Address = deriveAddress(*nat, l.hostName, n.name, net.name)
		}
	}
	n.role.Networks = append(n.role.Networks, nic)
	n.places.nics = append(n.places.nics, at)
}

func (f fields) hardwareAddress(name string) string {
	s, ok := f.written(name)
	if !ok {
		return ""
	}
	mac, err := net.ParseMAC(s)
	switch {
	case err != nil || len(mac) != 6:
		f.fail(name, "Invalid MAC address", `A MAC address is six bytes in hexadecimal, such as "52:54:00:d1:66:5f".`)
		return ""
	case mac[0]&1 != 0:
		f.fail(name, "Invalid MAC address", "This is the address of a group. The first byte of a guest's address is even, such as 52.")
		return ""
	case mac.String() == "00:00:00:00:00:00":
		f.fail(name, "Invalid MAC address", "The address of all zeros belongs to nobody.")
		return ""
	}
	return mac.String()
}

// address reads an address; on a NAT network it has to be one that a guest of
// that network can have.
func (f fields) address(name string, nat *NAT) netip.Addr {
	s, ok := f.written(name)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	problem := ""
	switch {
	case err != nil || a.Zone() != "":
		problem = `An address is written as "192.168.122.20".`
	case nat == nil && !a.IsGlobalUnicast():
		problem = "A guest cannot have this address."
	case nat == nil || !nat.CIDR.IsValid():
	case a == nat.Gateway():
		problem = fmt.Sprintf("This is the host's own address on the network %s.", nat.CIDR)
	default:
		return f.hostAddress(name, nat.CIDR)
	}
	if problem != "" {
		f.fail(name, "Unsuitable address", problem)
		return netip.Addr{}
	}
	return a
}

func roleValue(n *node) cty.Value {
	r := n.role
	address := cty.NullVal(cty.String)
	if len(r.Networks) > 0 && r.Networks[0].Address.IsValid() {
		address = cty.StringVal(r.Networks[0].Address.String())
	}
	return cty.ObjectVal(map[string]cty.Value{
		"id":      cty.StringVal(n.addr()),
		"name":    cty.StringVal(n.name),
		"address": address,
		"cpus":    cty.NumberIntVal(int64(r.CPUs)),
		"memory":  cty.StringVal(FormatSize(r.Memory)),
		"disk":    cty.StringVal(FormatSize(r.Disk)),
	})
}
