package provision_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
)

// twoNetworks is a role on a bridge and behind a NAT.
func twoNetworks(t *testing.T, w *world, bridge, address string) *roles.Manifest {
	t.Helper()
	src := fmt.Sprintf(`
host "local" { data_dir = %q }
network "lan" {
  bridge {
    name = "br0"
    %s
  }
}
image "noble" {
  source = "https://example.org/noble.img"
  sha256 = %q
}
image "debian" {
  build {}
}
role "ours" {
  image = image.debian
  network "lan" { address = %q }
  network "default" { address = "192.168.122.20" }
}
role "cloud" {
  image = image.noble
  network "lan" { address = "203.0.113.30" }
  network "default" {}
}
`, w.dataDir, bridge, strings.Repeat("cd", 32), address)
	m, _, diags := roles.Load([]string{"roles.hcl"}, roles.Options{Sources: map[string][]byte{"roles.hcl": []byte(src)}})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return m
}

// networkFiles are what a guest of ours is told about its network cards.
func networkFiles(t *testing.T, w *world, domain string) []string {
	t.Helper()
	var files []string
	for _, m := range regexp.MustCompile(`credential\.binary:ovsactl\.network\.\d=([A-Za-z0-9+/=]+)`).FindAllStringSubmatch(w.host.DomainXML(domain), -1) {
		text, err := base64.StdEncoding.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, string(text))
	}
	return files
}

// Whatever comes first in the role, the guest's default route is over the bridge, and
// the host reaches it over the NAT.
func TestTwoNetworks(t *testing.T) {
	for name, tt := range map[string]struct{ bridge, lan string }{
		"DHCP":   {"", "\nRouteMetric=100\n"},
		"static": {"cidr = \"203.0.113.0/24\"\n gateway = \"203.0.113.1\"", "\nAddress=203.0.113.20/24\n\n[Route]\nGateway=203.0.113.1\nMetric=100\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			m := twoNetworks(t, w, tt.bridge, "203.0.113.20")
			if _, report, err := apply(w.life(t.Context(), 0), w.engine(), m); err != nil {
				t.Fatalf("%v: %+v", err, report)
			}
			files := networkFiles(t, w, "ovsa_ours")
			if len(files) != 2 || !strings.Contains(files[0], tt.lan) || !strings.Contains(files[1], "\nRouteMetric=200\n") {
				t.Errorf("network files: %q", files)
			}
			for i, f := range files {
				if !strings.HasPrefix(f, "[Match]\nMACAddress="+m.Roles[0].Networks[i].MAC+"\n") {
					t.Errorf("network card %d: %s", i, f)
				}
			}
			s, err := w.host.Inspect(t.Context(), "ovsa_ours")
			if err != nil || s.Metadata.Address.String() != "192.168.122.20" {
				t.Errorf("reached at %v, %v", s.Metadata.Address, err)
			}
			seed := string(w.host.VolumeContent("ovsa", "ovsa_cloud_seed.img"))
			if !strings.Contains(seed, `"route-metric": 200`) || strings.Contains(seed, `"203.0.113.30/24"`) != (name == "static") {
				t.Errorf("the seed has no metric, or another address")
			}
			if err := destroy(w.life(t.Context(), 0), w.engine(), m); err != nil {
				t.Fatal(err)
			}
			if left := w.left(t); len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

// A guest that does not start may lack its bridge, of which libvirt says little.
func TestNoBridge(t *testing.T) {
	w := newWorld(t)
	w.host.Fail("Start", 0, errors.New("Cannot get interface MTU: No such device"))
	_, report, err := apply(w.life(t.Context(), 0), w.engine(), twoNetworks(t, w, "", "203.0.113.20"))
	if !errors.Is(err, provision.ErrRoles) || report.Roles[0].Failed != "start" || !strings.Contains(report.Roles[0].Hint, `bridge "br0"`) {
		t.Errorf("%v, %+v", err, report)
	}
}

// An image of ours takes another static address at a start, cloud-init at its first.
func TestStaticAddressesChange(t *testing.T) {
	const static = "cidr = \"203.0.113.0/24\""
	w := newWorld(t)
	ctx := w.life(t.Context(), 0)
	if _, _, err := apply(ctx, w.engine(), twoNetworks(t, w, static, "203.0.113.20")); err != nil {
		t.Fatal(err)
	}
	m := twoNetworks(t, w, static+"\n gateway = \"203.0.113.1\"", "203.0.113.21")
	p, report, err := apply(ctx, w.engine(), m)
	if err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	want := provision.Change{Attribute: "network.lan.static", Old: "203.0.113.0/24", New: "203.0.113.0/24 via 203.0.113.1", Effect: provision.Restart}
	if p.Roles[0].Action != provision.Reboot || !slices.Contains(p.Roles[0].Changes, want) || p.Roles[1].Action != provision.Remake {
		t.Errorf("%+v", p.Roles)
	}
	if files := networkFiles(t, w, "ovsa_ours"); !strings.Contains(files[0], "Address=203.0.113.21/24") {
		t.Errorf("%q", files)
	}
	if p, err := w.engine().Plan(ctx, m, provision.PlanOptions{}); err != nil || p.Changed() {
		t.Errorf("not settled: %+v, %v", p, err)
	}
}
