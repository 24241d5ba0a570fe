package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// TestTrust: what trust adds is believed by vtpm verify, what it removes is not.
func TestTrust(t *testing.T) {
	host := vtpmtest.New(t)
	store := filepath.Join(host.DataDir, "vtpm", "trust")
	maker := filepath.Join(t.TempDir(), "maker.crt")
	if err := os.Rename(filepath.Join(store, "vendor.pem"), maker); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (code int, said string) {
		t.Helper()
		env, stderr := testEnv(nil)
		env.Args = append(args, "--data-dir", host.DataDir, "--tpm", host.TPM)
		code = Run(t.Context(), env)
		return code, env.Stdout.(*bytes.Buffer).String() + stderr.String()
	}
	expect := func(code int, want string, args ...string) string {
		t.Helper()
		got, said := run(args...)
		if got != code || !strings.Contains(said, want) {
			t.Errorf("%v: exit %d, %s, want %d, %q", args, got, said, code, want)
		}
		return said
	}
	id := vtpm.Identity{UUID: provision.DomainUUID("local", "runtime"), Name: provision.DomainName("runtime")}
	if err := host.Open(t).Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	// The chain in the record ends below its root, which is the verifier's to have.
	bound := func(want bool) {
		t.Helper()
		h := host.Open(t)
		if err := h.Bind(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		v, err := h.Verify(t.Context(), id.UUID, true)
		if err != nil || v.OK() != want {
			t.Errorf("verified %t, want %t: %v, %v", v.OK(), want, err, v.Err())
		}
	}

	expect(0, "missing: tpm-vendor: vtpm verify fails at the host's EK certificate\n    sudo ovsactl trust add --for tpm-vendor FILE", "trust", "ls")
	bound(false)
	expect(1, "nothing says what to believe it for", "trust", "add", maker)
	expect(1, `"maker" is nothing`, "trust", "add", "--for", "maker", maker)
	expect(0, "believed for tpm-vendor: ", "trust", "add", "--for", "tpm-vendor", maker)
	bound(true)
	said := expect(0, `"filled_by"`, "trust", "ls", "--for", "tpm-vendor", "--json")
	_, sum, _ := strings.Cut(said, `"sha256": "`)
	expect(1, "0 certificates have that SHA-256", "trust", "rm", "--for", "attestation", sum[:8])
	expect(0, "no longer believed for tpm-vendor: ", "trust", "rm", "--for", "tpm-vendor", sum[:8])
	bound(false)

	// As somebody puts it there by hand.
	text, err := os.ReadFile(maker)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(store, "maker.crt"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	expect(0, "authority", "trust", "ls")
	bound(true)
}
