package hostcheck

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/packaging"
)

// Probes look where other packages know how. A nil one leaves its facts unknown.
type Probes struct {
	// KVM tries a guest kernel. It is called when /dev/kvm opens.
	KVM func(ctx context.Context) (works bool, reason string, err error)
	// EKIssuer reads the issuer of the host TPM's endorsement key certificate,
	// "" when it has none. It is called when the TPM is there.
	EKIssuer func(ctx context.Context, tpm string) (string, error)
}

// Gather looks at the machine. What cannot be seen is left out: every fact has
// a value for that.
func Gather(ctx context.Context, h Host, probes Probes) Facts {
	f := Facts{
		OS: readOS(), User: callingUser(), Virt: cpuFlag(), Memory: memory(), DiskFree: diskFree(h.DataDir),
		SecureBoot: secureBoot(), AppArmor: appArmor(), Hook: h.hookState(),
		Attest: Attest{Listening: listens(ctx, h.AttestSocket), Units: h.unitsState()},
		Dirs:   map[string]Dir{}, Groups: map[string]bool{}, UserGroups: map[string]bool{}, Users: map[string]bool{},
		Systemd: isDir("/run/systemd/system"),
	}
	f.KVM = gatherKVM(ctx, probes)
	f.TPM = gatherTPM(ctx, h.TPM, probes)
	f.Packages, f.Dpkg = packages(ctx)
	f.Libvirt = libvirt(ctx, h.URI)
	f.Network = network(ctx, h.URI)
	for _, d := range Dirs(h.DataDir) {
		if info, err := os.Stat(d.Path); err == nil && info.IsDir() {
			f.Dirs[d.Path] = Dir{info.Mode()}
		}
	}
	for _, g := range []string{"kvm", "libvirt"} {
		if grp, err := user.LookupGroup(g); err == nil {
			f.Groups[g] = true
			f.UserGroups[g] = inGroup(f.User, grp.Gid)
		}
	}
	for _, name := range []string{"libvirt-qemu", "tss", "swtpm"} {
		if _, err := user.Lookup(name); err == nil {
			f.Users[name] = true
		}
	}
	return f
}

// listens says whether somebody does at a UNIX socket.
func listens(ctx context.Context, path string) bool {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func readOS() OS {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return OS{}
	}
	return parseOSRelease(data)
}

func parseOSRelease(data []byte) OS {
	var o OS
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			o.ID = value
		case "VERSION_ID":
			o.Version = value
		case "PRETTY_NAME":
			o.Name = value
		}
	}
	return o
}

// callingUser is who will run ovsactl: the one who called sudo.
func callingUser() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

func inGroup(name, gid string) bool {
	u, err := user.Lookup(name)
	if err != nil {
		return false
	}
	ids, err := u.GroupIds()
	if err != nil {
		return false
	}
	for _, id := range ids {
		if id == gid {
			return true
		}
	}
	return false
}

func cpuFlag() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	return virtFlag(data)
}

func virtFlag(cpuinfo []byte) string {
	for s := bufio.NewScanner(bytes.NewReader(cpuinfo)); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ":")
		if strings.TrimSpace(key) != "flags" {
			continue
		}
		for flag := range strings.FieldsSeq(value) {
			if flag == "vmx" || flag == "svm" {
				return flag
			}
		}
		return ""
	}
	return ""
}

func memory() uint64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return info.Totalram * uint64(info.Unit)
}

// diskFree looks at the nearest directory that exists.
func diskFree(dir string) uint64 {
	for !isDir(dir) && dir != "/" {
		dir = filepath.Dir(dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0
	}
	return st.Bavail * uint64(st.Bsize)
}

func gatherKVM(ctx context.Context, probes Probes) KVM {
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return KVM{Device: err.Error()}
	}
	dev.Close()
	if probes.KVM == nil {
		return KVM{Reason: "no kernel to probe with"}
	}
	works, reason, err := probes.KVM(ctx)
	if err != nil {
		return KVM{Reason: err.Error()}
	}
	return KVM{Probed: true, Works: works, Reason: reason}
}

func gatherTPM(ctx context.Context, path string, probes Probes) TPM {
	t := TPM{Path: path}
	if socket, ok := strings.CutPrefix(path, "unix:"); ok {
		t.Simulated, t.Version = true, 2
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err != nil {
			t.Problem = err.Error()
			return t
		}
		conn.Close()
	} else {
		if _, err := os.Stat(path); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Problem = err.Error()
			}
			return t
		}
		name := strings.Replace(filepath.Base(path), "tpmrm", "tpm", 1)
		if data, err := os.ReadFile(filepath.Join("/sys/class/tpm", name, "tpm_version_major")); err == nil {
			t.Version, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		}
	}
	t.Present = true
	if probes.EKIssuer != nil {
		issuer, err := probes.EKIssuer(ctx, path)
		t.EKIssuer, t.EKKnown = issuer, err == nil
	}
	return t
}

// packages returns the versions of the host's packages that are installed, and
// whether dpkg could tell.
func packages(ctx context.Context) (map[string]string, bool) {
	args := []string{"-W", "-f", "${Package}\t${Version}\t${db:Status-Status}\n"}
	for _, p := range packaging.HostPackages() {
		args = append(args, p.Name)
	}
	var out bytes.Buffer
	err := run.Cmd{Path: "dpkg-query", Args: args, Stdout: &out}.Run(ctx)
	var failed *run.Error
	if err != nil && (!errors.As(err, &failed) || failed.Code != 1) { // 1: some are not known
		return nil, false
	}
	return parseDpkg(out.Bytes()), true
}

func parseDpkg(out []byte) map[string]string {
	list := map[string]string{}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if f := strings.Split(s.Text(), "\t"); len(f) == 3 && f[2] == "installed" {
			list[f[0]] = f[1]
		}
	}
	return list
}

func libvirt(ctx context.Context, uri string) Libvirt {
	out, err := virsh(ctx, uri, "version")
	if err != nil {
		return Libvirt{Problem: firstLine(err.Error())}
	}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Running hypervisor: "); ok {
			return Libvirt{Up: true, Version: v}
		}
	}
	return Libvirt{Up: true}
}

func network(ctx context.Context, uri string) Network {
	out, err := virsh(ctx, uri, "net-info", "default")
	if err != nil {
		return Network{}
	}
	return parseNetInfo(out)
}

func parseNetInfo(out []byte) Network {
	n := Network{Defined: true}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(line, ":")
		yes := strings.TrimSpace(value) == "yes"
		switch key {
		case "Active":
			n.Active = yes
		case "Autostart":
			n.Autostart = yes
		}
	}
	return n
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func secureBoot() SecureBoot {
	if !isDir("/sys/firmware/efi") {
		return SecureBootNone
	}
	data, err := os.ReadFile("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
	switch {
	case err != nil || len(data) != 5: // four bytes of attributes, one of value
		return ""
	case data[4] == 1:
		return SecureBootOn
	}
	return SecureBootOff
}

func appArmor() AppArmor {
	on, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	_, err := os.Stat("/etc/apparmor.d/usr.bin.swtpm")
	return AppArmor{Enabled: strings.TrimSpace(string(on)) == "Y", SwtpmProfile: err == nil}
}
