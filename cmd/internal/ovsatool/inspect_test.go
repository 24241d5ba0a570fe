package ovsatool

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// A lease that a licence server signed says until when whom it lets do what.
func TestInspectLease(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	subject, err := pki.ParseSubject("/CN=server")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.SelfSigned(key, subject, x509.KeyUsageDigitalSignature, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	lease := licensing.Lease{
		ID: "b51469704431e12ea35c1af209137663", LicenceGUID: licensing.NewGUID(), ModelGUID: licensing.NewGUID(), Guest: "000b11",
		Issued: now, Expires: now.Add(10 * time.Minute), RenewUntil: now.Add(time.Hour),
	}
	file, err := licensing.Sign(lease, key, []*x509.Certificate{cert})
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/lease"
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := Program(keystore.Machine()).Run(t.Context(), guestcli.Env{
		Args: []string{"inspect", path, "--json"}, Stdout: &out, Stderr: &errs,
		Getenv: func(string) string { return "" },
	})
	var got struct {
		Kind, Signature, ID, Expires string
		RenewUntil                   string `json:"renew_until"`
	}
	if err := json.Unmarshal(out.Bytes(), &got); code != 0 || err != nil {
		t.Fatalf("exit %d, %v: %s%s", code, err, &out, &errs)
	}
	if got.Kind != "ovsa-lease" || got.Signature != "valid" || got.ID != lease.ID ||
		got.Expires != lease.Expires.Format(time.RFC3339) || got.RenewUntil != lease.RenewUntil.Format(time.RFC3339) {
		t.Errorf("%+v", got)
	}
}
