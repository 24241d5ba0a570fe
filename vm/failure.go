package vm

import (
	"errors"
	"strings"

	"libvirt.org/go/libvirt"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// failure is libvirt's error with its message alone as the text: the codes in
// the binding's own text tell a user nothing.
type failure struct{ cause libvirt.Error }

func (f failure) Error() string { return strings.Map(visible, strings.TrimSpace(f.cause.Message)) }

func (f failure) Unwrap() error { return f.cause }

// visible replaces control characters: messages quote what guests and QEMU said.
func visible(r rune) rune {
	if r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) {
		return r
	}
	if r == '\n' || r == '\r' {
		return ' '
	}
	return '\uFFFD'
}

func isCode(err error, codes ...libvirt.ErrorNumber) bool {
	var e libvirt.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, code := range codes {
		if e.Code == code {
			return true
		}
	}
	return false
}

// unsupportedFlags says whether a driver, an older one or the one for tests,
// does not know a flag it was given. Nothing was done then.
func unsupportedFlags(err error) bool {
	return err != nil && strings.Contains(err.Error(), "unsupported flags")
}

// isLost says whether err comes from a connection that is no more.
func isLost(conn *libvirt.Connect, err error) bool {
	if !isCode(err, libvirt.ERR_SYSTEM_ERROR, libvirt.ERR_RPC, libvirt.ERR_INTERNAL_ERROR, libvirt.ERR_NO_CONNECT, libvirt.ERR_INVALID_CONN) {
		return false
	}
	alive, aliveErr := conn.IsAlive()
	return aliveErr != nil || !alive
}

// advice is what a user can do about an error of libvirt, by its code and a
// part of its message. The first that fits is given.
type advice struct {
	code libvirt.ErrorNumber // 0: any
	text string
	hint string
}

var advices = []advice{
	{libvirt.ERR_SYSTEM_ERROR, "No such file or directory", "libvirtd does not run: start it with `systemctl start libvirtd`, or see `ovsactl host check`"},
	{libvirt.ERR_SYSTEM_ERROR, "Connection refused", "libvirtd does not run: start it with `systemctl start libvirtd`, or see `ovsactl host check`"},
	{libvirt.ERR_SYSTEM_ERROR, "Permission denied", "run as root, or as a member of the group libvirt"},
	{libvirt.ERR_AUTH_FAILED, "", "run as root, or as a member of the group libvirt"},
	{libvirt.ERR_AUTH_CANCELLED, "", "run as root, or as a member of the group libvirt"},
	{libvirt.ERR_AUTH_UNAVAILABLE, "", "run as root, or as a member of the group libvirt"},
	{libvirt.ERR_NO_CONNECT, "", "the libvirt URI names no driver this machine has: \"qemu:///system\" is the usual one"},
	{0, "No space left on device", "free space under the data directory, or move it with data_dir in the host block; `ovsactl image prune` removes unused images"},
	{0, "Address already in use", "another program holds the port: choose another vnc display for the role"},
	{0, "already in use by interface", "another interface of the host has this address range: choose another cidr for the network"},
	{0, "Unable to find any firmware", "install UEFI firmware for guests: `apt install ovmf`"},
	{0, "Could not access KVM kernel module", "KVM is not available here: set accel = \"auto\" or \"tcg\" in the host block"},
	{0, "Cannot check QEMU binary", "install QEMU: `apt install qemu-system-x86`"},
	{0, "TPM version", "install the TPM emulator: `apt install swtpm swtpm-tools`"},
	{0, "swtpm", "look at /var/log/swtpm/libvirt/qemu/ on the host, and see `ovsactl host check`"},
	{0, "Cannot allocate memory", "the host is out of memory: stop a guest, or lower the role's memory"},
	{0, "cannot set up guest memory", "the host is out of memory: stop a guest, or lower the role's memory"},
	{0, "Hook script execution failed", "the host binding failed before the start: see the log of libvirtd, and `ovsactl host check`"},
}

// explain turns libvirt's errors into ours: their text, our sentinel errors,
// and what to do.
func explain(err error) error {
	var e libvirt.Error
	if !errors.As(err, &e) {
		return err
	}
	var out error = failure{e}
	switch e.Code {
	case libvirt.ERR_NO_DOMAIN, libvirt.ERR_NO_NETWORK, libvirt.ERR_NO_STORAGE_POOL, libvirt.ERR_NO_STORAGE_VOL:
		return missing{out}
	}
	for _, a := range advices {
		if (a.code == 0 || a.code == e.Code) && strings.Contains(e.Message, a.text) {
			return hint.Wrap(out, "%s", a.hint)
		}
	}
	return out
}

// missing is a failure that is ErrMissing too.
type missing struct{ error }

func (m missing) Unwrap() []error { return []error{ErrMissing, m.error} }
