// Package vm is guests under libvirt: domains, disks, networks, consoles. A
// [Spec] says what a guest should be, a [State] what libvirt has. [Host] is one
// libvirt connection; everything on it works with any libvirt URI, so no
// method here touches a path on the machine it runs on unless it says so.
package vm

import (
	"net/netip"
	"time"
)

// Accel is how the guest's processor is provided.
type Accel string

const (
	KVM Accel = "kvm"
	TCG Accel = "tcg" // QEMU's own emulation: domain type "qemu"
)

// Firmware is what starts the guest's kernel.
type Firmware string

const (
	UEFI   Firmware = "uefi"
	BIOS   Firmware = "bios"
	Direct Firmware = "kernel" // QEMU loads Spec.Kernel itself
)

// Spec is the desired state of one domain. It holds no secret: all of it is
// readable in the domain's XML.
type Spec struct {
	Name     string // libvirt domain name, "ovsa_" + role
	UUID     string // RFC 9562 text form
	CPUs     int
	Memory   uint64 // bytes
	Accel    Accel
	Firmware Firmware
	Kernel   *Kernel
	Disks    []Disk // in order: vda is the first
	NICs     []NIC
	VNC      *int     // display number, on 127.0.0.1
	TPM      TPMModel // "" for none
	// Credentials are systemd credentials handed in as SMBIOS type 11 strings
	// (systemd.system-credentials(7)): name to value, public values only.
	Credentials map[string]string
	Metadata    Metadata
}

// Kernel is a direct kernel boot.
type Kernel struct{ Path, Initrd, Cmdline string }

// TPMModel is the device the guest sees, as libvirt names it.
type TPMModel string

const (
	CRB TPMModel = "tpm-crb"
	TIS TPMModel = "tpm-tis"
)

// Disk is a volume of a storage pool, attached as virtio-blk.
type Disk struct {
	Pool, Volume string
	Format       string // "qcow2" or "raw"
	ReadOnly     bool
	Serial       string // seen by the guest in /dev/disk/by-id
}

// NIC is one virtio network interface.
type NIC struct {
	Network string // libvirt network; "" when Bridge is set
	Bridge  string
	MAC     string
	Address netip.Addr // reserved on a NAT network; zero for none
}

// Metadata is kept in the domain under our XML namespace. It is the only
// record of what was applied.
type Metadata struct {
	Role       string
	Owner      string     // who applied: user@host
	Manifest   string     // digest of the role as the user wrote it, "sha256:..."
	Intent     []byte     // canonical JSON of that, so that a plan can name what changed
	Image      string     // digest of the base image
	Address    netip.Addr // where the guest is reached by SSH; zero when unknown
	User       string     // who logs in there
	HostKeys   []string   // the guest's SSH host keys, authorized_keys format, once known
	Components []ComponentRecord
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero: never
	DataDir    string    // of the host, for the hook
	Authority  string    // SHA-256 of the certificate of the authority in the guest that has certified the host's key; "" for none
}

// ComponentRecord is a component as it was installed.
type ComponentRecord struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// State is a domain as libvirt has it.
type State struct {
	Name      string
	UUID      string
	Exists    bool
	Ours      bool   // carries our metadata; Metadata is zero when not
	Problem   string // why metadata of ours could not be read; then Ours is false
	Active    bool   // running or paused
	Status    string // libvirt's word: "running", "paused", "shut off", ...
	Reason    string
	Autostart bool
	Stale     bool      // runs from an older definition than the one that is kept
	StartedAt time.Time // zero when not running or unknown
	Metadata  Metadata
	MACs      []string // lower-case
	VNC       *int
	TPM       TPMModel // "" when it has none
	Volumes   []Disk
}

// NetworkSpec is the desired state of a NAT network.
type NetworkSpec struct {
	Name   string
	Bridge string
	CIDR   netip.Prefix
}

// Reservation is a fixed DHCP lease.
type Reservation struct {
	MAC     string
	Address netip.Addr
	Name    string // host name the lease gives out
}

// PoolSpec is a directory storage pool.
type PoolSpec struct {
	Name string
	Path string // on the host that libvirt runs on
}
