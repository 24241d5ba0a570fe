package client_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/server"
)

const vm = "6f1d4c1e-52ab-4b07-9c55-0d6b1f3f0a11"

func acquire(t *testing.T, w *licensetest.World, l licensing.Licence, g licensetest.Guest) (*client.Lease, error) {
	t.Helper()
	lease, err := client.Acquire(t.Context(), l, w.Customer(), client.Options{TPM: g.TPM, Host: g.Host, Rounds: 1})
	if err == nil {
		t.Cleanup(lease.Close)
	}
	return lease, err
}

// code is that of a server's refusal.
func code(err error) exchange.Code {
	var p *exchange.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}

// A proven guest gets the key under each type of licence, renews its lease and
// gives it back.
func TestAcquire(t *testing.T) {
	w := licensetest.Start(t, server.Options{})
	g := w.StartGuest(t, w.Host, vm)
	tcb := w.TCB(t, g)
	for _, terms := range []licensing.Terms{
		{Type: licensing.Sale}, {Type: licensing.InstanceLimit, Instances: 1}, {Type: licensing.TimeLimit, Days: 30},
	} {
		t.Run(string(terms.Type), func(t *testing.T) {
			l := w.Sell(t, terms, tcb)
			lease, err := acquire(t, w, l, g)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(lease.Key().Bytes(), w.Key.Bytes()) {
				t.Error("another key")
			}
			before := lease.Document()
			if left := time.Until(before.Expires); left < 9*time.Minute || left > 10*time.Minute {
				t.Errorf("a lease of %s", left)
			}
			if err := lease.Renew(t.Context()); err != nil {
				t.Error(err)
			}
			if after := lease.Document(); after.ID != before.ID || after.Expires.Before(before.Expires) {
				t.Errorf("renewed from %+v to %+v", before, after)
			}
			if err := lease.End(t.Context()); err != nil {
				t.Error(err)
			}
			if err := lease.Renew(t.Context()); !errors.Is(err, client.ErrOver) || code(err) != exchange.LeaseOver {
				t.Errorf("renewed after its end: %v", err)
			}
		})
	}
}

// A refusal is not asked about again, and what a server cannot do now is.
func TestRefusalsAreFinal(t *testing.T) {
	w := licensetest.Start(t, server.Options{})
	g := w.StartGuest(t, w.Host, vm)
	attempts := func(l licensing.Licence) (n int, err error) {
		_, err = client.Acquire(t.Context(), l, w.Customer(), client.Options{TPM: g.TPM, Host: g.Host, Rounds: 2, Progress: func(_ string, err error) {
			if err != nil {
				n++
			}
		}})
		return n, err
	}
	unknown := w.Offer(t, licensing.Terms{Type: licensing.Sale}, w.TCB(t, g))
	if n, err := attempts(unknown); n != 1 || code(err) != exchange.NotAllowed {
		t.Errorf("%d attempts: %v", n, err)
	}
	known := w.Sell(t, licensing.Terms{Type: licensing.Sale}, w.TCB(t, g))
	if err := w.Ledger.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := attempts(known); n != 2 || code(err) != exchange.Unavailable {
		t.Errorf("%d attempts: %v", n, err)
	}
}

// Whoever gives a lease back hears when that failed.
func TestEndThatFails(t *testing.T) {
	w := licensetest.Start(t, server.Options{})
	g := w.StartGuest(t, w.Host, vm)
	l := w.Sell(t, licensing.Terms{Type: licensing.InstanceLimit, Instances: 1}, w.TCB(t, g))
	lease, err := acquire(t, w, l, g)
	if err != nil {
		t.Fatal(err)
	}
	w.Tamper(func(string, []byte) []byte { return []byte("{}") })
	if err := lease.End(t.Context()); code(err) != exchange.BadRequest {
		t.Errorf("a request that was damaged: %v", err)
	}
	w.Tamper(nil)
	for range 2 { // the second time it is over, which is as good
		if err := lease.End(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
