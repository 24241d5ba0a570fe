//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/need"
)

// The lab's bridges, which stand for the host's own network: on one the manifest says
// the addresses, on the other one a DHCP server. elsewhere is a machine behind both.
const (
	staticBridge = "e2e-static"
	leasedBridge = "e2e-leased"
	leasedMAC    = "52:54:00:d1:66:5f"
	elsewhere    = "198.51.100.1"
)

// TestTwoNetworks: a guest behind the host and on a bridge is reached over both, and
// answers what comes from elsewhere over the bridge.
func TestTwoNetworks(t *testing.T) {
	need.Programs(t, "ip", "dnsmasq", "/usr/bin/python3")
	h := openLab(t)
	h.in(t, "ip", "address", "add", elsewhere+"/32", "dev", "lo")
	for bridge, address := range map[string]string{staticBridge: "10.77.0.1/24", leasedBridge: "10.78.0.1/24"} {
		h.in(t, "ip", "link", "add", bridge, "type", "bridge")
		h.in(t, "ip", "address", "add", address, "dev", bridge)
		h.in(t, "ip", "link", "set", bridge, "up")
	}
	// It ends with the lab.
	h.in(t, "dnsmasq", "--conf-file=/dev/null", "--port=0", "--interface="+leasedBridge, "--bind-interfaces", "--except-interface=lo",
		"--dhcp-range=10.78.0.0,static", "--dhcp-host="+leasedMAC+",10.78.0.20", "--dhcp-option=option:router,10.78.0.1",
		"--dhcp-leasefile="+h.dir+"/leases", "--pid-file="+h.dir+"/dnsmasq.pid", "--user=root")
	file := h.write(t, "networks.hcl", fmt.Sprintf(`
host "local" { data_dir = %q }

network "static" {
  bridge {
    name    = %q
    cidr    = "10.77.0.0/24"
    gateway = "10.77.0.1"
    dns     = ["10.77.0.53"]
  }
}

network "leased" {
  bridge { name = %q }
}

image "debian" {
  build { suite = "trixie" }
}

role "static" {
  cpus     = 1
  memory   = "512MiB"
  disk     = "4GiB"
  firmware = "kernel"
  network "static" { address = "10.77.0.20" }
  network "default" { address = "192.168.122.20" }
  vtpm { model = "none" }
}

role "leased" {
  cpus     = 1
  memory   = "512MiB"
  disk     = "4GiB"
  firmware = "kernel"
  network "default" { address = "192.168.122.30" }
  network "leased" {
    mac     = %q
    address = "10.78.0.20"
  }
  vtpm { model = "none" }
}
`, h.dataDir, staticBridge, leasedBridge, leasedMAC))
	h.must(t, "apply", file, "--auto-approve")

	for _, g := range []struct{ role, nat, bridged, gateway string }{
		{"static", "192.168.122.20", "10.77.0.20", "10.77.0.1"},
		{"leased", "192.168.122.30", "10.78.0.20", "10.78.0.1"},
	} {
		// The DHCP server on the bridge may take its time: apply waits for the other one.
		within(t, 2*time.Minute, g.role+" on the bridge", func() bool { return h.answers(t, "0.0.0.0", g.bridged) })
		if !h.answers(t, "0.0.0.0", g.nat) {
			t.Errorf("%s does not answer behind the NAT", g.role)
		}
		if !h.answers(t, elsewhere, g.bridged) {
			t.Errorf("%s does not answer what comes from elsewhere", g.role)
		}
		if route := h.guest(t, file, g.role, "ip", "-4", "route", "get", elsewhere); !strings.Contains(route, "via "+g.gateway+" ") || !strings.Contains(route, "src "+g.bridged) {
			t.Errorf("%s: the way out is %s", g.role, route)
		}
	}
	if dns := h.guest(t, file, "static", "resolvectl", "dns"); !strings.Contains(dns, "10.77.0.53") {
		t.Errorf("name servers: %s", dns)
	}
	if r := h.must(t, "apply", file, "--auto-approve"); !strings.Contains(r.stdout, "No changes") {
		t.Errorf("apply again: %v", r)
	}
	// After a reboot it is the same.
	before := h.bootID(t, file, "static")
	h.ovsactl(t, "exec", "-f", file, "static", "--", "sudo", "systemctl", "reboot")
	within(t, 5*time.Minute, "static after a reboot", func() bool {
		r := h.run(t, h.program, "exec", "-f", file, "static", "--", "cat", "/proc/sys/kernel/random/boot_id")
		return r.code == 0 && strings.TrimSpace(r.stdout) != before && h.answers(t, elsewhere, "10.77.0.20")
	})
	h.must(t, "destroy", file, "--auto-approve")
}

// in runs a command in the lab that has to succeed.
func (h *host) in(t *testing.T, argv ...string) {
	t.Helper()
	if r := h.run(t, argv...); r.code != 0 {
		t.Fatalf("%s: %v", strings.Join(argv, " "), r)
	}
}

// answers tells whether an SSH server answers who comes from an address of the lab's.
func (h *host) answers(t *testing.T, from, to string) bool {
	t.Helper()
	const script = "import socket, sys\nwith socket.create_connection((sys.argv[2], 22), 5, (sys.argv[1], 0)) as s: print(s.recv(4).decode())"
	return strings.HasPrefix(h.run(t, "/usr/bin/python3", "-c", script, from, to).stdout, "SSH-")
}
