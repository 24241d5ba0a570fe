package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/server"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
)

// what a replica does with a request.
type replica struct {
	mode   atomic.Value // "" answers
	handle http.Handler
}

func (r *replica) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch r.mode.Load() {
	case "dead":
		panic(http.ErrAbortHandler)
	case "hung":
		io.Copy(io.Discard, req.Body) // or the server does not notice that the client has left
		<-req.Context().Done()
	case "away": // its database is
		w.WriteHeader(http.StatusServiceUnavailable)
		json.NewEncoder(w).Encode(exchange.Problem{Code: exchange.Unavailable, Message: "m", Request: "r"})
	default:
		r.handle.ServeHTTP(w, req)
	}
}

// replicas adds a second server to a licence, with a TLS key of its own, on a
// ledger. It returns what each does.
func (s *sold) replicas(t *testing.T, on *ledger.Ledger) (first, second *replica) {
	t.Helper()
	party := licensetest.NewParty(t, "another licence server")
	other, err := server.New(on, server.Options{Limits: generous, Lease: 12 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	credentials := s.Credentials
	credentials.Certificate, credentials.Signer = party.Certificate, party.Key
	if err := other.Use(credentials); err != nil {
		t.Fatal(err)
	}
	first, second = &replica{handle: s.World}, &replica{handle: other}
	first.mode.Store("")
	second.mode.Store("")
	here := s.licence.Servers[0]
	there := here
	here.Address = s.Listen(t, first, s.TLS)
	there.Address, there.Pin = s.Listen(t, second, party), licensing.PinOf(party.Certificate)
	s.licence.Servers = []licensing.Server{here, there}
	return first, second
}

// A lease goes on with the licence's next server when its own does not answer,
// whatever that looks like, and stays there.
func TestRenewalByTheNextServer(t *testing.T) {
	for _, mode := range []string{"dead", "hung", "away"} {
		t.Run(mode, func(t *testing.T) {
			s := sell(t, licensing.Terms{Type: licensing.InstanceLimit, Instances: 1}, server.Options{Lease: 12 * time.Second})
			first, second := s.replicas(t, s.Ledger)
			lease := s.good(t, s.guest)
			first.mode.Store(mode)
			for range 3 {
				if err := lease.Renew(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if mode != "hung" { // which costs half a minute
				lease = s.good(t, s.guest) // a proof goes there, too
			}
			first.mode.Store("")
			second.mode.Store(mode)
			if err := lease.Renew(t.Context()); err != nil {
				t.Errorf("back to the first: %v", err)
			}
			if err := lease.End(t.Context()); err != nil {
				t.Error(err)
			}
			usage, err := s.Ledger.Usage(t.Context(), string(s.licence.LicenceGUID), string(s.licence.ModelGUID), now())
			if err != nil || usage.Held != 0 {
				t.Errorf("%+v, %v", usage, err)
			}
		})
	}
}

// A server that has another database knows no such lease. That ends nothing: the
// lease's own server may come back in time.
func TestRenewalAskedOfAStranger(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	empty, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "other.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	first, _ := s.replicas(t, empty)
	lease := s.good(t, s.guest)
	first.mode.Store("dead")
	if err := lease.Renew(t.Context()); err == nil || errors.Is(err, client.ErrOver) {
		t.Errorf("by a stranger: %v", err)
	}
	first.mode.Store("")
	if err := lease.Renew(t.Context()); err != nil {
		t.Errorf("by its own server: %v", err)
	}
}

// What the other server decides about a lease that it knows is decided.
func TestNextServerRefuses(t *testing.T) {
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	first, _ := s.replicas(t, s.Ledger)
	lease := s.good(t, s.guest)
	first.mode.Store("dead")
	subject := ledger.Subject{Kind: ledger.KindLicence, ID: string(s.licence.LicenceGUID)}
	if err := s.Ledger.Revoke(t.Context(), subject, "test", now()); err != nil {
		t.Fatal(err)
	}
	if err := lease.Renew(t.Context()); !errors.Is(err, client.ErrOver) {
		t.Errorf("revoked: %v", err)
	}

	// While nobody answers, a lease is kept to its end and no longer.
	s = sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Lease: 3 * time.Second})
	first, second := s.replicas(t, s.Ledger)
	lease = s.good(t, s.guest)
	first.mode.Store("dead")
	second.mode.Store("dead")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() {
		time.Sleep(time.Second)
		second.mode.Store("")
	}()
	begin := lease.Document().Expires
	for time.Now().Before(begin) {
		time.Sleep(10 * time.Millisecond)
		if err := lease.Renew(ctx); err == nil {
			break
		}
	}
	if !lease.Document().Expires.After(begin) {
		t.Error("the server that came back was not asked")
	}
}
