//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestEnroll: a manifest that has the licence server of its host ends fully proven.
func TestEnroll(t *testing.T) {
	h := openLab(t)
	e := &enrolled{&story{host: h, file: h.write(t, "enroll.hcl", h.withServer(""))}}
	for _, part := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"guests that nobody has certified the host for", e.unenrolled},
		{"another server is refused", e.wrongPin},
		{"the host is enrolled, and bindings are renewed", e.enroll},
		{"apply again changes nothing", e.again},
		{"a guest that is made later is proven from its first start", e.later},
		{"destroy forgets the authority", e.forgotten},
	} {
		if !t.Run(part.name, part.do) {
			t.Logf("status: %v", h.ovsactl(t, "status", e.file))
			t.Fatalf("stopped after %q", part.name)
		}
	}
}

type enrolled struct{ *story }

// withServer is a manifest with a licence server, and what its host block has.
func (h *host) withServer(enroll string) string {
	return fmt.Sprintf(`
host "local" {
  data_dir = %q
  %s
}

image "debian" {
  build { suite = "trixie" }
}

role "isv_dev" {
  cpus   = 1
  memory = "512MiB"
  disk   = "4GiB"
  network "default" { address = "192.168.122.20" }
  component "license_server" {}
}

role "runtime" {
  cpus   = 1
  memory = "512MiB"
  disk   = "4GiB"
  network "default" { address = "192.168.122.30" }
}
`, h.dataDir, enroll)
}

func (e *enrolled) unenrolled(t *testing.T) {
	e.must(t, "apply", e.file, "--auto-approve")
	if r := e.ovsactl(t, "vtpm", "verify", "runtime", "-f", e.file); r.code != 1 || !strings.Contains(r.stdout+r.stderr, "host AK not enrolled") {
		t.Errorf("enrolment required: %v", r)
	}
	e.serve(t)
}

// serve sees to it that the licence server runs, whatever its installer has done.
func (e *enrolled) serve(t *testing.T) {
	t.Helper()
	const program = "/opt/ovsa/bin/license_server"
	if e.run(t, e.program, "exec", "-f", e.file, "isv_dev", "--", "sudo", "test", "-e", "/opt/ovsa/certs/server.crt").code != 0 {
		e.guest(t, e.file, "isv_dev", "sudo", "-u", "ovsa", program, "gencert")
	}
	e.guest(t, e.file, "isv_dev", "sudo", "systemctl", "enable", "--now", "license_server")
}

// wrongPin: whoever answers at the address is not believed.
func (e *enrolled) wrongPin(t *testing.T) {
	e.guest(t, e.file, "isv_dev", "sudo", "-u", "ovsa", "/opt/ovsa/bin/license_server", "hosts", "allow", strings.Repeat("00", 34))
	issuer := e.host.write(t, "issuer.pem", e.guest(t, e.file, "isv_dev", "sudo", "cat", "/opt/ovsa/certs/attestation.crt")+"\n")
	e.host.write(t, "enroll.hcl", e.withServer(fmt.Sprintf(`enroll {
    server = "https://192.168.122.20:4452"
    pin    = %q
    issuer = %q
  }`, strings.Repeat("ab", 32), issuer)))
	r := e.ovsactl(t, "apply", e.file, "--auto-approve")
	if r.code != 1 || !strings.Contains(r.stdout, "its key has another SHA-256") || !strings.Contains(r.stdout, "hint: ask the server's administrator for its pin") {
		t.Errorf("a wrong pin: %v", r)
	}
	if r := e.must(t, "trust", "ls", "--for", "attestation", "-f", e.file, "--json"); !strings.Contains(r.stdout, `"certificates": []`) {
		t.Errorf("something is believed: %v", r)
	}
}

func (e *enrolled) enroll(t *testing.T) {
	e.host.write(t, "enroll.hcl", e.withServer("enroll { server = role.isv_dev }"))
	r := e.ovsactl(t, "plan", e.file, "--detailed-exitcode")
	if r.code != 2 || !strings.Contains(r.stdout, "+ host") || !strings.Contains(r.stdout, "which is a stand-in") {
		t.Errorf("plan: %v", r)
	}
	e.killed(t, 4*time.Second, "apply")
	e.must(t, "apply", e.file, "--auto-approve")
	e.proven(t)
}

// proven: nothing has to be allowed any more.
func (e *enrolled) proven(t *testing.T) {
	t.Helper()
	for _, role := range []string{"isv_dev", "runtime"} {
		if r := e.must(t, "vtpm", "verify", role, "-f", e.file); !strings.Contains(r.stdout, "passed   host AK certified") {
			t.Errorf("%s: %v", role, r)
		}
	}
}

func (e *enrolled) again(t *testing.T) {
	before := map[string]string{"isv_dev": e.bootID(t, e.file, "isv_dev"), "runtime": e.bootID(t, e.file, "runtime")}
	if r := e.must(t, "apply", e.file, "--auto-approve"); !strings.Contains(r.stdout, "No changes") {
		t.Errorf("apply: %v", r)
	}
	for role, id := range before {
		if got := e.bootID(t, e.file, role); got != id {
			t.Errorf("%s was restarted", role)
		}
	}
	if got := e.guest(t, e.file, "isv_dev", "systemctl", "is-active", "license_server"); got != "active" {
		t.Errorf("the licence server after its guest's restart: %s", got)
	}
}

func (e *enrolled) later(t *testing.T) {
	e.must(t, "destroy", e.file, "--auto-approve", "--target", "runtime")
	e.must(t, "apply", e.file, "--auto-approve")
	e.proven(t)
}

func (e *enrolled) forgotten(t *testing.T) {
	e.must(t, "destroy", e.file, "--auto-approve")
	if r := e.must(t, "trust", "ls", "--for", "attestation", "-f", e.file, "--json"); !strings.Contains(r.stdout, `"certificates": []`) {
		t.Errorf("an authority whose key is gone is still believed: %v", r)
	}
}
