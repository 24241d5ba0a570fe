package quote

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"testing"
	"time"
)

// A chain that verified is believed again, and nothing else is for it.
func TestChainsThatVerifiedBefore(t *testing.T) {
	k := keys()
	ca, other := newCA("vendor", k.ca), newCA("vendor", newECC(k.ca.Curve))
	good := must(parseCert(issue(ca, k.ca, k.ek2.Public(), oidEK, "")))
	roots := []*x509.Certificate{ca}
	forged := bytes.Clone(good.Raw)
	forged[len(forged)-1] ^= 1
	for name, tt := range map[string]struct {
		leaf    *x509.Certificate
		roots   []*x509.Certificate
		purpose asn1.ObjectIdentifier
		now     time.Time
		ok      bool
	}{
		"the same":             {good, roots, oidEK, testNow, true},
		"later":                {good, roots, oidEK, good.NotAfter, true},
		"too late":             {good, roots, oidEK, good.NotAfter.Add(time.Second), false},
		"too early":            {good, roots, oidEK, good.NotBefore.Add(-time.Second), false},
		"at no time":           {good, roots, oidEK, time.Time{}, false},
		"another purpose":      {good, roots, oidAK, testNow, false},
		"another root":         {good, []*x509.Certificate{other}, oidEK, testNow, false},
		"no root":              {good, nil, oidEK, testNow, false},
		"one more root":        {good, []*x509.Certificate{ca, other}, oidEK, testNow, true},
		"another's signature":  {must(parseCert(forged)), roots, oidEK, testNow, false},
		"an authority for one": {ca, roots, oidEK, testNow, false},
	} {
		chains := must(NewChains(8))
		if err := chains.verify(good, nil, roots, oidEK, testNow); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a refusal is not remembered as anything else
			if err := chains.verify(tt.leaf, nil, tt.roots, tt.purpose, tt.now); (err == nil) != tt.ok {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// The shortest life on the way counts, not the leaf's.
func TestChainsEndWithTheirShortestLife(t *testing.T) {
	k := keys()
	ca := newCA("vendor", k.ca)
	ca.NotAfter = testNow.Add(time.Hour) // what its bytes say is not asked
	leaf := must(parseCert(issue(ca, k.ca, k.ek2.Public(), oidEK, "")))
	chains := must(NewChains(8))
	if err := chains.verify(leaf, nil, []*x509.Certificate{ca}, oidEK, testNow); err != nil {
		t.Fatal(err)
	}
	if err := chains.verify(leaf, nil, []*x509.Certificate{ca}, oidEK, ca.NotAfter.Add(time.Second)); err == nil {
		t.Error("it outlives its root")
	}
}

// A record is judged alike with a memory and without one.
func TestRecordsOfKnownHosts(t *testing.T) {
	h := newHost(t)
	p := h.policy()
	p.Chains = must(NewChains(8))
	statuses := func(data []byte, p Policy) (all []Status) {
		for _, s := range Verify(data, p).Steps {
			all = append(all, s.Status)
		}
		return all
	}
	record := must(h.sign().Marshal())
	if first := statuses(record, p); !slices.Equal(first, statuses(record, p)) || slices.Contains(first, Failed) || p.Chains.known.Len() == 0 {
		t.Errorf("%v, %d chains", first, p.Chains.known.Len())
	}
	stranger := newHost(t)
	key := newECC(keys().ca.Curve)
	stranger.record.AKCert = issue(newCA("attestation CA", key), key, stranger.ak.key.Public(), oidAK, HostURI(stranger.claims.HostID))
	record = must(stranger.sign().Marshal())
	without := p
	without.Chains = nil
	if got, want := statuses(record, p), statuses(record, without); !slices.Equal(got, want) || !slices.Contains(got, Failed) {
		t.Errorf("%v with, %v without", got, want)
	}
}
