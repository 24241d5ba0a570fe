// Package roles is the manifest language: the HCL schema of a roles file, its
// decoding and its validation. [Load] turns files into a *[Manifest] or into
// diagnostics that point at the source. It reads the files it is given, those
// that they name with file(), and nothing else.
//
// A manifest is evaluated in two steps: first all that it declares is listed,
// then each thing is evaluated once, when something refers to it or at last in
// the order of the source. Cost is linear in the size of the manifest.
package roles

import (
	"net/netip"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Manifest is a validated roles file. Slices are in the order of the source.
// Every reference in it has been resolved: a name in it names something in it.
type Manifest struct {
	Host     Host
	Networks []Network
	Images   []Image
	Roles    []Role
}

// Host says which machine the roles belong to and how it is used.
type Host struct {
	Name    string // label of the block; "local" when there is none
	URI     string // libvirt URI, default "qemu:///system"
	DataDir string // absolute, default "/var/OVSA"
	Accel   string // "auto" (default), "kvm", "tcg"
	TPM     string // device path, default "/dev/tpmrm0", or "unix:PATH" for a stand-in
	Enroll  *Enroll
	Range   hcl.Range
}

// Network is one libvirt network. Exactly one of NAT and Bridge is set.
type Network struct {
	Name   string
	NAT    *NAT
	Bridge *Bridge
	Range  hcl.Range
}

// NAT is a libvirt NAT network with DHCP, on a bridge that libvirt makes.
type NAT struct {
	CIDR   netip.Prefix // masked; its first host address is the gateway
	Bridge string       // interface name; "virbr0" for network "default", else derived from the names
}

// Bridge attaches guests to a bridge that exists on the host. Whoever runs the
// network there gives them addresses, or the manifest does where it has a CIDR.
type Bridge struct {
	Name    string
	CIDR    netip.Prefix // masked; zero: addresses come by DHCP
	Gateway netip.Addr   // with a CIDR; zero for none
	DNS     []netip.Addr // with a CIDR
}

// Image is what a role's disk starts from. Exactly one of Build, Source and
// File is set.
type Image struct {
	Name   string
	Build  *ImageBuild
	Source string // http, https or file URL; SHA256 is set
	File   string // absolute path of a local disk image; SHA256 may be empty
	SHA256 string // lower-case hex, of the file as it is fetched
	Range  hcl.Range
}

// ImageBuild makes a UEFI-bootable image from distribution packages.
type ImageBuild struct {
	Suite    string   // "trixie"
	Mirror   string   // "" for the distribution's default
	Packages []string // beyond those every image has; sorted, unique
	Size     uint64   // bytes of the base image's disk
}

// Role is one guest.
type Role struct {
	Name       string // [a-z][a-z0-9_]*, at most 32 bytes
	Image      string // name of an Image
	CPUs       int
	Memory     uint64  // bytes
	Disk       uint64  // bytes, virtual size of the role's own overlay
	Firmware   string  // "uefi" (default), "bios", "kernel"
	Kernel     *Kernel // set with firmware "kernel" when the image is not ours
	Networks   []NIC   // at least one
	VNC        *VNC    // nil: no display
	VTPM       *VTPM   // nil: none
	Components []Component
	SSHUser    string // login that apply uses, default "ovsa"
	Range      hcl.Range
}

// Kernel is a direct kernel boot's files on the host, absolute paths.
type Kernel struct{ Path, Initrd, Cmdline string }

// NIC is one network interface. MAC and Address are the user's or derived from
// the names, so that they do not depend on what else the manifest holds.
type NIC struct {
	Network string     // name of a Network
	MAC     string     // lower-case, colons
	Address netip.Addr // zero on bridge networks unless the user gave one; not on those with a CIDR
}

// VNC is a display on loopback: TCP port 5900 + Display.
type VNC struct{ Display int }

// VTPM is a virtual TPM 2.0.
type VTPM struct {
	Model string // "crb" (default), "tis"
}

// Component is something installed in the guest.
type Component struct {
	Name    string        // "developer", "license_server", "model_hosting", "openvino", or any name with Path
	Path    string        // absolute path of the user's own tarball; "" for ours
	Port    int           // license_server: default 4452; model_hosting: of REST; 0 where it has none, or its own default
	Timeout time.Duration // of the installer, and until its units are ready; default 10 minutes

	// Of model_hosting; paths are absolute, and "" where they are not given.
	GRPCPort int      // 0 for its own default
	Engine   string   // one of Engines
	Command  []string // of engine "command"; of another server, more of its arguments
	Config   string   // file that becomes the guest's sample.json
	Models   string   // directory of MODEL/VERSION/STEM.dat and STEM.lic
	ClientCA string   // certificate of the authority that says who clients are

	Trust []Trust // of license_server and model_hosting
	Range hcl.Range
}

// Trust is whose certificates a component believes, for one purpose.
type Trust struct {
	For   string   // as the guest's programs name it: "isv", "tpm-vendor"
	Files []string // absolute paths, one certificate in each
}
