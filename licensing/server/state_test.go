package server_test

import (
	"bytes"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/server"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

func now() time.Time { return time.Now() }

func TestAnotherStateOfTheGuest(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	vtpmtest.Extend(t, s.guest.TPM, 16) // software may reset it: it is in no policy
	s.good(t, s.guest)
	vtpmtest.Extend(t, s.guest.TPM, 4)
	s.refused(t, s.guest, exchange.NotAllowed, "none of the licence's")
}

func TestAnotherStateOfTheHost(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	tcb := s.TCB(t, s.guest)
	tcb.Host.PCRs = slices.Clone(tcb.Host.PCRs)
	tcb.Host.PCRs[0].Digest = bytes.Repeat([]byte{9}, 32)
	s.licence = s.Sell(t, licensing.Terms{Type: licensing.Sale}, tcb)
	s.refused(t, s.guest, exchange.NotAllowed, "none of the licence's")
}

// Of several states that a licence allows, the one that the guest is in suffices,
// while it is not revoked.
func TestOneOfSeveralStates(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	right := s.TCB(t, s.guest)
	wrong := right
	wrong.Guest.PCRs = slices.Clone(right.Guest.PCRs)
	wrong.Guest.PCRs[0].Digest = bytes.Repeat([]byte{9}, 32)
	s.licence = s.Sell(t, licensing.Terms{Type: licensing.Sale}, wrong, right)
	s.good(t, s.guest)
	id, err := right.ID()
	if err != nil {
		t.Fatal(err)
	}
	tcb := ledger.Subject{Kind: ledger.KindTCB, ID: id}
	if err := s.Ledger.Revoke(t.Context(), tcb, "old firmware", now()); err != nil {
		t.Fatal(err)
	}
	s.refused(t, s.guest, exchange.Revoked, "revoked")
	if err := s.Ledger.Unrevoke(t.Context(), tcb, now()); err != nil {
		t.Fatal(err)
	}
	s.good(t, s.guest)
}

func TestHostThatIsNotEnrolled(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	s.refused(t, s.StartGuest(t, vtpmtest.New(t), vmB), exchange.NotAllowed, "host AK certified")
}

// Whatever is revoked during a lease ends it at the next renewal, and what is not
// leaves it alone.
func TestRevokedDuringALease(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	subjects := s.subjects(t)
	if len(subjects) != 6 {
		t.Fatalf("a lease is about %v", subjects)
	}
	for _, subject := range subjects {
		lease := s.good(t, s.guest)
		for _, step := range []struct {
			do   func() error
			want error
		}{
			{func() error {
				return s.Ledger.Revoke(t.Context(), ledger.Subject{Kind: subject.Kind, ID: "another"}, "test", now())
			}, nil},
			{func() error { return s.Ledger.Revoke(t.Context(), subject, "test", now()) }, client.ErrOver},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			if err := lease.Renew(t.Context()); !errors.Is(err, step.want) {
				t.Errorf("%v: renewal: %v, want %v", subject, err, step.want)
			}
		}
		s.refused(t, s.guest, exchange.Revoked, string(subject.Kind))
		if err := s.Ledger.Unrevoke(t.Context(), subject, now()); err != nil {
			t.Fatal(err)
		}
	}
}

// subjects are what a lease of the guest is about.
func (s *sold) subjects(t *testing.T) []ledger.Subject {
	t.Helper()
	s.good(t, s.guest)
	var last ledger.Entry
	if err := s.Ledger.Audit(t.Context(), 0, func(_ int64, e ledger.Entry) error { last = e; return nil }); err != nil {
		t.Fatal(err)
	}
	return append([]ledger.Subject{{Kind: ledger.KindLicence, ID: string(s.licence.LicenceGUID)}}, last.Subjects...)
}

// What a host says is good for the boot that it is of: once the server knows of a
// later one, nobody who shows an earlier word runs there.
func TestHostThatBootedAgain(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{HostFresh: server.HostOff})
	alone := s.guest
	alone.Host = ""
	s.good(t, alone)
	s.Host.Boot(t)
	s.good(t, alone)   // for all that the server knows
	s.good(t, s.guest) // the host is in a later boot than its record
	s.refused(t, alone, exchange.NotAllowed, "of an earlier boot")
	s.good(t, s.StartGuest(t, s.Host, vmB))
}

// Where records may not be old, a guest has to be started again in time.
func TestOldRecord(t *testing.T) {
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{RecordAge: 20 * time.Minute, Now: now})
	s.good(t, s.guest)
	later.Store(int64(21 * time.Minute))
	s.refused(t, s.guest, exchange.NotAllowed, "the host's record is 21m")
}
