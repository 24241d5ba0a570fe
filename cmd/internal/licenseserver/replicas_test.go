package licenseserver_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/postgres"
	"github.com/ovsactl/ovsactl/licensing/postgres/postgrestest"
	"github.com/ovsactl/ovsactl/vtpm"
)

// TestReplicaKilled: two servers have one database, and one of them is killed in the
// middle of 2,000 renewals. No lease ends before its time, and no seat is given
// twice.
func TestReplicaKilled(t *testing.T) {
	pg := postgrestest.Start(t)
	pg.Create(t, "ovsa")
	db := pg.URL("ovsa")
	g := newGuide(t)
	second := licensetest.FreeAddress(t)
	g.tool(g.isv, "licgen -t InstanceLimit -l 2 -n config -v 1.0 -u "+g.address+" @certs/server.crt -u "+second+" @certs/server.crt -k @isv_keystore -o @two.config")
	g.tool(g.isv, "sale -m @face.masterlic -k @isv_keystore -l @two.config -t @runtime.tcb -p @primary_cust.csr.crt -c @two.lic")
	g.stored("two", "cust", db)
	g.stopServer()

	fast := []string{"-client-rate", "100000:100000"}
	victim := g.processAt(g.address, db, fast...)
	g.processAt(second, db, fast...)

	licence, customer := g.bought("two.lic")
	var users []*user
	for _, uuid := range []string{g.guestVM.UUID, "7a1d4c1e-52ab-4b07-9c55-0d6b1f3f0a12", "7a1d4c1e-52ab-4b07-9c55-0d6b1f3f0a13"} {
		vm := vtpm.Identity{UUID: uuid, Name: "ovsa_runtime"}
		path := g.runtime
		if uuid != g.guestVM.UUID {
			path = g.startGuest(vm)
		}
		u := &user{t: t, path: path, host: g.port(vm), licence: licence, customer: customer}
		u.open()
		users = append(users, u)
	}
	acquire := func(u *user) (*client.Lease, error) {
		return client.Acquire(t.Context(), licence, customer, client.Options{TPM: u.tpm, Host: u.host, Rounds: 1})
	}
	const renewals = 1000 // of each of two guests
	var done atomic.Int32
	var all sync.WaitGroup
	for _, u := range users[:2] {
		lease, err := acquire(u)
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Close()
		all.Go(func() {
			for range renewals {
				if err := lease.Renew(t.Context()); err != nil {
					t.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	for done.Load() < renewals && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	victim.Wait()
	at := done.Load()
	all.Wait()
	if done.Load() != 2*renewals || at >= 2*renewals {
		t.Errorf("%d renewals, %d of them when a server was killed", done.Load(), at)
	}
	var problem *exchange.Problem
	if _, err := acquire(users[2]); !errors.As(err, &problem) || problem.Code != exchange.Exhausted {
		t.Errorf("a third guest: %v", err)
	}

	l, err := postgres.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	use, err := l.Usage(t.Context(), string(licence.LicenceGUID), string(licence.ModelGUID), time.Now())
	if err != nil || use.Held != 2 || use.Claims != 2 {
		t.Errorf("usage %+v, %v", use, err)
	}
	renewed := 0
	if err := l.Audit(t.Context(), 0, func(_ int64, e ledger.Entry) error {
		if e.What == "renew" && e.Refused == "" {
			renewed += max(e.Count, 1)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if renewed != 2 { // the first of each lease and day stands for all
		t.Errorf("%d renewals are in the log", renewed)
	}
	if _, _, err := l.VerifyAudit(t.Context(), nil); err != nil {
		t.Error(err)
	}
	t.Logf("%d of %d renewals when the server was killed, %d in the log", at, 2*renewals, renewed)
}
