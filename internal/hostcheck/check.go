package hostcheck

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/ovsactl/ovsactl/packaging"
)

// Status is the verdict on one line.
type Status string

const (
	OK      Status = "ok"
	Missing Status = "missing" // required: guests cannot run as promised
	Advised Status = "advised" // works without, less well or less safely
	Unknown Status = "unknown"
)

// Line is one thing a host should have.
type Line struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Have   string `json:"have"`
	Need   string `json:"need"`
	Fix    string `json:"fix,omitempty"` // empty when there is nothing to do
}

// Passed tells whether nothing required is missing.
func Passed(lines []Line) bool {
	for _, l := range lines {
		if l.Status == Missing {
			return false
		}
	}
	return true
}

const prepare = "sudo ovsactl host prepare"

// Check judges the facts about a host whose data directory is dataDir, line by
// line in a fixed order.
func Check(f Facts, dataDir string) []Line {
	lines := []Line{
		checkOS(f), checkVirt(f), checkKVM(f), checkTPM(f), checkEK(f), checkMemory(f), checkDisk(f, dataDir),
		checkSecureBoot(f), checkAppArmor(f),
	}
	for _, p := range packaging.HostPackages() {
		lines = append(lines, checkPackage(f, p))
	}
	lines = append(lines, checkLibvirt(f), checkUsers(f))
	for _, g := range []string{"kvm", "libvirt"} {
		lines = append(lines, checkGroup(f, g))
	}
	for _, d := range Dirs(dataDir) {
		lines = append(lines, checkDir(f, d))
	}
	return append(lines, checkNetwork(f), checkHook(f), checkAttest(f))
}

// verdict is OK when good, else bad.
func verdict(good bool, bad Status) Status {
	if good {
		return OK
	}
	return bad
}

// line drops the fix of what needs none.
func line(name string, s Status, have, need, fix string) Line {
	if s == OK {
		fix = ""
	}
	return Line{name, s, have, need, fix}
}

func checkOS(f Facts) Line {
	oldest := map[string]string{"debian": "12", "ubuntu": "22.04"}
	min, known := oldest[f.OS.ID]
	return line("operating system", verdict(known && !Older(f.OS.Version, min), Advised), or(f.OS.Name, "unknown"),
		"Debian 12 or Ubuntu 22.04, or newer", "others are untested; install the packages below by their names there")
}

func checkVirt(f Facts) Line {
	return line("processor virtualisation", verdict(f.Virt != "", Advised), or(f.Virt, "none"), "vmx or svm",
		"turn on VT-x or AMD-V in the firmware; without it guests are emulated, about 10 times slower")
}

func checkKVM(f Facts) Line {
	const need = "a guest kernel that runs"
	switch {
	case strings.Contains(f.KVM.Device, fs.ErrPermission.Error()):
		return line("KVM", Advised, f.KVM.Device, need, "be in group kvm, or root: "+prepare+", then log in again")
	case f.KVM.Device != "":
		return line("KVM", Advised, f.KVM.Device, need, "load kvm_intel or kvm_amd; in a virtual machine, turn on nested virtualisation; else guests are emulated")
	case !f.KVM.Probed && !f.Libvirt.Up:
		return line("KVM", Unknown, or(f.KVM.Reason, "libvirt does not answer"), need, prepare)
	case !f.KVM.Probed:
		return line("KVM", Unknown, or(f.KVM.Reason, "/dev/kvm opens"), need, "build an image first (ovsactl image build), or put a kernel in /boot")
	}
	return line("KVM", verdict(f.KVM.Works, Advised), or(f.KVM.Reason, "a guest kernel runs"), need, `guests are emulated (accel = "tcg")`)
}

func checkTPM(f Facts) Line {
	have := "none at " + f.TPM.Path
	switch {
	case f.TPM.Problem != "":
		have = f.TPM.Problem
	case f.TPM.Present && f.TPM.Simulated:
		have = "simulated, " + f.TPM.Path
	case f.TPM.Present:
		have = fmt.Sprintf("TPM %d at %s", f.TPM.Version, f.TPM.Path)
	}
	good := f.TPM.Present && f.TPM.Problem == "" && f.TPM.Version != 1
	return line("TPM", verdict(good, Missing), have, "TPM 2.0",
		"turn on the TPM (PTT, fTPM) in the firmware; to try ovsactl without one: ovsactl lab up")
}

func checkEK(f Facts) Line {
	const name, need = "TPM certificate", "an endorsement key certificate"
	if !f.TPM.EKKnown {
		return line(name, Unknown, "not read", need, "run as root, on a host with a TPM")
	}
	return line(name, verdict(f.TPM.EKIssuer != "", Advised), or(f.TPM.EKIssuer, "none"), need,
		"ask the machine's maker, or update the TPM's firmware; without it nobody can tell which TPM signs")
}

const gib = 1 << 30

func checkMemory(f Facts) Line {
	return line("memory", verdict(f.Memory >= 7*gib, Advised), size(f.Memory), "8 GiB: two guests of 4 GiB overlap",
		"give guests less (memory = \"2GiB\")")
}

func checkDisk(f Facts, dataDir string) Line {
	s := verdict(f.DiskFree >= 40*gib, Advised)
	if f.DiskFree < 5*gib {
		s = Missing
	}
	return line("disk", s, size(f.DiskFree)+" free at "+dataDir, "40 GiB (5 GiB at least)", "free some, or use another data_dir")
}

func checkSecureBoot(f Facts) Line {
	return line("Secure Boot", verdict(f.SecureBoot == SecureBootOn, Advised), or(string(f.SecureBoot), "unknown"), "enabled",
		"turn it on in the firmware; without it the host's boot is measured but not restricted")
}

func checkAppArmor(f Facts) Line {
	have := "off"
	if f.AppArmor.Enabled {
		have = "on, no profile for swtpm"
		if f.AppArmor.SwtpmProfile {
			have = "on, with a profile for swtpm"
		}
	}
	return line("AppArmor", verdict(f.AppArmor.Enabled, Advised), have, "on: libvirt then confines each guest", "boot with security=apparmor and install apparmor")
}

func checkPackage(f Facts, p packaging.Package) Line {
	need := "installed"
	if p.Min != "" {
		need = p.Min + " or newer"
	}
	have := f.Packages[p.Name]
	switch {
	case !f.Dpkg:
		return line("package "+p.Name, Unknown, "no dpkg here", need, "install what your distribution calls it")
	case have == "":
		return line("package "+p.Name, Missing, "not installed", need, prepare)
	case p.Min != "" && Older(have, p.Min):
		return line("package "+p.Name, Missing, have, need, "upgrade the distribution")
	}
	return line("package "+p.Name, OK, have, need, "")
}

func checkLibvirt(f Facts) Line {
	have := or(f.Libvirt.Problem, "does not answer")
	if f.Libvirt.Up {
		have = or(f.Libvirt.Version, "answers")
	}
	return line("libvirt", verdict(f.Libvirt.Up, Missing), have, "a daemon that answers", prepare)
}

func checkUsers(f Facts) Line {
	var have []string
	for _, u := range []string{"libvirt-qemu", "tss", "swtpm"} {
		if f.Users[u] {
			have = append(have, u)
		}
	}
	good := f.Users["libvirt-qemu"] && (f.Users["tss"] || f.Users["swtpm"])
	return line("users", verdict(good, Missing), or(strings.Join(have, ", "), "none"), "libvirt-qemu, and tss or swtpm", prepare)
}

func checkGroup(f Facts, group string) Line {
	switch {
	case !f.Groups[group]:
		return line("group "+group, Missing, "no such group", "exists", prepare)
	case f.User == "root" || f.UserGroups[group]:
		return line("group "+group, OK, f.User+" may use it", "exists, you are in it", "")
	}
	return line("group "+group, Advised, f.User+" is not in it", "exists, you are in it", prepare+", then log in again")
}

func checkDir(f Facts, d DirSpec) Line {
	need := fmt.Sprintf("mode %04o", d.Mode.Perm())
	have, ok := f.Dirs[d.Path]
	if !ok {
		return line(d.Path, Missing, "absent", need, prepare)
	}
	// Stricter than asked is the administrator's choice.
	good := have.Mode.Perm()&^d.Mode.Perm() == 0
	return line(d.Path, verdict(good, Advised), fmt.Sprintf("mode %04o", have.Mode.Perm()), need, prepare)
}

func checkNetwork(f Facts) Line {
	have := "absent"
	if f.Network.Defined {
		have = "defined, not running"
	}
	if f.Network.Active {
		have = "running, not at boot"
	}
	if f.Network.Active && f.Network.Autostart {
		have = "running"
	}
	return line("network default", verdict(f.Network.Active, Missing), have, "running", prepare)
}

func checkHook(f Facts) Line {
	return line("libvirt hook", verdict(f.Hook == HookCurrent, Missing), or(string(f.Hook), string(HookAbsent)), "installed: it renews vTPM bindings", prepare)
}

func checkAttest(f Facts) Line {
	ok, have, fix := f.Attest.Listening, "listening", prepare
	if !ok {
		have = "not listening"
	}
	switch {
	case f.Systemd && f.Attest.Units != HookCurrent:
		ok, have = false, "units "+or(string(f.Attest.Units), string(HookAbsent))
	case !f.Systemd:
		fix = "there is no systemd: have whatever starts services here run: ovsactl host attest"
	}
	return line("attestation service", verdict(ok, Missing), have, "listening: guests with a vTPM need it to start", fix)
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func size(n uint64) string { return fmt.Sprintf("%.1f GiB", float64(n)/gib) }
