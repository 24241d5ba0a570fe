package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/server"
)

// replayed is a ledger with which one proof is good many times, so that a TPM,
// which makes a few in a second, does not limit what is measured. It keeps and
// spends every challenge, and then returns the one that the proof was made for.
type replayed struct {
	*ledger.Ledger
	mu     sync.Mutex
	first  []byte
	honest bool // it returns what it took
}

func (l *replayed) Take(ctx context.Context, id string, now time.Time) ([]byte, error) {
	data, err := l.Ledger.Take(ctx, id, now)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.honest:
		return data, nil
	case l.first == nil:
		l.first = data
	}
	return l.first, nil
}

// load is a server with one proof.
type load struct {
	*licensetest.World
	licence  licensing.Licence
	guest    licensetest.Guest
	exporter []byte
	begin    exchange.Begin
	finish   exchange.Finish
}

func newLoad(b testing.TB, stored int, honest bool) *load {
	b.Helper()
	unlimited := server.Rate{PerSecond: 1e9, Burst: 1e9}
	o := server.Options{
		Log:    slog.New(slog.DiscardHandler),
		Limits: server.Limits{PerIP: unlimited, PerEK: unlimited, PerLicence: unlimited, InFlight: 4096},
	}
	l := &load{World: licensetest.Start(b, o)}
	proofs := &replayed{Ledger: l.Ledger, honest: honest}
	var err error
	if l.Server, err = server.New(proofs, o); err != nil {
		b.Fatal(err)
	}
	if err := l.Server.Use(l.Credentials); err != nil {
		b.Fatal(err)
	}
	l.guest = l.StartGuest(b, l.Host, vmA)
	l.licence = l.Sell(b, licensing.Terms{Type: licensing.Sale}, l.TCB(b, l.guest))
	if honest {
		return l
	}
	l.Tamper(func(path string, data []byte) []byte {
		switch path {
		case exchange.PathBegin:
			err = json.Unmarshal(data, &l.begin)
		case exchange.PathFinish:
			err = json.Unmarshal(data, &l.finish)
		}
		return data
	})
	l.acquire(b).Close()
	l.Tamper(nil)
	var challenge struct{ Exporter []byte }
	if err != nil || json.Unmarshal(proofs.first, &challenge) != nil {
		b.Fatal("nothing was captured")
	}
	l.exporter = challenge.Exporter
	l.fill(b, stored)
	return l
}

func (l *load) acquire(b testing.TB) *client.Lease {
	b.Helper()
	lease, err := client.Acquire(b.Context(), l.licence, l.Customer(), client.Options{TPM: l.guest.TPM, Rounds: 1})
	if err != nil {
		b.Fatal(err)
	}
	return lease
}

// fill stores more licences.
func (l *load) fill(b testing.TB, stored int) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	next.Store(1)
	for range 256 {
		all.Go(func() {
			for next.Add(1) <= int64(stored) {
				if _, err := l.Ledger.Store(b.Context(), ledger.Licence{
					GUID: string(licensing.NewGUID()), Model: string(licensing.NewGUID()), Type: ledger.Sale,
					Document: []byte("document"), Primary: []byte("primary"), Secondary: []byte("secondary"),
				}, time.Now()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// Proofs that come together are decided as each by itself.
func TestProofsTogether(t *testing.T) {
	l := newLoad(t, 1, false)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 5 {
				if _, err := l.Server.Prove(t.Context(), l.exporter, l.begin, l.finish); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// run has clients do something together, and reports how many a second and how
// long each waited.
func run(b *testing.B, clients int, do func(client int) error) {
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
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per-s")
	b.ReportMetric(float64(took[b.N/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[b.N*99/100].Microseconds())/1000, "p99-ms")
}

// stored are how many licences the server has: OVSA_BENCH_STORED says others.
func stored() []int {
	list := []int{1, 10_000}
	if text := os.Getenv("OVSA_BENCH_STORED"); text != "" {
		list = nil
		for word := range strings.SplitSeq(text, ",") {
			n, _ := strconv.Atoi(word)
			list = append(list, n)
		}
	}
	return list
}

// BenchmarkProof is the server's whole part of a proof, from the request to the
// key, but for TLS and HTTP.
func BenchmarkProof(b *testing.B) {
	for _, n := range stored() {
		l := newLoad(b, n, false)
		for _, clients := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("stored=%d/clients=%d", n, clients), func(b *testing.B) {
				run(b, clients, func(int) error {
					_, err := l.Server.Prove(b.Context(), l.exporter, l.begin, l.finish)
					return err
				})
			})
		}
	}
}

// BenchmarkRenew is a renewal over HTTPS, with both ends on this machine.
func BenchmarkRenew(b *testing.B) {
	for _, clients := range []int{1, 10, 100} {
		l := newLoad(b, 1, true)
		var leases []*client.Lease
		for range clients { // a lease for each licence: a guest has one of each
			l.licence = l.Sell(b, licensing.Terms{Type: licensing.Sale}, l.TCB(b, l.guest))
			leases = append(leases, l.acquire(b))
		}
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			run(b, clients, func(c int) error { return leases[c].Renew(b.Context()) })
		})
		for _, lease := range leases {
			lease.Close()
		}
	}
}
