package server_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// Nobody who has heard one challenge knows the next: each has an ID, a nonce and a
// secret of its own, although the same guest asks the same.
func TestChallengesAreNew(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	var begin exchange.Begin
	s.Tamper(changed(exchange.PathBegin, func(b *exchange.Begin) { begin = *b }))
	s.good(t, s.guest)
	body, err := json.Marshal(begin)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	ask := func() (challenge exchange.Challenge) {
		rsp, err := c.Post("https://"+s.Address+exchange.PathBegin, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer rsp.Body.Close()
		if err := json.NewDecoder(rsp.Body).Decode(&challenge); err != nil || rsp.StatusCode != http.StatusOK {
			t.Fatal(rsp.Status, err)
		}
		return challenge
	}
	one, other := ask(), ask()
	if one.ID == other.ID || bytes.Equal(one.Nonce, other.Nonce) || bytes.Equal(one.Credential, other.Credential) {
		t.Errorf("two challenges: %+v, %+v", one, other)
	}
	if a, b := s.capture(t), s.capture(t); a.ID == b.ID || bytes.Equal(a.Secret, b.Secret) {
		t.Error("two proofs answer with one secret")
	}
}
