//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestStory is the life of two roles. Each part needs the ones before it.
func TestStory(t *testing.T) {
	h := openLab(t)
	s := &story{host: h, file: h.write(t, "roles.hcl", h.manifest(first()))}
	for _, part := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"foreign", s.foreign},
		{"apply", s.apply},
		{"apply again changes nothing", s.noChanges},
		{"services run", s.services},
		{"an upgrade that fails", s.upgradeFails},
		{"vtpm verify", s.verify},
		{"guest quote", s.quote},
		{"tampered records are refused", s.tampered},
		{"failures stay with their roles", s.failures},
		{"change in place", s.changeInPlace},
		{"change with a restart", s.changeWithRestart},
		{"look at guests", s.look},
		{"a reboot renews the binding", s.reboot},
		{"replace, killed at random points", s.replaceKilled},
		{"libvirtd dies on the way", s.libvirtdDies},
		{"two applies at once", s.twoAtOnce},
		{"destroy leaves nothing", s.destroy},
	} {
		if !t.Run(part.name, part.do) {
			t.Logf("status: %v", h.ovsactl(t, "status", s.file))
			t.Fatalf("stopped after %q", part.name)
		}
	}
}

type story struct {
	*host
	file string
}

// change puts another version of the roles in the manifest's place.
func (s *story) change(t *testing.T, r roles) {
	t.Helper()
	s.write(t, "roles.hcl", s.manifest(r))
}

// foreignMAC is that of a domain which is not ours.
const foreignMAC = "52:54:00:0f:0f:0f"

// foreign makes things on the host that are not ours and stay untouched.
func (s *story) foreign(t *testing.T) {
	s.define(t, "net-define", `<network><name>not-ours</name></network>`)
	s.define(t, "define", fmt.Sprintf(`<domain type="qemu"><name>not-ours</name><memory>65536</memory><os><type>hvm</type></os>
<devices><interface type="network"><mac address=%q/><source network="not-ours"/></interface></devices></domain>`, foreignMAC))
	if found := s.leftovers(t); len(found) > 0 { // or the last part proves nothing
		t.Error(report(found))
	}
}

func (s *story) define(t *testing.T, verb, xml string) {
	t.Helper()
	path := s.host.write(t, "foreign.xml", xml)
	s.virsh(t, verb, path)
}

func (s *story) apply(t *testing.T) {
	s.killed(t, 5*time.Second, "apply")
	s.must(t, "apply", s.file, "--auto-approve")
	if got := s.virsh(t, "list", "--name"); !strings.Contains(got, "ovsa_isv_dev") || !strings.Contains(got, "ovsa_runtime") {
		t.Errorf("running domains: %q", got)
	}
	for role, want := range map[string][]string{
		"isv_dev": {"ovsa-isv-dev", "/opt/ovsa/kvm/bin/ovsatool"},
		"runtime": {"ovsa-runtime", "/opt/ovsa/kvm/bin/ovsaruntime"},
	} {
		if got := s.guest(t, s.file, role, "hostname"); got != want[0] {
			t.Errorf("%s: host name %q", role, got)
		}
		if got := s.guest(t, s.file, role, want[1], "version"); got == "" {
			t.Errorf("%s: %s says nothing", role, want[1])
		}
		s.guest(t, s.file, role, "test", "-c", "/dev/tpmrm0")
	}
}

func (s *story) noChanges(t *testing.T) {
	before := map[string]string{"isv_dev": s.bootID(t, s.file, "isv_dev"), "runtime": s.bootID(t, s.file, "runtime")}
	if r := s.ovsactl(t, "plan", s.file, "--detailed-exitcode"); r.code != 0 {
		t.Errorf("plan: %v", r)
	}
	if r := s.must(t, "apply", s.file, "--auto-approve"); !strings.Contains(r.stdout, "No changes") {
		t.Errorf("apply: %v", r)
	}
	for role, id := range before {
		if got := s.bootID(t, s.file, role); got != id {
			t.Errorf("%s was restarted", role)
		}
	}
}
