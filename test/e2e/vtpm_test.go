//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
)

// verify: the record holds, and that nobody enrolled the host's key is a
// failure unless it is allowed.
func (s *story) verify(t *testing.T) {
	for _, role := range []string{"isv_dev", "runtime"} {
		s.must(t, "vtpm", "verify", role, "-f", s.file, "--allow-unenrolled")
		if r := s.ovsactl(t, "vtpm", "verify", role, "-f", s.file); r.code != 1 || !strings.Contains(r.stdout+r.stderr, "host AK not enrolled") {
			t.Errorf("%s, enrolment required: %v", role, r)
		}
	}
	if r := s.must(t, "vtpm", "show", "runtime", "-f", s.file); !strings.Contains(r.stdout, "simulated") {
		t.Errorf("show hides that the host TPM is simulated: %v", r)
	}
}

// record is the binding record that the runtime's vTPM holds, as bytes that
// change with every binding.
func (s *story) record(t *testing.T) string {
	t.Helper()
	r := s.must(t, "vtpm", "show", "runtime", "-f", s.file, "--json")
	if !json.Valid([]byte(r.stdout)) {
		t.Fatalf("show --json: %v", r)
	}
	return r.stdout
}

// quote: the guest's own TPM answers a challenge, and its record is the host's.
func (s *story) quote(t *testing.T) {
	path, nonce := s.evidence(t)
	const word = "passed   host now: nonce, virtual machine and keys are signed"
	if r := s.must(t, "vtpm", "verify", "runtime", "-f", s.file, "--allow-unenrolled", "--quote", path, "--nonce", nonce); !strings.Contains(r.stdout, word) {
		t.Errorf("the host has not vouched for this quote: %v", r)
	}
	// The service dies and is started again: the guest's port finds it.
	s.run(t, "pkill", "-KILL", "-f", "host attest")
	path, nonce = s.evidence(t)
	if r := s.must(t, "vtpm", "verify", "runtime", "-f", s.file, "--allow-unenrolled", "--quote", path, "--nonce", nonce); !strings.Contains(r.stdout, word) {
		t.Errorf("after the attestation service was killed: %v", r)
	}
	stale := hex.EncodeToString(make([]byte, 32))
	if r := s.ovsactl(t, "vtpm", "verify", "runtime", "-f", s.file, "--allow-unenrolled", "--quote", path, "--nonce", stale); r.code != 1 {
		t.Errorf("a quote over another nonce: %v", r)
	}
	if r := s.ovsactl(t, "vtpm", "verify", "isv_dev", "-f", s.file, "--allow-unenrolled", "--quote", path, "--nonce", nonce); r.code != 1 {
		t.Errorf("the quote of another role's guest: %v", r)
	}
	// Who may use the TPM may ask the host, and without it a quote is still one.
	out := s.guest(t, s.file, "runtime", "/opt/ovsa/kvm/bin/ovsaruntime", "quote", "--nonce", nonce)
	if !strings.Contains(out, `"host":{`) {
		t.Errorf("the user ovsa has no word of the host: %.300s", out)
	}
	out = s.guest(t, s.file, "runtime", "/opt/ovsa/kvm/bin/ovsaruntime", "quote", "-host-port", "none", "--nonce", nonce)
	alone := s.host.write(t, "alone.json", out)
	if r := s.must(t, "vtpm", "verify", "runtime", "-f", s.file, "--allow-unenrolled", "--quote", alone, "--nonce", nonce); strings.Contains(r.stdout, word) {
		t.Errorf("nobody was asked: %v", r)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
