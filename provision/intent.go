package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/roles"
)

// intent is a role as the user wrote it, with everything that makes its guest
// what it is and nothing that does not. It is kept in the domain as canonical
// JSON: encoding/json writes fields in this order and sorts keys.
type intent struct {
	Image      imageIntent       `json:"image"`
	CPUs       int               `json:"cpus"`
	Memory     uint64            `json:"memory"`
	Disk       uint64            `json:"disk"`
	Accel      string            `json:"accel"`
	Firmware   string            `json:"firmware"`
	Kernel     *roles.Kernel     `json:"kernel,omitempty"`
	Networks   []nicIntent       `json:"networks"`
	VNC        *int              `json:"vnc,omitempty"`
	VTPM       string            `json:"vtpm,omitempty"`
	User       string            `json:"user"`
	Components []componentIntent `json:"components,omitempty"`
}

// imageIntent identifies an image by what the user asked for. That a newer
// ovsactl would build it otherwise does not make it another image.
type imageIntent struct {
	Build  *roles.ImageBuild `json:"build,omitempty"`
	SHA256 string            `json:"sha256,omitempty"`
	File   string            `json:"file,omitempty"`
}

type nicIntent struct {
	Network string `json:"network"`
	NAT     string `json:"nat,omitempty"`
	Bridge  string `json:"bridge,omitempty"`
	Static  string `json:"static,omitempty"` // the bridge's range, gateway and name servers
	MAC     string `json:"mac"`
	Address string `json:"address,omitempty"`
}

type componentIntent struct {
	Name string `json:"name"`
	Path string `json:"path,omitempty"`
	Port int    `json:"port,omitempty"`
	// Arguments are a service's others: [arguments] reads the files that they name.
	Arguments []argument `json:"arguments,omitempty"`
}

// newIntent is the intent of a role of m.
func newIntent(m *roles.Manifest, r roles.Role) intent {
	in := intent{
		CPUs: r.CPUs, Memory: r.Memory, Disk: r.Disk, Accel: m.Host.Accel,
		Firmware: r.Firmware, Kernel: r.Kernel, User: r.SSHUser,
	}
	if img, ok := imageOf(m, r); ok {
		switch {
		case img.Build != nil:
			in.Image.Build = img.Build
		case img.SHA256 != "":
			in.Image.SHA256 = img.SHA256
		default:
			in.Image.File = img.File
		}
	}
	for _, n := range r.Networks {
		ni := nicIntent{Network: n.Network, MAC: n.MAC}
		if n.Address.IsValid() {
			ni.Address = n.Address.String()
		}
		if net, ok := networkOf(m, n.Network); ok {
			if net.NAT != nil {
				ni.NAT = net.NAT.CIDR.String()
			} else if net.Bridge != nil {
				ni.Bridge, ni.Static = net.Bridge.Name, staticText(*net.Bridge)
			}
		}
		in.Networks = append(in.Networks, ni)
	}
	if r.VNC != nil {
		display := r.VNC.Display
		in.VNC = &display
	}
	if r.VTPM != nil {
		in.VTPM = r.VTPM.Model
	}
	for _, c := range r.Components {
		in.Components = append(in.Components, componentIntent{Name: c.Name, Path: c.Path, Port: c.Port})
	}
	return in
}

// encode is the canonical JSON and its digest.
func (in intent) encode() (data []byte, digest string) {
	data, err := json.Marshal(in)
	if err != nil {
		panic(err) // strings and numbers alone
	}
	sum := sha256.Sum256(data)
	return data, "sha256:" + hex.EncodeToString(sum[:])
}

func decodeIntent(data []byte) (intent, error) {
	var in intent
	if err := json.Unmarshal(data, &in); err != nil {
		return intent{}, fmt.Errorf("read what the guest was made from: %w", err)
	}
	return in, nil
}

// attribute is one line of an intent, as plans show it.
type attribute struct {
	name, value string
	effect      Effect // of changing it
}

// attributes flattens an intent. ours tells whether the guest takes its set-up
// anew at each boot (our own images) or only at its first (cloud-init).
func (in intent) attributes() []attribute {
	ours := in.Image.Build != nil
	nic := Replace
	if ours {
		nic = Restart
	}
	out := []attribute{
		{"image", in.Image.String(), Replace},
		{"cpus", strconv.Itoa(in.CPUs), Restart},
		{"memory", roles.FormatSize(in.Memory), Restart},
		{"disk", roles.FormatSize(in.Disk), Restart},
		{"accel", in.Accel, Restart},
		{"firmware", in.Firmware, Replace},
	}
	if k := in.Kernel; k != nil {
		out = append(out,
			attribute{"kernel.path", k.Path, Restart},
			attribute{"kernel.initrd", k.Initrd, Restart},
			attribute{"kernel.cmdline", k.Cmdline, Restart})
	}
	for _, n := range in.Networks {
		prefix := "network." + n.Network
		out = append(out, attribute{prefix, n.kind(), nic}, attribute{prefix + ".mac", n.MAC, nic})
		if n.Static != "" {
			out = append(out, attribute{prefix + ".static", n.Static, nic})
		}
		if n.Address != "" {
			effect := Restart // the guest asks again
			if n.Static != "" {
				effect = nic
			}
			out = append(out, attribute{prefix + ".address", n.Address, effect})
		}
	}
	if in.VNC != nil {
		out = append(out, attribute{"vnc.display", strconv.Itoa(*in.VNC), Restart})
	}
	if in.VTPM != "" {
		out = append(out, attribute{"vtpm.model", in.VTPM, Restart})
	}
	out = append(out, attribute{"ssh_user", in.User, Replace})
	for _, c := range in.Components {
		prefix := "component." + c.Name
		if c.Path != "" {
			out = append(out, attribute{prefix + ".path", c.Path, InPlace})
		}
		if c.Port != 0 {
			out = append(out, attribute{prefix + ".port", strconv.Itoa(c.Port), InPlace})
		}
		for _, a := range c.Arguments {
			out = append(out, attribute{prefix + "." + a.Name, a.Value, InPlace})
		}
	}
	return out
}

func (i imageIntent) String() string {
	switch {
	case i.Build != nil:
		s := "build " + i.Build.Suite + ", " + roles.FormatSize(i.Build.Size)
		if len(i.Build.Packages) > 0 {
			s += ", with " + strings.Join(i.Build.Packages, " ")
		}
		if i.Build.Mirror != "" {
			s += ", from " + i.Build.Mirror
		}
		return s
	case i.SHA256 != "":
		return "sha256:" + i.SHA256[:min(12, len(i.SHA256))]
	}
	return i.File
}

// staticText is how guests on a bridge are addressed, "" when they ask.
func staticText(b roles.Bridge) string {
	if !b.CIDR.IsValid() {
		return ""
	}
	text := b.CIDR.String()
	if b.Gateway.IsValid() {
		text += " via " + b.Gateway.String()
	}
	for _, a := range b.DNS {
		text += ", dns " + a.String()
	}
	return text
}

// address is where the host reaches the guest: behind a NAT, where the host itself is
// the gateway, before any bridge, where it may have no address.
func (in intent) address() netip.Addr {
	var found netip.Addr
	for _, n := range in.Networks {
		a, err := netip.ParseAddr(n.Address)
		switch {
		case err != nil:
		case n.NAT != "":
			return a
		case !found.IsValid():
			found = a
		}
	}
	return found
}

func (n nicIntent) kind() string {
	if n.Bridge != "" {
		return "bridge " + n.Bridge
	}
	return "nat " + n.NAT
}

// compare lists what changed from old to in, in the order of the attributes.
func (in intent) compare(old intent) []Change {
	before, after := old.attributes(), in.attributes()
	find := func(list []attribute, name string) (attribute, bool) {
		i := slices.IndexFunc(list, func(a attribute) bool { return a.name == name })
		if i < 0 {
			return attribute{}, false
		}
		return list[i], true
	}
	var changes []Change
	for _, a := range after {
		b, had := find(before, a.name)
		if had && b.value == a.value {
			continue
		}
		effect := max(a.effect, b.effect)
		if a.name == "disk" && in.Disk < old.Disk {
			effect = Replace
		}
		changes = append(changes, Change{Attribute: a.name, Old: b.value, New: a.value, Effect: effect})
	}
	for _, b := range before {
		if _, has := find(after, b.name); has {
			continue
		}
		if b.name == "vtpm.model" {
			b.effect = Replace // its keys would be lost while the guest lives on
		}
		changes = append(changes, Change{Attribute: b.name, Old: b.value, Effect: b.effect})
	}
	return changes
}

func imageOf(m *roles.Manifest, r roles.Role) (roles.Image, bool) {
	i := slices.IndexFunc(m.Images, func(i roles.Image) bool { return i.Name == r.Image })
	if i < 0 {
		return roles.Image{}, false
	}
	return m.Images[i], true
}

func networkOf(m *roles.Manifest, name string) (roles.Network, bool) {
	i := slices.IndexFunc(m.Networks, func(n roles.Network) bool { return n.Name == name })
	if i < 0 {
		return roles.Network{}, false
	}
	return m.Networks[i], true
}
