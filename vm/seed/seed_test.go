package seed_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/templates"
	"github.com/ovsactl/ovsactl/vm/seed"
)

func data() seed.Data {
	return seed.Data{
		NICs:     []seed.NIC{{MAC: "52:54:00:AA:BB:01"}},
		Hostname: "ovsa-runtime", InstanceID: "8c1c9e6e-6f0c-5d4e-9d4e-000000000001", User: "ovsa",
		AuthorizedKeys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGVzIG5pY2h0cw== ovsactl"},
	}
}

// mtools needs mtools(1), which other tests use too.
func mtools(t *testing.T, args ...string) []byte {
	t.Helper()
	need.Programs(t, "mcopy", args[0])
	out, err := run.Cmd{Path: args[0], Args: args[1:]}.Output(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNoCloudIsReadByOthers(t *testing.T) {
	img, err := seed.NoCloud(data())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "seed.img")
	if err := os.WriteFile(path, img, 0o600); err != nil {
		t.Fatal(err)
	}
	if label := mtools(t, "mlabel", "-s", "-i", path, "::"); !bytes.Contains(label, []byte("CIDATA")) {
		t.Errorf("label %q", label)
	}
	for _, name := range []string{"meta-data", "user-data", "network-config"} {
		got := mtools(t, "mtype", "-i", path, "::"+name)
		got = bytes.ReplaceAll(got, announceScript(t), []byte("SCRIPT"))
		want, err := os.ReadFile(filepath.Join("testdata", name))
		if os.Getenv("UPDATE_GOLDEN") != "" {
			want, err = got, os.WriteFile(filepath.Join("testdata", name), got, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
		if text, _ := bytes.CutPrefix(got, []byte("#cloud-config\n")); !json.Valid(text) {
			t.Errorf("%s is not JSON", name)
		}
	}
	if (run.Cmd{Path: "fsck.fat", Args: []string{"--help"}}).Run(t.Context()) == nil {
		if err := (run.Cmd{Path: "fsck.fat", Args: []string{"-n", path}}).Run(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// announceScript is the script as it is in the user data: a JSON string, without
// its quotes, in which systemd finds no variables.
func announceScript(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(strings.ReplaceAll(string(templates.AnnounceScript), "$", "$$")); err != nil {
		t.Fatal(err)
	}
	return bytes.Trim(out.Bytes(), "\"\n")
}

func TestNoCloudIsTheSameEachTime(t *testing.T) {
	one, err := seed.NoCloud(data())
	if err != nil {
		t.Fatal(err)
	}
	two, err := seed.NoCloud(data())
	if err != nil || !bytes.Equal(one, two) {
		t.Errorf("second image differs, %v", err)
	}
}

func TestBadDataIsRefused(t *testing.T) {
	for name, change := range map[string]func(*seed.Data){
		"host name":   func(d *seed.Data) { d.Hostname = "a\nb" },
		"user":        func(d *seed.Data) { d.User = "root:x" },
		"instance id": func(d *seed.Data) { d.InstanceID = "" },
		"MAC":         func(d *seed.Data) { d.NICs = []seed.NIC{{MAC: "52:54"}} },
		"no key":      func(d *seed.Data) { d.AuthorizedKeys = nil },
		"two lines":   func(d *seed.Data) { d.AuthorizedKeys = []string{"ssh-ed25519 A\ncommand=\"x\" B"} },
		"too large":   func(d *seed.Data) { d.AuthorizedKeys = []string{strings.Repeat("A", 2<<20)} },
	} {
		d := data()
		change(&d)
		if _, err := seed.NoCloud(d); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// two is a guest on two networks: one address by DHCP, one that is given.
func two() seed.Data {
	d := data()
	d.NICs = []seed.NIC{
		{MAC: "52:54:00:AA:BB:01", Metric: 200},
		{
			MAC: "52:54:00:aa:bb:02", Metric: 100, Address: netip.MustParsePrefix("203.0.113.20/24"),
			Gateway: netip.MustParseAddr("203.0.113.1"), DNS: []netip.Addr{netip.MustParseAddr("203.0.113.53"), netip.MustParseAddr("2001:db8::53")},
		},
	}
	return d
}

func TestTwoNetworksAsCredentials(t *testing.T) {
	got := seed.Credentials(two())
	for name, want := range map[string]string{
		"ovsactl.network.0": "[Match]\nMACAddress=52:54:00:aa:bb:01\n\n[Network]\nLLDP=no\nIPv6AcceptRA=yes\nDHCP=yes\n\n[DHCPv4]\nUseHostname=no\nClientIdentifier=mac\nRouteMetric=200\n\n[IPv6AcceptRA]\nRouteMetric=200\n",
		"ovsactl.network.1": "[Match]\nMACAddress=52:54:00:aa:bb:02\n\n[Network]\nLLDP=no\nIPv6AcceptRA=yes\nAddress=203.0.113.20/24\nDNS=203.0.113.53\nDNS=2001:db8::53\n\n[Route]\nGateway=203.0.113.1\nMetric=100\n\n[IPv6AcceptRA]\nRouteMetric=100\n",
	} {
		if got[name] != want {
			t.Errorf("%s is\n%s\nwant\n%s", name, got[name], want)
		}
	}
	for name := range seed.Credentials(data()) {
		if strings.HasPrefix(name, seed.NetworkCredential) {
			t.Errorf("%s, for a guest whose image does it all", name)
		}
	}
}

// cloud-init's network configuration, version 2.
func TestTwoNetworksForCloudInit(t *testing.T) {
	img, err := seed.NoCloud(two())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "seed.img")
	if err := os.WriteFile(path, img, 0o600); err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(mtools(t, "mtype", "-i", path, "::network-config"), &got); err != nil {
		t.Fatal(err)
	}
	err = json.Unmarshal([]byte(`{"version": 2, "ethernets": {
		"nic0": {"match": {"macaddress": "52:54:00:aa:bb:01"}, "dhcp4": true, "dhcp-identifier": "mac", "dhcp4-overrides": {"route-metric": 200}},
		"nic1": {"match": {"macaddress": "52:54:00:aa:bb:02"}, "dhcp4": false, "addresses": ["203.0.113.20/24"],
			"routes": [{"to": "0.0.0.0/0", "via": "203.0.113.1", "metric": 100}], "nameservers": {"addresses": ["203.0.113.53", "2001:db8::53"]}}}}`), &want)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, network-config (-want +got):\n%s", err, diff)
	}
}

func TestCredentialsHaveTheNamesImagesRead(t *testing.T) {
	got := seed.Credentials(data())
	if got["system.hostname"] != "ovsa-runtime" || got["ovsactl.user"] != "ovsa" || !strings.HasPrefix(got["ovsactl.authorized_keys"], "ssh-ed25519 ") {
		t.Errorf("credentials %q", got)
	}
}
