package licenseserver

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	proto "github.com/ovsactl/ovsactl/licensing/server"
)

// Guests makes the service for guests and their hosts: licensing/server, and
// licensing/enrol where the server has an attestation authority.
func Guests(ctx context.Context, c Config) (Service, error) {
	exchange, err := proto.New(c.Ledger, proto.Options{
		Now: c.Now, Log: c.Log, Metrics: c.Metrics, Hint: c.Hint,
		Lease: c.Lasting.Lease, ProofEvery: c.Lasting.ProofEvery, RecordAge: c.Lasting.RecordAge, HostFresh: c.Lasting.HostFresh, Limits: c.Limits,
	})
	if err != nil {
		return nil, err
	}
	g := &guests{exchange: exchange, ledger: c.Ledger, log: c.Log, now: c.Now}
	if err := g.Reload(c.Material); err != nil {
		return nil, err
	}
	ctx, g.stop = context.WithCancel(ctx)
	g.tasks.Go(func() { g.settle(ctx) })
	return g, nil
}

// settleEvery is how often refusals are looked for that the audit log should know of.
const settleEvery = time.Minute

func (g *guests) settle(ctx context.Context) {
	ticks := time.NewTicker(settleEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			if err := g.exchange.Settle(ctx, false); err != nil {
				g.log.Error("refusals are missing in the audit log", "error", err.Error())
			}
		}
	}
}

// closeTime is how long the end of a service may wait for the database.
const closeTime = 5 * time.Second

// Close implements Service.
func (g *guests) Close() error {
	g.stop()
	g.tasks.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return g.exchange.Settle(ctx, true)
}

type guests struct {
	exchange *proto.Server
	hosts    atomic.Pointer[http.Handler]
	ledger   *ledger.Ledger
	log      *slog.Logger
	now      func() time.Time
	stop     func() // ends tasks
	tasks    sync.WaitGroup
}

// Authority certifies hosts' attestation keys.
type Authority struct {
	Certificate *x509.Certificate
	Key         *ecdsa.PrivateKey
	AllowList   string // a file, see enrol.AllowList
}

// Reload implements Service.
func (g *guests) Reload(m Material) error {
	hosts := http.NotFoundHandler()
	if m.Authority != nil {
		service, err := enrol.New(enrol.Options{
			CA: m.Authority.Certificate, Key: m.Authority.Key,
			Roots:  func(context.Context) ([]*x509.Certificate, error) { return m.TPMVendors, nil },
			Policy: enrol.AllowList{Path: m.Authority.AllowList}, Ledger: g.ledger, Now: g.now, Admit: g.exchange.Admit,
		})
		if err != nil {
			return err
		}
		hosts = service.Handler(g.log)
	}
	if err := g.exchange.Use(proto.Credentials{
		Certificate: m.TLS.Leaf, Signer: m.TLS.PrivateKey.(crypto.Signer), Release: m.ReleaseKeys,
		ISVs: m.ISVs, Customers: m.Customers, Vendors: m.TPMVendors, Attestation: m.Attestation,
	}); err != nil {
		return err
	}
	g.hosts.Store(&hosts)
	return nil
}

// ServeHTTP implements Service.
func (g *guests) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v1/hosts/") {
		by, _, _ := net.SplitHostPort(r.RemoteAddr)
		(*g.hosts.Load()).ServeHTTP(w, r.WithContext(ledger.On(r.Context(), by, "")))
		return
	}
	g.exchange.ServeHTTP(w, r)
}
