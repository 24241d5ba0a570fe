package server_test

import (
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// That a server believes somebody is not enough: it has to be who made the host's
// TPM, and who enrolled the host.
func TestTrustInStrangers(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	strangers := []*x509.Certificate{licensetest.NewParty(t, "a stranger").Certificate}
	for name, change := range map[string]func(*server.Credentials){
		"vendor":      func(c *server.Credentials) { c.Vendors = strangers },
		"attestation": func(c *server.Credentials) { c.Attestation = strangers },
	} {
		lease := s.good(t, s.guest)
		c := s.Credentials
		change(&c)
		if err := s.Server.Use(c); err != nil {
			t.Fatal(err)
		}
		s.refused(t, s.guest, exchange.NotAllowed, "unknown authority")
		if err := lease.Renew(t.Context()); !errors.Is(err, client.ErrOver) {
			t.Errorf("trust in another %s: the lease goes on: %v", name, err)
		}
		if err := s.Server.Use(s.Credentials); err != nil {
			t.Fatal(err)
		}
	}
	s.good(t, s.guest)
}

// A server that was not given its keys yet says that it cannot decide.
func TestServerWithoutCredentials(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	bare, err := server.New(s.Ledger, server.Options{Limits: generous})
	if err != nil {
		t.Fatal(err)
	}
	s.Address = s.Listen(t, bare, s.TLS)
	for path, body := range map[string]string{
		exchange.PathBegin: `{}`,
		exchange.PathRenew: `{"lease":"` + strings.Repeat("0a", 16) + `","guest":"00","mac":"` + strings.Repeat("A", 43) + `="}`,
	} {
		if rsp := post(t, s, "127.0.0.1", path, body); rsp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %s", path, rsp.Status)
		}
	}
}
