package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// TestStandIn: the stand-in's host is enrolled with the files and the ID that it
// names, and from its next start on its guest's evidence verifies for whoever
// believes both, with nothing allowed; for nobody else.
func TestStandIn(t *testing.T) {
	need.Programs(t, "swtpm")
	dir, err := os.MkdirTemp("", "si") //nolint:usetesting // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	run := func() (told standsIn, stop func() int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		env, stderr := testEnv(nil)
		out, in := io.Pipe()
		env.Stdout, env.Args = in, []string{"vtpm", "stand-in", dir, "--json"}
		code := make(chan int, 1)
		go func() {
			code <- Run(ctx, env)
			in.Close()
		}()
		if err := json.NewDecoder(out).Decode(&told); err != nil {
			cancel()
			t.Fatalf("%v: exit %d: %s", err, <-code, stderr)
		}
		go io.Copy(io.Discard, out)
		return told, func() int { cancel(); return <-code }
	}
	evidence := func(s standsIn) (text, nonce []byte) {
		t.Helper()
		nonce = []byte(strings.Repeat("n", 32))
		e, err := guest.Quote(t.Context(), s.TPM, nonce, guest.Port(s.HostPort))
		if err != nil {
			t.Fatal(err)
		}
		if text, err = e.Marshal(); err != nil {
			t.Fatal(err)
		}
		return text, nonce
	}

	first, stop := run()
	vendors := t.TempDir()
	list := filepath.Join(t.TempDir(), "hosts.allow")
	maker, err := os.ReadFile(first.Vendor)
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{filepath.Join(vendors, "maker.pem"): maker, list: []byte(first.HostID + "\n")} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := startEnrolment(t, vendors, enrol.AllowList{Path: list}, tls.VersionTLS13)
	env, stderr := testEnv(nil)
	env.Args = []string{"host", "enroll", server.url, "--pin", server.pin, "--data-dir", first.DataDir, "--tpm", first.HostTPM}
	if code := Run(t.Context(), env); code != 0 {
		t.Fatalf("exit %d: %s%s", code, stderr, server.log)
	}
	stop()

	again, stop := run()
	defer stop()
	if again != first || !first.Simulated {
		t.Errorf("%+v after %+v", again, first)
	}
	issuers, err := authorities(server.issuerFile)
	if err != nil {
		t.Fatal(err)
	}
	makers, err := authorities(first.Vendor)
	if err != nil {
		t.Fatal(err)
	}
	text, nonce := evidence(again)
	policy := quote.Policy{VM: again.VM, Trust: makers, AKIssuers: issuers, Now: time.Now()}
	if r := quote.VerifyEvidence(text, nonce, quote.EvidencePolicy{Record: policy, RequireHost: true}); r.Err() != nil {
		t.Errorf("%v\n%v", r.Err(), r.Steps)
	}
	stranger := policy
	stranger.AKIssuers = nil
	if quote.VerifyEvidence(text, nonce, quote.EvidencePolicy{Record: stranger}).OK() {
		t.Error("it verifies without the authority that enrolled the host")
	}
}

// TestStandInSaysWhatToDo: every path and ID that is told is in what people read.
func TestStandInSaysWhatToDo(t *testing.T) {
	told := standsIn{true, "VM", "unix:/d/tpm", "unix:/d/attest", "ID", "unix:/d/host-tpm", "/d's/a data", "/d/vendor.pem"}
	var b strings.Builder
	if err := told.write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"simulated", "export OVSA_TPM=unix:/d/tpm\n", "export OVSA_HOST_PORT=unix:/d/attest\n", "tpm-vendor /d/vendor.pem\n", "license_server hosts allow ID\n", `--data-dir '/d'\''s/a data' --tpm unix:/d/host-tpm` + "\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}
