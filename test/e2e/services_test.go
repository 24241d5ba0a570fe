//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// exposure is what systemd's own analysis says of each unit, at most: 2.0 for what is
// not root. The runtime mounts, becomes other users and makes namespaces.
var exposure = map[string]struct {
	role string
	most float64
}{
	"license_server.service":      {"isv_dev", 2.0},
	"license_server-init.service": {"isv_dev", 2.0},
	"ovsaruntime-init.service":    {"runtime", 2.0},
	"ovsaruntime.service":         {"runtime", 3.8},
}

var overall = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

// services: units that were enabled and started by their installers, with what they
// need, in a cloud image and in one of ours.
func (s *story) services(t *testing.T) {
	if got := s.guest(t, s.file, "isv_dev", "systemctl", "is-enabled", "license_server"); got != "enabled" {
		t.Errorf("license_server is %s", got)
	}
	if got := s.guest(t, s.file, "isv_dev", "systemctl", "is-active", "license_server"); got != "active" {
		t.Errorf("license_server is %s", got)
	}
	for file, want := range map[string]string{
		"server.key": "600 ovsa", "release.key": "600 ovsa", "attestation.key": "600 ovsa", "server.crt": "644 ovsa", "hosts.allow": "644 ovsa",
	} {
		if got := s.guest(t, s.file, "isv_dev", "sudo", "stat", "-c", "%a %U", "/opt/ovsa/certs/"+file); got != want {
			t.Errorf("%s is %s, want %s", file, got, want)
		}
	}
	// Nothing to serve yet, and no failure.
	if got := s.guest(t, s.file, "runtime", "systemctl", "show", "--property=ActiveState,ConditionResult,Result", "ovsaruntime"); !strings.Contains(got, "ActiveState=inactive") || !strings.Contains(got, "ConditionResult=no") || !strings.Contains(got, "Result=success") {
		t.Errorf("ovsaruntime: %s", got)
	}
	if got := s.guest(t, s.file, "runtime", "stat", "-c", "%a %U", "/var/OVSA/Modelserver/server.key"); got != "600 ovsa" {
		t.Errorf("the front's key is %s", got)
	}
	if got := s.guest(t, s.file, "runtime", "sh", "-c", "systemctl is-enabled nginx || true"); got != "disabled" {
		t.Errorf("nginx is %s by itself", got)
	}
	for _, role := range []string{"isv_dev", "runtime"} {
		if got := s.guest(t, s.file, role, "systemctl", "--failed", "--no-legend", "--plain"); got != "" {
			t.Errorf("%s: failed units: %s", role, got)
		}
	}
	for unit, of := range exposure {
		text := s.guest(t, s.file, of.role, "systemd-analyze", "security", "--no-pager", unit)
		found := overall.FindStringSubmatch(text)
		if found == nil {
			t.Errorf("%s: %s", unit, text)
			continue
		}
		t.Log(unit, found[1])
		if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > of.most {
			t.Errorf("%s has an exposure of %s, want at most %.1f:\n%s", unit, found[1], of.most, text)
		}
	}
}

// upgradeFails: another version of the licence server does not start. The old one runs
// on, with its keys, and the next good one is installed.
func (s *story) upgradeFails(t *testing.T) {
	before := s.guest(t, s.file, "isv_dev", "sudo", "sha256sum", "/opt/ovsa/certs/server.crt", "/opt/ovsa/certs/release.key", "/opt/ovsa/bin/license_server")
	programs, out := t.TempDir(), t.TempDir()
	for _, name := range []string{"ovsatool", "ovsaruntime", "ovsainstall", "ovsa-engine", "license_server"} {
		source := filepath.Join(filepath.Dir(s.program), name)
		if name == "license_server" { // a program that knows no `serve`
			source = filepath.Join(filepath.Dir(s.program), "ovsatool")
		}
		if err := os.Symlink(source, filepath.Join(programs, name)); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.outside(t, "package", "--programs", programs, "--out", out); r.code != 0 {
		t.Fatalf("package: %v", r)
	}
	r := s.ovsactl(t, "apply", s.file, "--auto-approve", "--target", "isv_dev", "--packages", out)
	for _, want := range []string{"role.isv_dev failed at components", "license_server.service", "it does not become ready", "the old version is in place again"} {
		if r.code != 1 || !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("apply does not say %q: %v", want, r)
		}
	}
	if got := s.guest(t, s.file, "isv_dev", "systemctl", "is-active", "license_server"); got != "active" {
		t.Errorf("license_server is %s", got)
	}
	after := s.guest(t, s.file, "isv_dev", "sudo", "sha256sum", "/opt/ovsa/certs/server.crt", "/opt/ovsa/certs/release.key", "/opt/ovsa/bin/license_server")
	if after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	s.must(t, "apply", s.file, "--auto-approve")
	s.converged(t)
}
