package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
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

// replayed is a ledger with which one proof is good many times, so that a TPM,
// which makes a few in a second, does not limit what is measured. It keeps and
// spends every challenge, and then returns the one that the proof was made for.
type replayed struct {
	*ledger.Ledger
	mu    sync.Mutex
	first []byte
}

func (l *replayed) Take(ctx context.Context, id string, now time.Time) ([]byte, error) {
	data, err := l.Ledger.Take(ctx, id, now)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
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
	stored   int // licences
}

// newLoad captures a proof. The ledger has stored licences in the end.
func newLoad(b testing.TB, ldg *ledger.Ledger, stored int) *load {
	b.Helper()
	unlimited := server.Rate{PerSecond: 1e9, Burst: 1e9}
	o := server.Options{
		Log:    slog.New(slog.DiscardHandler),
		Limits: server.Limits{PerIP: unlimited, PerEK: unlimited, PerLicence: unlimited, InFlight: 4096},
	}
	l := &load{World: licensetest.StartOn(b, o, ldg), stored: stored}
	proofs := &replayed{Ledger: ldg}
	var err error
	if l.Server, err = server.New(proofs, o); err != nil {
		b.Fatal(err)
	}
	if err := l.Server.Use(l.Credentials); err != nil {
		b.Fatal(err)
	}
	l.guest = l.StartGuest(b, l.Host, vmA)
	l.licence = l.Sell(b, licensing.Terms{Type: licensing.Sale}, l.TCB(b, l.guest))
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
	lease, err := client.Acquire(b.Context(), l.licence, l.Customer(), client.Options{TPM: l.guest.TPM, Host: l.guest.Host, Rounds: 1})
	if err != nil {
		b.Fatal(err)
	}
	return lease
}

// fill stores more licences, each as large as the first, under GUIDs that filler
// makes.
func (l *load) fill(b testing.TB, stored int) {
	b.Helper()
	like, err := l.Ledger.Licence(b.Context(), string(l.licence.LicenceGUID), string(l.licence.ModelGUID))
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	next.Store(1)
	var all sync.WaitGroup
	for range 256 {
		all.Go(func() {
			for n := next.Add(1); n <= int64(stored); n = next.Add(1) {
				lic := like
				lic.GUID, lic.Model = filler(int(n))
				if _, err := l.Ledger.Store(b.Context(), lic, time.Now(), nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	syscall.Sync() // or writing that is what is measured next
}

// filler are the GUIDs of the nth licence, which lie as random ones do.
func filler(n int) (guid, model string) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	text := func(b []byte) string {
		b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
		return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
	}
	return text(sum[:16]), text(sum[16:])
}

// Proofs that come together are decided as each by itself.
func TestProofsTogether(t *testing.T) {
	l := newLoad(t, openSQLite(t), 1)
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

func openSQLite(t testing.TB) *ledger.Ledger {
	t.Helper()
	l, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ovsa.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
