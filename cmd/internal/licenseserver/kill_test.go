package licenseserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/testlog"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/guest"
)

// TestServerKilledUnderLoad kills the server process 200 times while guests prove
// themselves and renew. No lease that a guest was told of is lost, none is counted
// twice, and the audit log's chain holds.
func TestServerKilledUnderLoad(t *testing.T) {
	g := newGuide(t)
	g.sold("-t InstanceLimit -l 3")
	db := g.path("DB/ovsa.db")
	g.stored("InstanceLimit", "cust", db)
	g.stopServer()

	licence, customer := g.bought("InstanceLimit.lic")
	users := []*user{{t: t, path: g.runtime, host: g.port(g.guestVM), licence: licence, customer: customer}}
	for _, uuid := range []string{"7a1d4c1e-52ab-4b07-9c55-0d6b1f3f0a12", "7a1d4c1e-52ab-4b07-9c55-0d6b1f3f0a13"} {
		vm := vtpm.Identity{UUID: uuid, Name: "ovsa_runtime"}
		users = append(users, &user{t: t, path: g.startGuest(vm), host: g.port(vm), licence: licence, customer: customer})
	}
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, u := range users {
		u.open()
		all.Go(func() { u.use(done) })
	}
	for range 200 {
		server := g.process(db)
		time.Sleep(rand.N(400 * time.Millisecond))
		if err := server.Process.Kill(); err != nil {
			t.Error("the server ended by itself:", err)
		}
		server.Wait()
	}
	close(done)
	all.Wait()

	l, err := sqlite.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	logged := map[string]int{}
	if err := l.Audit(t.Context(), 0, func(_ int64, e ledger.Entry) error {
		if e.What == "claim" && e.Refused == "" {
			logged[e.Lease]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var told, renewed int
	for _, u := range users {
		told, renewed = told+len(u.told), renewed+u.renewed
		for _, id := range u.told {
			if logged[id] != 1 {
				t.Errorf("lease %s was told and logged %d times", id, logged[id])
			}
		}
	}
	if told < 20 || renewed < 200 {
		t.Errorf("%d leases, %d renewals: that was no load", told, renewed)
	}
	usage, err := l.Usage(t.Context(), string(licence.LicenceGUID), string(licence.ModelGUID), time.Now())
	if err != nil || usage.Claims != int64(len(logged)) || usage.Held > len(users) {
		t.Errorf("usage %+v, %d claims logged, %v", usage, len(logged), err)
	}
	if n, _, err := l.VerifyAudit(t.Context(), nil); err != nil || n <= int64(len(logged)) {
		t.Errorf("audit log of %d entries: %v", n, err)
	}
	t.Logf("%d leases told of %d claimed, %d renewals", told, len(logged), renewed)
}

// process is the server as a process of its own, which serves.
func (g *guide) process(db string, more ...string) *exec.Cmd {
	g.t.Helper()
	return g.processAt(g.address, db, more...)
}

// processAt is a server process that listens at an address.
func (g *guide) processAt(address, db string, more ...string) *exec.Cmd {
	g.t.Helper()
	cmd, _ := g.processAndLog(address, db, more...)
	return cmd
}

// processAndLog is processAt with the process's log.
func (g *guide) processAndLog(address, db string, more ...string) (*exec.Cmd, *testlog.Log) {
	g.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Args = append([]string{"license_server", "serve", "-dir", g.path("certs"), "-db", db, "-listen", address}, more...)
	if !slices.Contains(more, "-ops") {
		cmd.Args = append(cmd.Args, "-ops", "off")
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	log := new(testlog.Log)
	dec := json.NewDecoder(io.TeeReader(stderr, log))
	var line struct{ Msg string }
	for line.Msg != "serving" {
		if err := dec.Decode(&line); err != nil {
			g.t.Fatalf("the server does not serve: %v", err)
		}
	}
	g.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	go io.Copy(log, stderr) // or its log would fill the pipe
	return cmd, log
}

// user is a guest that uses the licence for as long as it may.
type user struct {
	t        *testing.T
	path     string
	tpm      *guest.TPM
	host     guest.Port
	licence  licensing.Licence
	customer client.Customer

	told    []string // leases
	renewed int
}

func (u *user) open() {
	u.t.Helper()
	var err error
	if u.tpm, err = guest.Open(u.t.Context(), u.path); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { u.tpm.Close() })
}

// use acquires leases, renews each some times, across the server's deaths, and
// gives every other one back.
func (u *user) use(done <-chan struct{}) {
	for n := 0; ; n++ {
		var lease *client.Lease
		if !u.insist(done, func() (err error) {
			lease, err = client.Acquire(u.t.Context(), u.licence, u.customer, client.Options{TPM: u.tpm, Host: u.host, Rounds: 1})
			return err
		}) {
			return
		}
		u.told = append(u.told, lease.Document().ID)
		goOn := true
		for range 10 {
			if goOn = u.insist(done, func() error { return lease.Renew(u.t.Context()) }); !goOn {
				break
			}
			u.renewed++
		}
		if goOn && n%2 == 0 {
			goOn = u.insist(done, func() error { return lease.End(u.t.Context()) })
		}
		lease.Close()
		if !goOn {
			return
		}
	}
}

// insist does something until the server lets it. A dead server may keep it from
// that, and nothing else may.
func (u *user) insist(done <-chan struct{}, do func() error) bool {
	for {
		select {
		case <-done:
			return false
		default:
		}
		err := do()
		if err == nil {
			return true
		}
		var problem *exchange.Problem
		if errors.As(err, &problem) && problem.Code != exchange.SlowDown && problem.Code != exchange.Unavailable && problem.Code != exchange.ChallengeOver {
			u.t.Error(fmt.Errorf("refused: %w", err))
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
}
