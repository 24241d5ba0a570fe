// Package hostcheck knows what a host must have and can give it what is
// missing. [Gather] looks at the machine, [Check] judges what was seen and is
// pure, [Host] changes the machine.
package hostcheck

import "io/fs"

// Facts are what Gather saw. A zero field was not seen.
type Facts struct {
	OS       OS
	User     string // who ovsactl runs for: the caller of sudo, if there is one
	Virt     string // the processor's virtualisation flag: "vmx", "svm"
	KVM      KVM
	TPM      TPM
	Memory   uint64 // bytes
	DiskFree uint64 // bytes, where the data directory is or will be
	// Dpkg says that package versions are known.
	Dpkg       bool
	Packages   map[string]string // installed: name to version
	Groups     map[string]bool
	UserGroups map[string]bool // of User
	Users      map[string]bool
	Dirs       map[string]Dir // existing, by path
	Libvirt    Libvirt
	Network    Network // "default"
	SecureBoot SecureBoot
	AppArmor   AppArmor
	Hook       Hook
	Attest     Attest
	Systemd    bool // runs as the init system
}

// OS is from os-release(5).
type OS struct{ ID, Version, Name string }

// KVM says what the device is worth.
type KVM struct {
	Device string // "" when it opens, else why not
	Probed bool   // a guest kernel was tried
	Works  bool
	Reason string
}

// TPM is the host's.
type TPM struct {
	Path      string
	Present   bool
	Problem   string // why it does not answer
	Version   int    // 2; 0 when unknown
	Simulated bool
	EKIssuer  string // of its endorsement key certificate; "" for none
	EKKnown   bool   // EKIssuer was looked for
}

// Dir is an existing directory.
type Dir struct{ Mode fs.FileMode }

// Libvirt is the daemon.
type Libvirt struct {
	Up      bool
	Problem string
	Version string
}

// Network is a libvirt network's state.
type Network struct{ Defined, Active, Autostart bool }

// SecureBoot is the firmware's state.
type SecureBoot string

const (
	SecureBootOn   SecureBoot = "enabled"
	SecureBootOff  SecureBoot = "disabled"
	SecureBootNone SecureBoot = "not supported" // no UEFI
)

// AppArmor is the security module and what it has for swtpm.
type AppArmor struct {
	Enabled      bool
	SwtpmProfile bool
}

// Hook is the state of our libvirt hook.
type Hook string

const (
	HookAbsent  Hook = "absent"
	HookOther   Hook = "of another version or data directory"
	HookCurrent Hook = "installed"
)

// Attest is the state of the attestation service.
type Attest struct {
	Listening bool // its socket is there and somebody listens
	Units     Hook // systemd's units for it
}
