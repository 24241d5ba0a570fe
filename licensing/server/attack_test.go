package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/ovsactl/ovsactl/internal/testlog"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/server"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

const (
	vmA = "6f1d4c1e-52ab-4b07-9c55-0d6b1f3f0a11"
	vmB = "0b5e7a52-9f6a-4a63-8c11-0e8f4a6d2b22"
)

// sold is a world with a running guest to whom a licence was sold.
type sold struct {
	*licensetest.World
	log     *testlog.Log
	guest   licensetest.Guest
	licence licensing.Licence
}

// generous lets tests be quick.
var generous = server.Limits{
	PerIP: server.Rate{PerSecond: 1e9, Burst: 1e6}, PerEK: server.Rate{PerSecond: 1e9, Burst: 1e6}, PerLicence: server.Rate{PerSecond: 1e9, Burst: 1e6},
}

func sell(t *testing.T, terms licensing.Terms, o server.Options) sold {
	t.Helper()
	s := sold{log: new(testlog.Log)}
	o.Log = slog.New(slog.NewTextHandler(s.log, nil))
	if o.Limits == (server.Limits{}) {
		o.Limits = generous
	}
	s.World = licensetest.Start(t, o)
	s.guest = s.StartGuest(t, s.Host, vmA)
	s.licence = s.Sell(t, terms, s.TCB(t, s.guest))
	return s
}

func (s *sold) acquire(t *testing.T, g licensetest.Guest) (*client.Lease, error) {
	t.Helper()
	o := client.Options{TPM: g.TPM, Rounds: 1}
	if g.Host != "" {
		o.Host = g.Host
	}
	lease, err := client.Acquire(t.Context(), s.licence, s.Customer(), o)
	if err == nil {
		t.Cleanup(lease.Close)
	}
	return lease, err
}

// good acquires a lease that has to be given.
func (s *sold) good(t *testing.T, g licensetest.Guest) *client.Lease {
	t.Helper()
	lease, err := s.acquire(t, g)
	if err != nil {
		t.Fatal(err, s.log.Take())
	}
	return lease
}

// refused insists on a code and that the log, but not the client, hears why.
func (s *sold) refused(t *testing.T, g licensetest.Guest, code exchange.Code, cause string) {
	t.Helper()
	s.log.Take()
	_, err := s.acquire(t, g)
	var p *exchange.Problem
	if !errors.As(err, &p) || p.Code != code {
		t.Errorf("got %v, want %s: %s", err, code, s.log.Take())
		return
	}
	if log := s.log.Take(); !strings.Contains(log, cause) {
		t.Errorf("the log does not say %q: %s", cause, log)
	}
	if cause != "" && code == exchange.NotAllowed && strings.Contains(err.Error(), cause) {
		t.Errorf("the client hears the cause: %v", err)
	}
}

// changed makes every message of one kind another.
func changed[M any](path string, change func(*M)) func(string, []byte) []byte {
	return func(p string, data []byte) []byte {
		var m M
		if p != path || json.Unmarshal(data, &m) != nil {
			return data
		}
		change(&m)
		out, err := json.Marshal(m)
		if err != nil {
			return nil
		}
		return out
	}
}

// evidence makes a Finish with other evidence.
func evidence(change func(*quote.Evidence)) func(*exchange.Finish) {
	return func(f *exchange.Finish) {
		e, err := quote.ParseEvidence(f.Evidence)
		if err != nil {
			return
		}
		change(e)
		f.Evidence, _ = e.Marshal()
	}
}

// record makes evidence with another record of the host.
func record(change func(*quote.Record)) func(*exchange.Finish) {
	return evidence(func(e *quote.Evidence) {
		r, err := quote.ParseRecord(e.Record)
		if err != nil {
			return
		}
		change(r)
		e.Record, _ = r.Marshal()
	})
}

func flip(b []byte) { b[len(b)-1] ^= 1 }

// TestDishonestProofs: the real client on a real TPM, whose messages are changed
// on their way.
func TestDishonestProofs(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	other := s.StartGuest(t, s.Host, vmB)
	earlier := s.capture(t)
	theirs, err := guest.Identify(t.Context(), other.TPM)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := guest.Make(t.Context(), other.TPM, make([]byte, 32), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	stranger := licensetest.NewParty(t, "stranger")
	for _, tt := range []struct {
		name   string
		change func(*exchange.Finish)
		code   exchange.Code
		cause  string
	}{
		{"another challenge", func(f *exchange.Finish) { f.ID = earlier.ID }, exchange.ChallengeOver, "challenge"},
		{"a guessed secret", func(f *exchange.Finish) { flip(f.Secret) }, exchange.NotAllowed, "secret is wrong"},
		{"earlier evidence", func(f *exchange.Finish) { f.Evidence = earlier.Evidence }, exchange.NotAllowed, "nonce"},
		{"earlier evidence for this nonce", func(f *exchange.Finish) {
			e, _ := quote.ParseEvidence(f.Evidence)
			nonce := e.Nonce
			f.Evidence = earlier.Evidence
			evidence(func(e *quote.Evidence) { e.Nonce = nonce })(f)
		}, exchange.NotAllowed, "nonce and record are signed"},
		{"an earlier release key", func(f *exchange.Finish) { f.Certification = earlier.Certification }, exchange.NotAllowed, "another release key"},
		{"an earlier certification", func(f *exchange.Finish) {
			f.Certification.Attest, f.Certification.Signature = earlier.Certification.Attest, earlier.Certification.Signature
		}, exchange.NotAllowed, "another nonce"},
		{"a key nobody certified", func(f *exchange.Finish) { flip(f.Certification.Public) }, exchange.NotAllowed, "another release key"},
		{"an earlier possession", func(f *exchange.Finish) { f.Possession = earlier.Possession }, exchange.NotAllowed, "possession"},
		{"a stranger's possession", func(f *exchange.Finish) {
			f.Possession, _ = licensing.SignBytes(stranger.Key, licensing.PurposePossession, bytes.NewReader(make([]byte, 32)))
		}, exchange.NotAllowed, "possession"},
		{"another guest's attestation key", evidence(func(e *quote.Evidence) { e.AK = theirs.AK }), exchange.NotAllowed, "signature"},
		{"another guest's endorsement keys", evidence(func(e *quote.Evidence) { e.EKs = theirs.EKs }), exchange.NotAllowed, "EK certificates"},
		{"another VM's record", evidence(func(e *quote.Evidence) { e.Record = foreign.Record }), exchange.NotAllowed, "EK certificates"},
		{"another register", evidence(func(e *quote.Evidence) { flip(e.PCRs[0].Digest) }), exchange.NotAllowed, "PCR digest"},
		{"fewer registers", evidence(func(e *quote.Evidence) { e.PCRs = e.PCRs[1:] }), exchange.NotAllowed, "PCR"},
		{"another host register", record(func(r *quote.Record) { flip(r.PCRs[0].Digest) }), exchange.NotAllowed, "PCR digest"},
		{"forged magic", evidence(func(e *quote.Evidence) { e.Attest[0] ^= 1 }), exchange.NotAllowed, "type and magic"},
		{"forged host magic", record(func(r *quote.Record) { r.Attest[0] ^= 1 }), exchange.NotAllowed, "type and magic"},
		{"a byte after the quote", evidence(func(e *quote.Evidence) { e.Attest = append(e.Attest, 0) }), exchange.NotAllowed, "attestation structure"},
		{"a byte after its signature", evidence(func(e *quote.Evidence) { e.Signature = append(e.Signature, 0) }), exchange.NotAllowed, "signature"},
		{"a byte after the AK", evidence(func(e *quote.Evidence) { e.AK = append(e.AK, 0) }), exchange.NotAllowed, "AK"},
		{"a byte after the host's quote", record(func(r *quote.Record) { r.Attest = append(r.Attest, 0) }), exchange.NotAllowed, "attestation structure"},
		{"a byte after the certification", func(f *exchange.Finish) { f.Certification.Attest = append(f.Certification.Attest, 0) }, exchange.NotAllowed, "follow"},
		{"a byte after the certification's signature", func(f *exchange.Finish) { f.Certification.Signature = append(f.Certification.Signature, 0) }, exchange.NotAllowed, "follow"},
		{"no certificate of the host's key", record(func(r *quote.Record) { r.AKCert = nil }), exchange.NotAllowed, "host AK certified"},
		{"no evidence", func(f *exchange.Finish) { f.Evidence = []byte("{}") }, exchange.NotAllowed, "evidence"},
		{"nothing", func(f *exchange.Finish) { *f = exchange.Finish{} }, exchange.BadRequest, "not a message"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.Tamper(changed(exchange.PathFinish, tt.change))
			defer s.Tamper(nil)
			s.refused(t, s.guest, tt.code, tt.cause)
		})
	}
	s.good(t, s.guest) // and the honest one is given
}

// capture is the Finish of a good proof.
func (s *sold) capture(t *testing.T) exchange.Finish {
	t.Helper()
	var captured exchange.Finish
	s.Tamper(changed(exchange.PathFinish, func(f *exchange.Finish) {
		captured = *f
		captured.Secret = bytes.Clone(f.Secret)
	}))
	s.good(t, s.guest)
	s.Tamper(nil)
	return captured
}

// TestDishonestChallenges: what a guest shows of itself at the beginning is what
// its TPM has to answer for.
func TestDishonestChallenges(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	other := s.StartGuest(t, s.Host, vmB)
	theirs, err := guest.Identify(t.Context(), other.TPM)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*exchange.Begin)
		code   exchange.Code // "" where the guest's own TPM refuses to answer
		cause  string
	}{
		{"a stolen EK certificate", func(b *exchange.Begin) { b.EKs = theirs.EKs }, "", "another"},
		{"another attestation key", func(b *exchange.Begin) { b.AK = theirs.AK }, "", "another"},
		{"another release key", func(b *exchange.Begin) { flip(b.ReleaseKey) }, exchange.NotAllowed, "possession"},
		{"another customer", func(b *exchange.Begin) { b.Customer = s.Primary.Certificate.Raw }, exchange.NotAllowed, "another customer"},
		{"another licence", func(b *exchange.Begin) { b.Licence = licensing.NewGUID() }, exchange.NotAllowed, "no such licence"},
		{"another model", func(b *exchange.Begin) { b.Model = licensing.NewGUID() }, exchange.NotAllowed, "no such licence"},
		{"an attestation key that signs anything", func(b *exchange.Begin) { b.AK[5] &^= 1 }, exchange.NotAllowed, "attestation key"},
		{"a key of another curve", func(b *exchange.Begin) { b.AK[bytes.LastIndex(b.AK, []byte{0, 3, 0, 16})+1] = 0x77 }, exchange.NotAllowed, "attestation key"},
		{"no EK certificate", func(b *exchange.Begin) { b.EKs[0] = []byte{1, 2, 3} }, exchange.NotAllowed, "EK certificate"},
		{"no EK certificates", func(b *exchange.Begin) { b.EKs = nil }, exchange.BadRequest, "EK certificates"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.Tamper(changed(exchange.PathBegin, tt.change))
			defer s.Tamper(nil)
			if tt.code != "" {
				s.refused(t, s.guest, tt.code, tt.cause)
			} else if lease, err := s.acquire(t, s.guest); lease != nil || !errors.Is(err, guest.ErrCredential) {
				t.Errorf("the TPM answered: %v", err)
			}
		})
	}
}

// Two requests race with one challenge: one wins.
func TestOneAnswerWins(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	second := make(chan error, 1)
	var once sync.Once
	s.Tamper(changed(exchange.PathFinish, func(f *exchange.Finish) {
		once.Do(func() {
			_, err := s.Ledger.Take(t.Context(), f.ID, now()) // another request with this challenge
			second <- err
		})
	}))
	s.refused(t, s.guest, exchange.ChallengeOver, "challenge")
	if err := <-second; err != nil {
		t.Error(err)
	}
}

// What a customer's guest showed in vain is in the audit log, and what a stranger
// says is not.
func TestRefusedProofsAreLogged(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	for _, change := range []func(*exchange.Finish){
		func(f *exchange.Finish) { flip(f.Secret) },     // by anybody
		func(f *exchange.Finish) { flip(f.Possession) }, // by anybody
		evidence(func(e *quote.Evidence) { flip(e.PCRs[0].Digest) }),
	} {
		s.Tamper(changed(exchange.PathFinish, change))
		s.refused(t, s.guest, exchange.NotAllowed, "")
	}
	s.Tamper(nil)
	other := s.TCB(t, s.guest)
	flip(other.Guest.PCRs[0].Digest)
	s.licence = s.Sell(t, licensing.Terms{Type: licensing.Sale}, other)
	s.refused(t, s.guest, exchange.NotAllowed, "none of the licence's TCBs")
	var reasons []string
	if err := s.Ledger.Audit(t.Context(), 0, func(_ int64, e ledger.Entry) error {
		if e.What == "claim" {
			reasons = append(reasons, e.Refused)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(reasons) != 2 || !strings.Contains(reasons[0], "PCR digest") || !strings.Contains(reasons[1], "none of the licence's TCBs") {
		t.Errorf("reasons %q", reasons)
	}
	if _, _, err := s.Ledger.VerifyAudit(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
