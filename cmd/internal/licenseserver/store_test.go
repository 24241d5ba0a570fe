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
