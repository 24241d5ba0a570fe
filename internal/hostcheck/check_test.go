package hostcheck

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/packaging"
)

// ready is a host with all it needs.
func ready() Facts {
	f := Facts{
		OS: OS{"debian", "12", "Debian GNU/Linux 12"}, User: "root", Virt: "vmx",
		KVM: KVM{Probed: true, Works: true}, TPM: TPM{Path: "/dev/tpmrm0", Present: true, Version: 2, EKKnown: true, EKIssuer: "CN=Maker"},
		Memory: 16 * gib, DiskFree: 100 * gib, Dpkg: true, Packages: map[string]string{},
		Groups: map[string]bool{"kvm": true, "libvirt": true}, Users: map[string]bool{"libvirt-qemu": true, "tss": true},
		Dirs: map[string]Dir{}, Libvirt: Libvirt{Up: true}, Network: Network{true, true, true},
		SecureBoot: SecureBootOn, AppArmor: AppArmor{Enabled: true}, Hook: HookCurrent, Systemd: true, Attest: Attest{true, HookCurrent},
	}
	for _, p := range packaging.HostPackages() {
		f.Packages[p.Name] = "9999.1"
	}
	for _, d := range Dirs("/var/OVSA") {
		f.Dirs[d.Path] = Dir{d.Mode}
	}
	return f
}

func TestReadyHost(t *testing.T) {
	for _, l := range Check(ready(), "/var/OVSA") {
		if l.Status != OK || l.Fix != "" {
			t.Errorf("%+v", l)
		}
	}
	if a := (Host{DataDir: "/var/OVSA"}).Actions(ready()); len(a) != 0 {
		t.Errorf("a ready host has something to do: %v", a[0].What)
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name   string
		spoil  func(*Facts)
		line   string
		status Status
		have   string
		action string // a part of what prepare would do; "" for nothing
	}{
		{"unknown distribution", func(f *Facts) { f.OS = OS{"arch", "", "Arch Linux"} }, "operating system", Advised, "Arch", ""},
		{"old distribution", func(f *Facts) { f.OS.Version = "11" }, "operating system", Advised, "", ""},
		{"no virtualisation", func(f *Facts) { f.Virt = "" }, "processor virtualisation", Advised, "none", ""},
		{"KVM that hangs", func(f *Facts) { f.KVM = KVM{Probed: true, Reason: "kernel silent for 5 s"} }, "KVM", Advised, "silent", ""},
		{"KVM of others", func(f *Facts) { f.KVM = KVM{Device: "open /dev/kvm: permission denied"} }, "KVM", Advised, "permission", ""},
		{"KVM not probed", func(f *Facts) { f.KVM = KVM{Reason: "no kernel to probe with"} }, "KVM", Unknown, "no kernel", ""},
		{"no TPM", func(f *Facts) { f.TPM = TPM{Path: "/dev/tpmrm0"} }, "TPM", Missing, "none at /dev/tpmrm0", ""},
		{"TPM 1.2", func(f *Facts) { f.TPM.Version = 1 }, "TPM", Missing, "TPM 1", ""},
		{"stand-in", func(f *Facts) { f.TPM.Simulated = true }, "TPM", OK, "simulated", ""},
		{"blank TPM", func(f *Facts) { f.TPM.EKIssuer = "" }, "TPM certificate", Advised, "none", ""},
		{"little memory", func(f *Facts) { f.Memory = 2 * gib }, "memory", Advised, "2.0 GiB", ""},
		{"little disk", func(f *Facts) { f.DiskFree = 20 * gib }, "disk", Advised, "20.0 GiB", ""},
		{"no disk", func(f *Facts) { f.DiskFree = gib }, "disk", Missing, "1.0 GiB", ""},
		{"Secure Boot off", func(f *Facts) { f.SecureBoot = SecureBootOff }, "Secure Boot", Advised, "disabled", ""},
		{"package absent", func(f *Facts) { delete(f.Packages, "swtpm") }, "package swtpm", Missing, "not installed", "install packages: swtpm"},
		{"package old", func(f *Facts) { f.Packages["qemu-utils"] = "1:5.2+dfsg-11" }, "package qemu-utils", Missing, "5.2", ""},
		{"libvirt down", func(f *Facts) { f.Libvirt = Libvirt{Problem: "no socket"} }, "libvirt", Missing, "no socket", "start libvirt"},
		{"no swtpm user", func(f *Facts) { delete(f.Users, "tss") }, "users", Missing, "libvirt-qemu", ""},
		{"no group", func(f *Facts) { delete(f.Groups, "kvm") }, "group kvm", Missing, "no such", ""},
		{"not in group", func(f *Facts) { f.User = "ann" }, "group libvirt", Advised, "ann is not", "add ann to group libvirt"},
		{"directory absent", func(f *Facts) { delete(f.Dirs, "/var/OVSA/iso") }, "/var/OVSA/iso", Missing, "absent", "make directories"},
		{"directory open", func(f *Facts) { f.Dirs["/var/OVSA/vtpm"] = Dir{0o755} }, "/var/OVSA/vtpm", Advised, "0755", "make directories"},
		{"directory stricter", func(f *Facts) { f.Dirs["/var/OVSA/iso"] = Dir{0o700} }, "/var/OVSA/iso", OK, "0700", ""},
		{"network down", func(f *Facts) { f.Network.Active = false }, "network default", Missing, "not running", "start network default"},
		{"hook of another data directory", func(f *Facts) { f.Hook = HookOther }, "libvirt hook", Missing, "another", "install libvirt hook"},
		{"no attestation service", func(f *Facts) { f.Attest = Attest{} }, "attestation service", Missing, "units absent", "attestation service"},
		{"attestation service of another version", func(f *Facts) { f.Attest.Units = HookOther }, "attestation service", Missing, "another version", "attestation service"},
		{"attestation service that is down", func(f *Facts) { f.Attest.Listening = false }, "attestation service", Missing, "not listening", "attestation service"},
		{"no attestation service, and no systemd", func(f *Facts) { f.Attest, f.Systemd = Attest{}, false }, "attestation service", Missing, "not listening", ""},
		{"no hook yet", func(f *Facts) { f.Hook = HookAbsent }, "libvirt hook", Missing, "absent", "restart libvirt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := ready()
			tt.spoil(&f)
			lines := Check(f, "/var/OVSA")
			if got := Passed(lines); got != (tt.status != Missing) {
				t.Errorf("passed: %v", got)
			}
			l := find(t, lines, tt.line)
			if l.Status != tt.status || !strings.Contains(l.Have, tt.have) {
				t.Errorf("got %+v", l)
			}
			if l.Status != OK && l.Fix == "" {
				t.Errorf("says nothing about what to do: %+v", l)
			}
			var does []string
			for _, a := range (Host{DataDir: "/var/OVSA"}).Actions(f) {
				does = append(does, a.What)
			}
			if all := strings.Join(does, "; "); !strings.Contains(all, tt.action) || (tt.action == "" && all != "") {
				t.Errorf("prepare would do %q, want %q", all, tt.action)
			}
		})
	}
}

// Another kernel does not help where libvirt is down.
func TestKVMWantsLibvirtFirst(t *testing.T) {
	f := ready()
	f.KVM, f.Libvirt.Up = KVM{Reason: "libvirt does not answer"}, false
	if l := find(t, Check(f, "/var/OVSA"), "KVM"); l.Status != Unknown || l.Fix != prepare {
		t.Errorf("got %+v", l)
	}
}

// The units are written whole, and again when the program or the TPM is another.
func TestInstallUnits(t *testing.T) {
	h := Host{DataDir: "/var/OVSA", Units: t.TempDir(), Program: "/usr/bin/ovsactl", TPM: "/dev/tpmrm0"}
	if got := h.unitsState(); got != HookAbsent {
		t.Errorf("before: %q", got)
	}
	if err := h.InstallUnits(); err != nil {
		t.Fatal(err)
	}
	if got := h.unitsState(); got != HookCurrent {
		t.Errorf("after: %q", got)
	}
	h.Program = "/usr/local/bin/ovsactl"
	if got := h.unitsState(); got != HookOther {
		t.Errorf("of another program: %q", got)
	}
	h.Program = "ovsactl"
	if err := h.InstallUnits(); err == nil {
		t.Error("a program without a path")
	}
}

func find(t *testing.T, lines []Line, name string) Line {
	t.Helper()
	for _, l := range lines {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no line %q", name)
	return Line{}
}

func TestOlder(t *testing.T) {
	for _, tt := range []struct {
		version, min string
		want         bool
	}{
		{"1:7.2+dfsg-7+deb12u18+b3", "6.2", false},
		{"1:5.2+dfsg-11", "6.2", true},
		{"9.0.0-4+deb12u2", "8.0", false},
		{"8.0", "8.0", false},
		{"8", "8.1", true},
		{"10.0.0", "9.9", false},
		{"2022.11-6", "2022.02", false},
		{"", "1", true},
	} {
		if got := Older(tt.version, tt.min); got != tt.want {
			t.Errorf("Older(%q, %q) = %v", tt.version, tt.min, got)
		}
	}
}

func TestParsers(t *testing.T) {
	if got := parseOSRelease([]byte("ID=ubuntu\nVERSION_ID=\"24.04\"\nPRETTY_NAME=\"Ubuntu 24.04\"\n")); got != (OS{"ubuntu", "24.04", "Ubuntu 24.04"}) {
		t.Errorf("os-release: %+v", got)
	}
	if got := virtFlag([]byte("processor\t: 0\nflags\t\t: fpu vme svm sse\n")); got != "svm" {
		t.Errorf("cpuinfo: %q", got)
	}
	if got := virtFlag([]byte("flags : fpu svmx\n")); got != "" {
		t.Errorf("cpuinfo: %q", got)
	}
	got := parseDpkg([]byte("ovmf\t2022.11-6\tinstalled\nswtpm\t0.7\tconfig-files\nbroken\n"))
	if len(got) != 1 || got["ovmf"] != "2022.11-6" {
		t.Errorf("dpkg: %v", got)
	}
	if got := parseNetInfo([]byte("Name:           default\nActive:         yes\nAutostart:      no\n")); got != (Network{true, true, false}) {
		t.Errorf("net-info: %+v", got)
	}
}

func TestMakeDirsAndHook(t *testing.T) {
	h := Host{DataDir: filepath.Join(t.TempDir(), "OVSA"), Etc: t.TempDir(), Program: "/usr/bin/ovsactl", TPM: "/dev/tpmrm0"}
	if err := os.MkdirAll(filepath.Join(h.DataDir, "vtpm"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := h.hookState(); got != HookAbsent {
		t.Errorf("before: %q", got)
	}
	for range 2 { // the second changes nothing
		if err := h.MakeDirs(); err != nil {
			t.Fatal(err)
		}
		if err := h.InstallHook(); err != nil {
			t.Fatal(err)
		}
		if got := h.hookState(); got != HookCurrent {
			t.Errorf("after: %q", got)
		}
	}
	f := Gather(context.Background(), h, Probes{})
	for _, d := range Dirs(h.DataDir) {
		if l := checkDir(f, d); l.Status != OK {
			t.Errorf("%+v", l)
		}
	}
	h.TPM = "unix:/run/tpm"
	if got := h.hookState(); got != HookOther {
		t.Errorf("with another TPM: %q", got)
	}
}
