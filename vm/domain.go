package vm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"

	"libvirt.org/go/libvirtxml"
)

// Names of the virtio-serial ports every guest has.
const (
	AnnouncePort   = "org.ovsactl.0"
	guestAgentPort = "org.qemu.guest_agent.0"
	AttestPort     = "org.ovsactl.attest.0" // of guests with a TPM
)

// AttestSocket is where the host's attestation service listens, vtpm/attester.
const AttestSocket = "/run/ovsactl/attest.sock"

// vncBase is the TCP port of VNC display 0.
const vncBase = 5900

// logDir is where libvirt's virtlogd keeps and rotates what guests print.
const logDir = "/var/log/libvirt/qemu"

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	credPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
)

// DomainXML renders spec as a libvirt domain definition. Equal specs give equal
// text.
func DomainXML(spec Spec) (string, error) {
	d, err := domain(spec)
	if err != nil {
		return "", err
	}
	out, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("render domain %q: %w", spec.Name, err)
	}
	return out + "\n", nil
}

func domain(spec Spec) (*libvirtxml.Domain, error) {
	if err := spec.check(); err != nil {
		return nil, fmt.Errorf("domain %q: %w", spec.Name, err)
	}
	metadata, err := spec.Metadata.namespaced()
	if err != nil {
		return nil, fmt.Errorf("domain %q: %w", spec.Name, err)
	}
	d := &libvirtxml.Domain{
		Type:       "kvm",
		Name:       spec.Name,
		UUID:       spec.UUID,
		Title:      "ovsactl role " + spec.Metadata.Role,
		Metadata:   &libvirtxml.DomainMetadata{XML: metadata},
		Memory:     &libvirtxml.DomainMemory{Value: uint(spec.Memory >> 10), Unit: "KiB"},
		VCPU:       &libvirtxml.DomainVCPU{Value: uint(spec.CPUs)},
		OS:         boot(spec),
		CPU:        &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none"},
		Features:   &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}},
		Clock:      &libvirtxml.DomainClock{Offset: "utc"},
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "destroy",
		Devices: devices(spec),
	}
	if spec.Accel == TCG {
		d.Type, d.CPU = "qemu", &libvirtxml.DomainCPU{Mode: "maximum", Check: "none", Features: emulatedSlowly()}
	}
	if len(spec.Credentials) > 0 {
		d.SysInfo = []libvirtxml.DomainSysInfo{{SMBIOS: &libvirtxml.DomainSysInfoSMBIOS{
			OEMStrings: &libvirtxml.DomainSysInfoOEMStrings{Entry: credentials(spec.Credentials)},
		}}}
		d.OS.SMBios = &libvirtxml.DomainSMBios{Mode: "sysinfo"}
	}
	return d, nil
}

// emulatedSlowly are the vector instructions that cost QEMU's emulation more than those
// that programs use where there are none: a small neural network took ten times as long
// with them.
func emulatedSlowly() (without []libvirtxml.DomainCPUFeature) {
	for _, name := range []string{"avx", "avx2", "f16c", "fma"} {
		without = append(without, libvirtxml.DomainCPUFeature{Policy: "disable", Name: name})
	}
	return without
}

// boot leaves the choice of the firmware's files to libvirt: it knows what the
// host that it runs on has, and makes the domain's own NVRAM from the template
// that belongs to it. Secure Boot is off: our images are not signed.
func boot(spec Spec) *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"}}
	if spec.Firmware == UEFI {
		os.Firmware = "efi"
		os.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{Features: []libvirtxml.DomainOSFirmwareFeature{
			{Name: "enrolled-keys", Enabled: "no"},
			{Name: "secure-boot", Enabled: "no"},
		}}
	}
	if spec.Firmware == Direct {
		os.Kernel, os.Initrd, os.Cmdline = spec.Kernel.Path, spec.Kernel.Initrd, spec.Kernel.Cmdline
	}
	return os
}

func credentials(values map[string]string) []string {
	var entries []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		entries = append(entries, "io.systemd.credential.binary:"+name+"="+base64.StdEncoding.EncodeToString([]byte(values[name])))
	}
	return entries
}

// check refuses what libvirt would accept and the guest or the next run would
// not: the names end in paths and in XML of other objects.
func (s Spec) check() error {
	switch {
	case !namePattern.MatchString(s.Name):
		return errors.New("name is not letters, digits, '_', '.' and '-'")
	case !uuidPattern.MatchString(s.UUID):
		return fmt.Errorf("UUID %q is not in the form of RFC 9562", s.UUID)
	case s.CPUs < 1:
		return fmt.Errorf("%d CPUs", s.CPUs)
	case s.Memory < 64<<20:
		return fmt.Errorf("memory of %d bytes", s.Memory)
	case s.Accel != KVM && s.Accel != TCG:
		return fmt.Errorf("accelerator %q is not resolved", s.Accel)
	case s.Firmware != UEFI && s.Firmware != BIOS && s.Firmware != Direct:
		return fmt.Errorf("firmware %q", s.Firmware)
	case (s.Firmware == Direct) != (s.Kernel != nil):
		return errors.New("a kernel goes with firmware \"kernel\" and nothing else")
	case s.TPM != "" && s.TPM != CRB && s.TPM != TIS:
		return fmt.Errorf("TPM model %q", s.TPM)
	case s.VNC != nil && (*s.VNC < 0 || *s.VNC > 65535-vncBase):
		return fmt.Errorf("VNC display %d", *s.VNC)
	case len(s.Disks) > 26:
		return fmt.Errorf("%d disks", len(s.Disks))
	}
	for name := range s.Credentials {
		if !credPattern.MatchString(name) {
			return fmt.Errorf("credential name %q", name)
		}
	}
	for _, nic := range s.NICs {
		if _, err := net.ParseMAC(nic.MAC); err != nil {
			return fmt.Errorf("MAC %q: %w", nic.MAC, err)
		}
		if (nic.Network == "") == (nic.Bridge == "") {
			return errors.New("a NIC needs a network or a bridge")
		}
	}
	return nil
}
