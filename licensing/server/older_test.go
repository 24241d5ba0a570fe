package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// A lease that was given before the server's key-release key was replaced is renewed
// for as long as the server has the older key, and the licence's half is opened with
// it.
func TestLeaseOfAnOlderReleaseKey(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	lease := s.good(t, s.guest)
	next, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	use := func(keys ...*ecdsa.PrivateKey) {
		t.Helper()
		c := s.Credentials
		c.Release = keys
		if err := s.Server.Use(c); err != nil {
			t.Fatal(err)
		}
	}
	use(next, s.Release.Key)
	if err := lease.Renew(t.Context()); err != nil {
		t.Error(err)
	}
	use(next)
	if err := lease.Renew(t.Context()); !errors.Is(err, client.ErrOver) {
		t.Errorf("a lease of a key that the server has no longer: %v", err)
	}
	use(next, s.Release.Key)
	if err := lease.Renew(t.Context()); err != nil {
		t.Errorf("once it has the key again: %v", err)
	}
	later := s.good(t, s.guest) // its half is wrapped to the older key
	use(next)
	if err := later.Renew(t.Context()); err != nil {
		t.Errorf("a lease of the present key: %v", err)
	}
}
