package licenseserver

import (
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// TestOnlyTheSameISVReplaces: that an ISV is believed does not let it change what
// another sold.
func TestOnlyTheSameISVReplaces(t *testing.T) {
	vector, err := os.ReadFile("../../../licensing/testdata/vectors/sale.lic")
	if err != nil {
		t.Fatal(err)
	}
	sold, err := licensing.Verify[licensing.Licence](vector)
	if err != nil {
		t.Fatal(err)
	}
	licence := sold.Document
	signed := func(l licensing.Licence, by licensetest.Party) []byte {
		document, err := licensing.Sign(l, by.Key, []*x509.Certificate{by.Certificate})
		if err != nil {
			t.Fatal(err)
		}
		return document
	}
	isv, other := licensetest.NewParty(t, "isv"), licensetest.NewParty(t, "another isv")
	stored := signed(licence, isv)
	licence.Touch(time.Now(), licence)
	for name, tt := range map[string]struct {
		document []byte
		fails    string
	}{
		"the ISV's update":      {signed(licence, isv), ""},
		"another ISV's update":  {signed(licence, other), "another ISV's licence"},
		"what is stored itself": {stored, "it is older"},
	} {
		document, err := licensing.Verify[licensing.Licence](tt.document)
		if err != nil {
			t.Fatal(err)
		}
		err = replaces(document, stored)
		if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	document, err := licensing.Verify[licensing.Licence](signed(licence, isv))
	if err != nil {
		t.Fatal(err)
	}
	if err := replaces(document, []byte("junk")); !errors.Is(err, licensing.ErrFormat) {
		t.Errorf("what is stored is junk: %v", err)
	}
}

// TestPrimaryAndSecondarySwapped: a licence that was sold for the secondary key
// would be refused in the customer's guest, days later.
func TestPrimaryAndSecondarySwapped(t *testing.T) {
	dir := certDir(t.TempDir())
	subject, err := pki.ParseSubject("/CN=customer")
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, usage x509.KeyUsage) (string, *x509.Certificate) {
		cert, err := pki.SelfSigned(licensetest.NewParty(t, name).Key, subject, usage, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pki.NewStore(dir.path("trust/customer")).Add(cert); err != nil {
			t.Fatal(err)
		}
		path := dir.path(name)
		if err := os.WriteFile(path, pki.EncodePEM(cert), 0o600); err != nil {
			t.Fatal(err)
		}
		return path, cert
	}
	primaryPath, primary := file("primary", x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement)
	secondaryPath, secondary := file("secondary", x509.KeyUsageDigitalSignature)
	for name, tt := range map[string]struct {
		soldFor       *x509.Certificate
		first, second string
		fails         string
	}{
		"as it should be":           {primary, primaryPath, secondaryPath, ""},
		"swapped when it is stored": {primary, secondaryPath, primaryPath, "not of the licence's customer"},
		"swapped when it was sold":  {secondary, secondaryPath, primaryPath, "the licence was sold for it"},
		"the same twice":            {primary, primaryPath, primaryPath, "not a secondary certificate"},
	} {
		_, _, err := readCustomer(t.Context(), dir.verifier("customer", time.Now, nil), licensing.Licence{Customer: tt.soldFor.Raw}, tt.first, tt.second)
		if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
			t.Errorf("%s: %v, want %q", name, err, tt.fails)
		}
	}
}
