package server_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/postgres"
	"github.com/ovsactl/ovsactl/licensing/postgres/postgrestest"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// half is how many proofs and renewals arrive in a second where a server is not to be
// as quick as it can: half of what it shall do, see docs/benchmarks-licensing.md.
var half = map[string]struct{ proofs, renewals int }{"sqlite": {200, 2000}, "postgres": {150, 1500}}

// BenchmarkServer is the server's whole part of a proof and of a renewal, from the
// request to the answer, but for TLS and HTTP. OVSA_BENCH_STORED says with how many
// licences, "1,10000" when it is not set.
func BenchmarkServer(b *testing.B) {
	eachStore(b, func(b *testing.B, db string, l *load) {
		prove := func(int) error {
			_, err := l.Server.Prove(b.Context(), l.exporter, l.begin, l.finish)
			return err
		}
		renew := l.renewals(b, 100, l.Server)
		for _, clients := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("proof/clients=%d", clients), func(b *testing.B) { busy(b, clients, prove) })
			b.Run(fmt.Sprintf("renewal/clients=%d", clients), func(b *testing.B) { busy(b, clients, renew) })
		}
		rate := half[db]
		b.Run(fmt.Sprintf("proof/rate=%d", rate.proofs), func(b *testing.B) { steady(b, rate.proofs, prove) })
		b.Run(fmt.Sprintf("renewal/rate=%d", rate.renewals), func(b *testing.B) { steady(b, rate.renewals, renew) })
	})
}

// BenchmarkRenewHTTPS is a renewal by the real client, with both ends and their
// TLS on this machine.
func BenchmarkRenewHTTPS(b *testing.B) {
	l := newLoad(b, openSQLite(b), 1)
	limits := generous
	limits.InFlight = 4096 // all clients come from one address
	var err error
	if l.Server, err = server.New(l.Ledger, server.Options{Limits: limits}); err != nil { // honest again
		b.Fatal(err)
	}
	if err := l.Server.Use(l.Credentials); err != nil {
		b.Fatal(err)
	}
	var leases []*client.Lease
	for range 100 { // a lease for each licence: a guest has one of each
		l.licence = l.Sell(b, licensing.Terms{Type: licensing.Sale}, l.TCB(b, l.guest))
		lease := l.acquire(b)
		defer lease.Close()
		leases = append(leases, lease)
	}
	for _, clients := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			busy(b, clients, func(n int) error { return leases[n].Renew(b.Context()) })
		})
	}
}

// BenchmarkReplicas is the renewals of 100 clients, by one server and by two that
// share a PostgreSQL, each with half of the clients.
func BenchmarkReplicas(b *testing.B) {
	pg := postgrestest.Start(b)
	pg.Create(b, "ovsa")
	open := func() *ledger.Ledger {
		l, err := postgres.Open(b.Context(), pg.URL("ovsa"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { l.Close() })
		return l
	}
	l := newLoad(b, open(), 1)
	other, err := server.New(open(), server.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	if err := other.Use(l.Credentials); err != nil {
		b.Fatal(err)
	}
	replicas := []*server.Server{l.Server, other}
	for n := range replicas {
		renew := l.renewals(b, 100, replicas[:n+1]...)
		b.Run(fmt.Sprintf("servers=%d", n+1), func(b *testing.B) { busy(b, 100, renew) })
	}
}

// BenchmarkPlain is what the above is measured by: verifying a P-384 signature, as
// several are in a proof, and a transaction of one row, as there is for a decision
// that comes alone.
func BenchmarkPlain(b *testing.B) {
	b.Run("verify", func(b *testing.B) {
		p, digest := licensetest.NewParty(b, "signer"), make([]byte, 48)
		signature, err := ecdsa.SignASN1(rand.Reader, p.Key, digest)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if !ecdsa.VerifyASN1(&p.Key.PublicKey, digest, signature) {
				b.Fatal("not verified")
			}
		}
	})
	for name, open := range map[string]func() (*sql.DB, error){
		"sqlite": func() (*sql.DB, error) {
			return sql.Open("sqlite3", "file:"+filepath.Join(b.TempDir(), "db")+"?_journal_mode=WAL&_synchronous=FULL")
		},
		"postgres": func() (*sql.DB, error) { return sql.Open("pgx", postgrestest.Start(b).URL("postgres")) },
	} {
		b.Run("commit/db="+name, func(b *testing.B) {
			db, err := open()
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec(`CREATE TABLE t (n BIGINT)`); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := db.Exec(`INSERT INTO t VALUES (1)`); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// eachStore runs a benchmark on each kind of database, with some numbers of
// licences in it.
func eachStore(b *testing.B, bench func(b *testing.B, db string, l *load)) {
	b.Helper()
	list := "1,10000"
	if text := os.Getenv("OVSA_BENCH_STORED"); text != "" {
		list = text
	}
	open := map[string]func(*testing.B) *ledger.Ledger{
		"sqlite": func(b *testing.B) *ledger.Ledger { return openSQLite(b) },
		"postgres": func(b *testing.B) *ledger.Ledger {
			s := postgrestest.Start(b)
			s.Create(b, "ovsa")
			l, err := postgres.Open(b.Context(), s.URL("ovsa"))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { l.Close() })
			return l
		},
	}
	for _, db := range []string{"sqlite", "postgres"} {
		for word := range strings.SplitSeq(list, ",") {
			stored, err := strconv.Atoi(word)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("db=%s/stored=%d", db, stored), func(b *testing.B) {
				bench(b, db, newLoad(b, open[db](b), stored))
			})
		}
	}
}

// renewals are leases of as many guests, each of another licence, on the host of the
// proof. A client renews its own, each at one of the servers.
func (l *load) renewals(b *testing.B, guests int, servers ...*server.Server) func(client int) error {
	b.Helper()
	var proven ledger.Entry
	if err := l.Ledger.Audit(b.Context(), 0, func(_ int64, e ledger.Entry) error {
		if e.What == "claim" {
			proven = e
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	var leases []ledger.Lease
	tcb := l.TCB(b, l.guest)
	for n := range guests {
		lic := l.Sell(b, licensing.Terms{Type: licensing.Sale}, tcb)
		guest := fmt.Sprintf("000b%064x", n)
		subjects := slices.DeleteFunc(slices.Clone(proven.Subjects), func(s ledger.Subject) bool { return s.ID == proven.Guest })
		lease, err := l.Ledger.Claim(b.Context(), ledger.Claim{
			GUID: string(lic.LicenceGUID), Model: string(lic.ModelGUID), Guest: guest, Expires: time.Now().Add(10 * time.Minute),
			Subjects: append(subjects, ledger.Subject{Kind: "guest", ID: guest}),
		}, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		leases = append(leases, lease)
	}
	return func(n int) error {
		lease := leases[n%guests]
		_, err := servers[n%len(servers)].Renew(b.Context(), lease.ID, lease.Guest)
		return err
	}
}

// busy has clients do something one after another, each by itself, and reports
// how many a second and how long each took.
func busy(b *testing.B, clients int, do func(client int) error) {
	b.Helper()
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for c := range clients {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				begin := time.Now()
				if err := do(c); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(begin)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	report(b, took)
}

// steady has so many begin in a second, whatever becomes of those before: what a
// server is late with counts for all that wait.
func steady(b *testing.B, perSecond int, do func(client int) error) {
	b.Helper()
	took := make([]time.Duration, b.N)
	var all sync.WaitGroup
	b.ResetTimer()
	first := time.Now()
	for i := range b.N {
		begin := first.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		time.Sleep(time.Until(begin))
		all.Go(func() {
			if err := do(i); err != nil {
				b.Error(err)
			}
			took[i] = time.Since(begin)
		})
	}
	all.Wait()
	b.StopTimer()
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per-s")
	b.ReportMetric(float64(took[b.N/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[b.N*99/100].Microseconds())/1000, "p99-ms")
}
