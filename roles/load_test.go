package roles_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"

	"github.com/ovsactl/ovsactl/roles"
)

// mustLoad loads a manifest that has to be valid.
func mustLoad(t *testing.T, src string) *roles.Manifest {
	t.Helper()
	m, text := load(t, "/srv/roles.hcl", []byte(src))
	if m == nil {
		t.Fatal(text)
	}
	return m
}

func TestDefaultsAreTheGuides(t *testing.T) {
	got := mustLoad(t, `role "runtime" {}`)
	want := &roles.Manifest{
		Host: roles.Host{Name: "local", URI: "qemu:///system", DataDir: "/var/OVSA", Accel: "auto", TPM: "/dev/tpmrm0"},
		Networks: []roles.Network{{
			Name: "default",
			NAT:  &roles.NAT{CIDR: netip.MustParsePrefix("192.168.122.0/24"), Bridge: "virbr0"},
		}},
		Images: []roles.Image{{Name: "default", Build: &roles.ImageBuild{Suite: "trixie", Size: 4 * roles.GiB}}},
		Roles: []roles.Role{{
			Name: "runtime", Image: "default", CPUs: 8, Memory: 4 * roles.GiB, Disk: 20 * roles.GiB,
			Firmware: "uefi", VTPM: &roles.VTPM{Model: "crb"}, SSHUser: "ovsa",
			Networks: []roles.NIC{{Network: "default", MAC: "52:54:00:a1:7b:ea", Address: netip.MustParseAddr("192.168.122.25")}},
		}},
	}
	if diff := cmp.Diff(want, got, compare()...); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
}

func TestEverythingIsRead(t *testing.T) {
	got := mustLoad(t, `
host "lab" {
  uri      = "qemu+ssh://root@kvm1/system"
  data_dir = "/srv/ovsa/"
  accel    = "tcg"
  tpm      = "unix:/run/tpm.sock"
}
network "lan" {
  bridge { name = "br0" }
}
image "noble" {
  source = "https://example.org/noble.img"
  sha256 = "A3F1C0DEA3F1C0DEA3F1C0DEA3F1C0DEA3F1C0DEA3F1C0DEA3F1C0DEA3F1C0DE"
}
role "isv_dev" {
  image    = image.noble
  cpus     = 2
  memory   = "1GiB"
  disk     = "10GiB"
  ssh_user = "ubuntu"
  kernel {
    path    = "/boot/vmlinuz"
    initrd  = "initrd"
    cmdline = "root=/dev/vda1 rw"
  }
  network "lan" {
    mac     = "52:54:00:D1:66:5F"
    address = "10.0.0.20"
  }
  vnc {}
  vtpm { model = "tis" }
  component "license_server" {}
  component "extra" {
    path    = "extra.tar.gz"
    port    = 80
    timeout = "30m"
  }
}`)
	want := &roles.Manifest{
		Host:     roles.Host{Name: "lab", URI: "qemu+ssh://root@kvm1/system", DataDir: "/srv/ovsa", Accel: "tcg", TPM: "unix:/run/tpm.sock"},
		Networks: []roles.Network{{Name: "lan", Bridge: &roles.Bridge{Name: "br0"}}},
		Images:   []roles.Image{{Name: "noble", Source: "https://example.org/noble.img", SHA256: strings.Repeat("a3f1c0de", 8)}},
		Roles: []roles.Role{{
			Name: "isv_dev", Image: "noble", CPUs: 2, Memory: roles.GiB, Disk: 10 * roles.GiB, Firmware: "kernel",
			Kernel:   &roles.Kernel{Path: "/boot/vmlinuz", Initrd: "/srv/initrd", Cmdline: "root=/dev/vda1 rw"},
			Networks: []roles.NIC{{Network: "lan", MAC: "52:54:00:d1:66:5f", Address: netip.MustParseAddr("10.0.0.20")}},
			VNC:      &roles.VNC{Display: 1}, VTPM: &roles.VTPM{Model: "tis"}, SSHUser: "ubuntu",
			Components: []roles.Component{
				{Name: "license_server", Port: 4452, Timeout: 10 * time.Minute},
				{Name: "extra", Path: "/srv/extra.tar.gz", Port: 80, Timeout: 30 * time.Minute},
			},
		}},
	}
	if diff := cmp.Diff(want, got, compare()...); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
}

// compare leaves out source ranges.
func compare() []cmp.Option {
	return []cmp.Option{
		cmpopts.EquateEmpty(),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().Type() == reflect.TypeFor[hcl.Range]() }, cmp.Ignore()),
	}
}

func TestReferencesToRoles(t *testing.T) {
	m := mustLoad(t, `
role "b" {
  memory = role.a.memory
  cpus   = role.a.cpus + 1
  kernel {
    path    = "k"
    cmdline = "server=${role.a.address} via ${network.default.gateway}"
  }
}
role "a" {
  cpus   = 3
  memory = "768MiB"
  network "default" { address = "192.168.122.20" }
}`)
	b := m.Roles[0]
	if b.Name != "b" || b.CPUs != 4 || b.Memory != 768*roles.MiB || b.Kernel.Cmdline != "server=192.168.122.20 via 192.168.122.1" {
		t.Errorf("role b = %+v, kernel %+v", b, b.Kernel)
	}
}

func TestIdentityDependsOnNamesAlone(t *testing.T) {
	alone := mustLoad(t, `role "runtime" {}`).Roles[0].Networks[0]
	beside := mustLoad(t, "role \"isv_dev\" {}\nrole \"other\" { cpus = 1 }\nrole \"runtime\" { memory = \"1GiB\" }").Roles[2].Networks[0]
	if alone != beside {
		t.Errorf("other roles change it: %v, %v", alone, beside)
	}
	elsewhere := mustLoad(t, "host \"other\" {}\nrole \"runtime\" {}").Roles[0].Networks[0]
	if elsewhere.MAC == alone.MAC {
		t.Errorf("two hosts give the same MAC %s", alone.MAC)
	}
}

func TestDerivedAddressesAreGuests(t *testing.T) {
	for _, cidr := range []string{"10.0.0.0/29", "172.16.0.0/16", "10.0.0.0/8"} {
		prefix := netip.MustParsePrefix(cidr)
		for i := range 50 {
			src := fmt.Sprintf("network \"n\" {\n  nat { cidr = %q }\n}\nrole \"r%d\" {\n  network \"n\" {}\n}\n", cidr, i)
			nic := mustLoad(t, src).Roles[0].Networks[0]
			nat := roles.NAT{CIDR: prefix}
			if a := nic.Address; !prefix.Contains(a) || a == prefix.Addr() || a == nat.Gateway() || a == nat.Broadcast() {
				t.Errorf("address %s on %s", a, cidr)
			}
		}
	}
}

func TestDerivedAddressesThatMeet(t *testing.T) {
	var src strings.Builder
	src.WriteString("network \"n\" {\n  nat { cidr = \"10.0.0.0/29\" }\n}\n")
	for i := range 6 { // five addresses
		fmt.Fprintf(&src, "role \"r%d\" {\n  network \"n\" {}\n}\n", i)
	}
	m, text := load(t, "roles.hcl", []byte(src.String()))
	if m != nil || !strings.Contains(text, "Duplicate address") || !strings.Contains(text, "Give this one its own") {
		t.Errorf("diagnostics:\n%s", text)
	}

	// A written address stays; the derived one gives way, wherever it is.
	derived := mustLoad(t, `role "runtime" {}`).Roles[0].Networks[0].Address
	for _, order := range []string{"role \"runtime\" {}\n%s", "%s\nrole \"runtime\" {}"} {
		written := fmt.Sprintf("role \"other\" {\n  network \"default\" { address = %q }\n}", derived)
		_, text := load(t, "roles.hcl", fmt.Appendf(nil, order, written))
		if !strings.Contains(text, `in role "runtime"`) {
			t.Errorf("not the derived one is to blame:\n%s", text)
		}
	}
}

func TestLoadHostNeedsNoValues(t *testing.T) {
	src := map[string][]byte{"roles.hcl": []byte(`
variable "memory" {}
variable "dir" { default = "/srv" }
host "lab" {
  data_dir = "${var.dir}/ovsa"
}
role "runtime" { memory = var.memory }
`)}
	host, _, diags := roles.LoadHost([]string{"roles.hcl"}, roles.Options{Sources: src, DefaultTPM: "unix:/run/tpm"})
	if diags.HasErrors() || host.Name != "lab" || host.DataDir != "/srv/ovsa" || host.TPM != "unix:/run/tpm" {
		t.Errorf("host = %+v, %v", host, diags)
	}
	src["roles.hcl"] = append(src["roles.hcl"], "}"...)
	if _, _, diags := roles.LoadHost([]string{"roles.hcl"}, roles.Options{Sources: src}); !diags.HasErrors() {
		t.Error("a manifest that does not parse is accepted")
	}
}

func TestNames(t *testing.T) {
	src := map[string][]byte{"roles.hcl": []byte("role \"b\" { memory = var.none }\nrole \"a\" {}\nrole \"c\" {")}
	if diff := cmp.Diff([]string{"b", "a"}, roles.Names([]string{"roles.hcl"}, roles.Options{Sources: src})[:2]); diff != "" {
		t.Error(diff)
	}
	if got := roles.Names([]string{filepath.Join(t.TempDir(), "none")}, roles.Options{}); len(got) != 0 {
		t.Errorf("names of no file: %q", got)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("user", "debian\n")
	write("large", strings.Repeat("x", 64<<10+1))
	write("binary", "\xff")
	for _, test := range []struct{ arg, want string }{
		{`"user"`, ""},
		{`"none"`, "no such file"},
		{`"large"`, "larger than 64 KiB"},
		{`"binary"`, "not UTF-8"},
		{`"."`, "not a regular file"},
		{`var.path`, "sensitive value is involved"},
	} {
		t.Run(test.arg, func(t *testing.T) {
			manifest := write("roles.hcl", `
variable "path" {
  sensitive = true
  default   = "user"
}
role "runtime" { ssh_user = trimspace(file(`+test.arg+`)) }`)
			m, _, diags := roles.Load([]string{manifest}, roles.Options{})
			switch {
			case test.want == "" && (m == nil || m.Roles[0].SSHUser != "debian"):
				t.Errorf("diagnostics: %v", diags)
			case test.want != "" && (m != nil || !strings.Contains(diags[0].Detail, test.want)):
				t.Errorf("diagnostics: %v, want %q", diags, test.want)
			}
		})
	}
}

func TestRangesPointAtNames(t *testing.T) {
	r := mustLoad(t, "\nrole \"runtime\" {}").Roles[0].Range
	if r.Filename != "/srv/roles.hcl" || r.Start.Line != 2 || r.Start.Column != 6 {
		t.Errorf("range = %v", r)
	}
}
