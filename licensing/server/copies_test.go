package server_test

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/licensing/server"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// copied copies the state of a guest that is off.
func copied(t *testing.T, from *vtpmtest.Host, uuid string, to *vtpmtest.Host, as string) licensetest.Guest {
	t.Helper()
	if err := os.CopyFS(filepath.Join(to.StateDir, as), os.DirFS(filepath.Join(from.StateDir, uuid))); err != nil {
		t.Fatal(err)
	}
	return licensetest.Guest{ID: vtpm.Identity{UUID: as, Name: "copy"}}
}

// limited is a world whose licence is for one guest at a time, which is off.
func limited(t *testing.T) sold {
	t.Helper()
	s := sell(t, licensing.Terms{Type: licensing.InstanceLimit, Instances: 1}, server.Options{})
	s.guest.Stop()
	return s
}

// Whoever has stolen a vTPM's state, record and all, starts it elsewhere.
func TestStolenState(t *testing.T) {
	s := limited(t)
	elsewhere := vtpmtest.New(t)
	thief := copied(t, s.Host, vmA, elsewhere, vmA)
	thief.Boot(t, elsewhere)
	s.refused(t, thief, exchange.NotAllowed, "no host behind it")
	thief.Host = elsewhere.Attest(t, vmA)
	if _, err := s.acquire(t, thief); !errors.Is(err, guest.ErrHostRefused) {
		t.Errorf("a host that never bound it: %v", err)
	}
	if err := os.CopyFS(filepath.Join(elsewhere.DataDir, "vtpm", vmA), os.DirFS(filepath.Join(s.Host.DataDir, "vtpm", vmA))); err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.Open(t).Enrolment(t.Context()); err != nil { // which makes its key
		t.Fatal(err)
	}
	s.refused(t, thief, exchange.NotAllowed, "host now: signature")

	s.guest.Boot(t, s.Host)
	s.good(t, s.guest)
}

// The thief starts the state as a guest of his own on a host that is enrolled,
// the same or another.
func TestCopyAsAnotherGuest(t *testing.T) {
	s := limited(t)
	other := vtpmtest.New(t)
	s.Credentials.Vendors = append(s.Credentials.Vendors, vendorOf(t, other)...)
	if err := s.Server.Use(s.Credentials); err != nil {
		t.Fatal(err)
	}
	s.Enrol(t, other, nil)
	// By itself a host does not even start another host's vTPM.
	if err := os.CopyFS(filepath.Join(other.DataDir, "vtpm", "ca"), os.DirFS(filepath.Join(s.Host.DataDir, "vtpm", "ca"))); err != nil {
		t.Fatal(err)
	}
	for name, host := range map[string]*vtpmtest.Host{"the same host": s.Host, "another host": other} {
		t.Run(name, func(t *testing.T) {
			thief := copied(t, s.Host, vmA, host, vmB)
			s.guest.Boot(t, s.Host)
			first := s.good(t, s.guest)
			for range 3 { // more often than the guest itself
				if err := host.Open(t).Bind(t.Context(), thief.ID); err != nil {
					t.Fatal(err)
				}
				thief.Boot(t, host)
				thief.Host = host.Attest(t, vmB)
				s.refused(t, thief, exchange.NotAllowed, "copied, put back or moved")
				thief.Stop()
			}
			if err := first.Renew(t.Context()); err != nil {
				t.Errorf("the guest itself: %v", err)
			}
			s.good(t, s.guest)
			s.guest.Stop()
		})
	}
}

// Two TPMs run on one state at the same time, and both get their host's word: one
// of them asks through the other. One has the lease, and the other nothing.
func TestTwinsShareNothing(t *testing.T) {
	s := limited(t)
	twin := copied(t, s.Host, vmA, s.Host, vmB)
	s.guest.Boot(t, s.Host)
	twin.Boot(t, s.Host)
	twin.Host = s.guest.Host
	first := s.good(t, s.guest)
	for range 2 {
		s.refused(t, twin, exchange.NotAllowed, "there are two of it")
	}
	if err := first.Renew(t.Context()); err != nil {
		t.Errorf("the first: %v", err)
	}
	// Once more started than the first, it is the guest, and the first is not.
	twin.Stop()
	twin.Boot(t, s.Host)
	second := s.good(t, twin)
	if err := first.Renew(t.Context()); !errors.Is(err, client.ErrOver) {
		t.Errorf("both have the lease: %v", err)
	}
	s.refused(t, s.guest, exchange.NotAllowed, "behind what it was")
	if err := second.Renew(t.Context()); err != nil {
		t.Error(err)
	}
}

// A guest whose state was put back gets no key, however often it is started, until
// an administrator lets it in.
func TestRolledBackGuest(t *testing.T) {
	s := limited(t)
	copied(t, s.Host, vmA, s.Host, vmB) // the backup
	start := func() licensetest.Guest {
		t.Helper()
		if err := s.Host.Open(t).Bind(t.Context(), s.guest.ID); err != nil {
			t.Fatal(err)
		}
		g := s.guest
		g.Boot(t, s.Host)
		return g
	}
	for range 2 {
		g := start()
		s.good(t, g)
		g.Stop() // forced off
	}
	state := filepath.Join(s.Host.StateDir, vmA)
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(s.Host.StateDir, vmB), state); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		g := start()
		s.refused(t, g, exchange.NotAllowed, "copied, put back or moved")
		g.Stop()
	}
	all, err := s.Ledger.Guests(t.Context(), "", now())
	if err != nil || len(all) != 1 || all[0].Refused != 4 || all[0].VM != vmA {
		t.Fatalf("guests %+v, %v", all, err)
	}
	if err := s.Ledger.ResetGuest(t.Context(), all[0].ID, now()); err != nil {
		t.Fatal(err)
	}
	s.good(t, start())
}

// The word that a host gave for one proof does for no other.
func TestReplayedWordOfTheHost(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	earlier, err := quote.ParseEvidence(s.capture(t).Evidence)
	if err != nil {
		t.Fatal(err)
	}
	record, err := quote.ParseRecord(earlier.Record)
	if err != nil {
		t.Fatal(err)
	}
	for name, word := range map[string]*quote.HostQuote{
		"an earlier word":           earlier.Host,
		"the record for the word":   {Attest: record.Attest, Signature: record.Signature, PCRs: record.PCRs},
		"another life of the TPM's": nil,
	} {
		t.Run(name, func(t *testing.T) {
			cause := "host now: nonce, virtual machine and keys are signed"
			s.Tamper(changed(exchange.PathFinish, evidence(func(e *quote.Evidence) {
				if word != nil {
					e.Host = word
					return
				}
				e.Life, cause = earlier.Life, quote.StepGuestLife
			})))
			defer s.Tamper(nil)
			_, err := s.acquire(t, s.guest)
			s.refused(t, s.guest, exchange.NotAllowed, cause)
			if err == nil {
				t.Error("the key was given")
			}
		})
	}
	s.Tamper(changed(exchange.PathFinish, evidence(func(e *quote.Evidence) { e.Host = nil })))
	s.refused(t, s.guest, exchange.NotAllowed, "no host behind it")
	s.Tamper(nil)
	s.good(t, s.guest)
}

// A guest asks through the port of another guest, of its own host or of another:
// the host speaks for whom it sees.
func TestWordForAnotherGuest(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	neighbour := s.StartGuest(t, s.Host, vmB)
	g := s.guest
	g.Host = neighbour.Host
	s.refused(t, g, exchange.NotAllowed, "host now: nonce, virtual machine and keys are signed")

	other := vtpmtest.New(t)
	s.Credentials.Vendors = append(s.Credentials.Vendors, vendorOf(t, other)...)
	if err := s.Server.Use(s.Credentials); err != nil {
		t.Fatal(err)
	}
	s.Enrol(t, other, nil)
	far := s.StartGuest(t, other, vmA) // the same UUID, on a host that is enrolled, too
	g.Host = far.Host
	s.refused(t, g, exchange.NotAllowed, "host now: signature")
	s.good(t, far)
	s.good(t, s.guest)
}

// The host's state at the proof decides, not that at the guest's start.
func TestHostThatChangedSinceTheStart(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	s.good(t, s.guest)
	tpm, err := guest.Open(t.Context(), s.Host.TPM)
	if err != nil {
		t.Fatal(err)
	}
	vtpmtest.Extend(t, tpm, 2)
	tpm.Close()
	s.refused(t, s.guest, exchange.NotAllowed, "none of the licence's")
}

// A server that does not ask for the host's word takes a copy for the guest, and
// judges a word that is there all the same.
func TestWithoutTheWordOfTheHost(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{HostFresh: server.HostOff})
	alone := s.guest
	alone.Host = ""
	s.good(t, alone)
	s.Tamper(changed(exchange.PathFinish, evidence(func(e *quote.Evidence) { flip(e.Host.PCRs[0].Digest) })))
	s.refused(t, s.guest, exchange.NotAllowed, "host now: PCRs")
	if _, err := server.New(s.Ledger, server.Options{HostFresh: "sometimes"}); err == nil {
		t.Error("a server that asks sometimes")
	}
}

// vendorOf is whom a host's TPM is certified by.
func vendorOf(t *testing.T, h *vtpmtest.Host) []*x509.Certificate {
	t.Helper()
	certs, err := pki.ReadFile(filepath.Join(h.DataDir, "vtpm", "trust", "vendor.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return certs
}
