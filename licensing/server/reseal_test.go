package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// A server whose key-release key was replaced gives the same key for the licences that
// were sold before, once it has wrapped its halves anew, and their files stay as they
// are.
func TestReplacedReleaseKey(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	key := append([]byte{}, s.good(t, s.guest).Key().Bytes()...)
	next, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := s.Credentials
	c.Release = []*ecdsa.PrivateKey{next}
	if err := s.Server.Use(c); err != nil {
		t.Fatal(err)
	}
	s.refused(t, s.guest, exchange.Unavailable, "no half for this server's key-release keys")

	stored, err := s.Ledger.Licence(t.Context(), string(s.licence.LicenceGUID), string(s.licence.ModelGUID))
	if err != nil {
		t.Fatal(err)
	}
	half, err := s.licence.OpenServerHalf(s.Release.Key)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := s.licence.Reseal(half, &next.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ledger.Reseal(t.Context(), stored, wrapped, now()); err != nil {
		t.Fatal(err)
	}
	if got := s.good(t, s.guest).Key().Bytes(); string(got) != string(key) {
		t.Error("another key")
	}

	// What was wrapped for one licence opens no other.
	other := s.Offer(t, licensing.Terms{Type: licensing.Sale}, s.TCB(t, s.guest))
	if _, err := other.OpenResealed(wrapped, next); err == nil {
		t.Error("the half opens for another licence")
	}
	// A licence that was replaced meanwhile has other halves.
	if err := s.Ledger.Reseal(t.Context(), ledger.Licence{GUID: stored.GUID, Model: stored.Model, Document: []byte("another")}, wrapped, now()); err == nil {
		t.Error("the half of another version was kept")
	}
}
