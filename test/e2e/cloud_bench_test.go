//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// BenchmarkCloud makes guests of a distribution's cloud image with apply, and
// then the same guests with virsh alone, and with the smallest seed that lets
// anybody in. Both find the image in the pool.
func BenchmarkCloud(b *testing.B) {
	h := openLab(b)
	for _, n := range []int{1, 4} {
		b.Run(fmt.Sprintf("roles=%d", n), func(b *testing.B) {
			f := h.cloudFleet(b, n)
			sum := make(metrics)
			for b.Loop() {
				sum.add(f.apply(b))
				sum.add(f.plainCloud(b))
				h.must(b, "destroy", f.file, "--auto-approve")
			}
			sum.report(b)
		})
	}
}

func (h *host) cloudFleet(tb testing.TB, n int) *fleet {
	tb.Helper()
	f := &fleet{host: h}
	var text strings.Builder
	fmt.Fprintf(&text, "host \"local\" {\n  data_dir = %q\n  accel = %q\n}\n\nimage \"cloud\" {\n  file = %q\n}\n", h.dataDir, h.accelerator(tb), h.cloud)
	for i := range n {
		f.roles = append(f.roles, fmt.Sprintf("bench%d", i))
		fmt.Fprintf(&text, `
role "bench%d" {
  image  = image.cloud
  cpus   = 1
  memory = "1GiB"
  disk   = "4GiB"
  network "default" { address = %q }
  vtpm { model = "none" }
}
`, i, address(i))
	}
	f.file = h.write(tb, "cloud.hcl", text.String())
	return f
}

// plainDomain is what somebody writes who wants such a guest and no more: NAME,
// DISK, SEED, MAC.
const plainDomain = `<domain type='qemu'>
  <name>NAME</name>
  <memory unit='GiB'>1</memory>
  <vcpu>1</vcpu>
  <os firmware='efi'>
    <type arch='x86_64' machine='q35'>hvm</type>
    <firmware><feature enabled='no' name='secure-boot'/></firmware>
  </os>
  <features><acpi/><apic/></features>
  <cpu mode='maximum'/>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='DISK'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='SEED'/>
      <target dev='vdb' bus='virtio'/>
      <readonly/>
    </disk>
    <interface type='network'>
      <mac address='MAC'/>
      <source network='default'/>
      <model type='virtio'/>
    </interface>
    <serial type='pty'/>
  </devices>
</domain>
`

var domainType, macAddress = regexp.MustCompile(`<domain type='(\w+)'`), regexp.MustCompile(`<mac address='([0-9a-f:]+)'`)

func (f *fleet) plainCloud(tb testing.TB) metrics {
	tb.Helper()
	key := f.run(tb, "cat", filepath.Join(f.dataDir, "ssh", "id_ed25519.pub"))
	if key.code != 0 {
		tb.Fatal(key)
	}
	var guests []plainGuest
	for i, role := range f.roles {
		name := "ovsa_" + role
		definition := f.virsh(tb, "dumpxml", "--inactive", name)
		kind, mac := domainType.FindStringSubmatch(definition), macAddress.FindStringSubmatch(definition)
		if kind == nil || mac == nil {
			tb.Fatalf("no type or MAC in %s", definition)
		}
		g := f.takeOver(tb, name, address(i))
		seed := f.smallestSeed(tb, role, filepath.Dir(g.disk), strings.TrimSpace(key.stdout))
		defer f.run(tb, "rm", "-f", seed)
		plain := strings.NewReplacer("NAME", name, "DISK", g.disk, "SEED", seed, "MAC", mac[1], "type='qemu'>", "type='"+kind[1]+"'>").Replace(plainDomain)
		if kind[1] == "kvm" {
			plain = strings.Replace(plain, "mode='maximum'", "mode='host-passthrough'", 1)
		}
		g.plain = f.write(tb, name+".plain.xml", plain)
		g.stages = false
		guests = append(guests, g)
	}
	return f.bootAll(tb, guests)
}

// smallestSeed is a user with a key, and what NoCloud cannot do without, in dir,
// where QEMU may read it.
func (f *fleet) smallestSeed(tb testing.TB, role, dir, key string) string {
	tb.Helper()
	f.write(tb, "user-data", fmt.Sprintf("#cloud-config\nusers:\n- name: ovsa\n  ssh_authorized_keys: [%q]\n", key))
	f.write(tb, "meta-data", fmt.Sprintf("instance-id: %s\nlocal-hostname: %s\n", role, role))
	iso := filepath.Join(dir, role+".iso")
	r := f.run(tb, "xorriso", "-as", "genisoimage", "-quiet", "-V", "CIDATA", "-J", "-r", "-o", iso,
		filepath.Join(f.dir, "user-data"), filepath.Join(f.dir, "meta-data"))
	if r.code != 0 {
		tb.Fatal(r)
	}
	return iso
}
