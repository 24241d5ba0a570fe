// Package server decides which guests get a licensed model's key: the server's
// side of licensing/exchange. It does no listening; it is an http.Handler for
// connections over TLS 1.3.
package server

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Ledger is what the server remembers: a ledger.Ledger.
type Ledger interface {
	Licence(ctx context.Context, guid, model string) (ledger.Licence, error)
	Offer(ctx context.Context, id string, data []byte, expires, now time.Time) error
	Take(ctx context.Context, id string, now time.Time) ([]byte, error)
	Holding(ctx context.Context, lease string) (ledger.Holding, error)
	Claim(ctx context.Context, c ledger.Claim, now time.Time) (ledger.Lease, error)
	Remember(ctx context.Context, r ledger.Refusal, keep int) error
	KeepLog(ctx context.Context, tcb string, data []byte, now time.Time) error
	Refuse(ctx context.Context, c ledger.Claim, reason string, count int, now time.Time) error
	Renew(ctx context.Context, id, guest string, term, most time.Duration, now time.Time) (ledger.Lease, error)
	End(ctx context.Context, id, guest string, now time.Time) error
}

// Verifier says whether a party's certificate is believed: a pki.Verifier.
type Verifier interface {
	Verify(ctx context.Context, chain []*x509.Certificate) ([]*x509.Certificate, error)
}

// Credentials are the server's keys, and whom it trusts.
type Credentials struct {
	Certificate *x509.Certificate // of its TLS key, which signs leases
	Signer      crypto.Signer     // that key, P-384
	Release     []*ecdsa.PrivateKey
	ISVs        Verifier            // of who signs licences
	Customers   Verifier            // of customers' certificates
	Vendors     []*x509.Certificate // roots of host TPMs' vendors
	Attestation []*x509.Certificate // authorities that certify hosts' attestation keys

	renewal [][]byte      // of each key-release key
	chains  *quote.Chains // of hosts
	// believed is until when a licence's parties need not be asked about again.
	believed *lru.Cache[ledger.Key, time.Time]
}

func (c Credentials) check() error {
	key, ok := c.Signer.Public().(*ecdsa.PublicKey)
	switch {
	case !ok || key.Curve != elliptic.P384():
		return errors.New("the TLS key is not a P-384 key")
	case !key.Equal(c.Certificate.PublicKey):
		return errors.New("the TLS certificate is of another key")
	case len(c.Release) == 0:
		return errors.New("there is no key-release key")
	case c.ISVs == nil || c.Customers == nil:
		return errors.New("nobody is trusted")
	}
	return nil
}

// Options are how long things last, and how much is let through. Zeros are the
// defaults.
type Options struct {
	Challenge  time.Duration // that a challenge may be answered; 1 minute
	Lease      time.Duration // that a lease lasts; 10 minutes
	ProofEvery time.Duration // that a lease is renewed without another proof; 24 hours
	RecordAge  time.Duration // that a host's record may have; 0 is any age
	HostFresh  HostFresh     // whether hosts have to vouch for each proof; HostRequired
	Limits     Limits
	// Hint is what whoever reads the log can do about an error of the ledger, "" for
	// nothing; nil where nothing is known.
	Hint    func(error) string
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: none
	Metrics prometheus.Registerer
}

// HostFresh says whether the host of a guest has to vouch for each proof of it.
type HostFresh string

const (
	HostRequired HostFresh = "required"
	// HostOff takes the host's word of the guest's start for that. Whoever has a copy
	// of a vTPM, and nothing else, then gets keys.
	HostOff HostFresh = "off"
)

// Server answers guests. It is safe for concurrent use.
type Server struct {
	ledger      Ledger
	credentials atomic.Pointer[Credentials]
	opts        Options
	limits      *limits
	verified    *lru.Cache[[sha256.Size]byte, *licensing.Signed[licensing.Licence]]
	holdings    *lru.Cache[string, holding] // by lease
	refusals    *refusals
	others      *rate.Limiter                // refusals of strangers that are remembered
	logged      *lru.Cache[string, struct{}] // TCBs of which an event log is kept
	metrics     metrics
	mux         *http.ServeMux
}

// New returns a server that refuses everything until Use gives it credentials.
func New(l Ledger, o Options) (*Server, error) {
	if o.Challenge == 0 {
		o.Challenge = time.Minute
	}
	if o.Lease == 0 {
		o.Lease = 10 * time.Minute
	}
	if o.ProofEvery == 0 {
		o.ProofEvery = 24 * time.Hour
	}
	if o.HostFresh == "" {
		o.HostFresh = HostRequired
	}
	if o.HostFresh != HostRequired && o.HostFresh != HostOff {
		return nil, fmt.Errorf("host's word %q: want %q or %q", o.HostFresh, HostRequired, HostOff)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{ledger: l, opts: o, mux: http.NewServeMux(), others: rate.NewLimiter(othersPerSecond, othersAtOnce)}
	var err error
	if s.limits, err = newLimits(o.Limits); err != nil {
		return nil, err
	}
	if s.verified, err = lru.New[[sha256.Size]byte, *licensing.Signed[licensing.Licence]](maxVerified); err != nil {
		return nil, err
	}
	if s.refusals, err = newRefusals(); err != nil {
		return nil, err
	}
	if s.logged, err = lru.New[string, struct{}](maxVerified); err != nil {
		return nil, err
	}
	if s.holdings, err = lru.New[string, holding](maxHoldings); err != nil {
		return nil, err
	}
	if s.metrics, err = newMetrics(o.Metrics); err != nil {
		return nil, err
	}
	handle(s, exchange.PathBegin, exchange.MaxBegin, s.begin)
	handle(s, exchange.PathFinish, exchange.MaxFinish, s.finish)
	handle(s, exchange.PathRenew, exchange.MaxRenew, s.renew)
	handle(s, exchange.PathEnd, exchange.MaxRenew, s.end)
	return s, nil
}

// Use has the server decide with these credentials from now on. Requests that
// are under way end with those that they began with.
func (s *Server) Use(c Credentials) error {
	if err := c.check(); err != nil {
		return fmt.Errorf("use credentials: %w", err)
	}
	var err error
	if c.chains, err = quote.NewChains(maxVerified); err != nil {
		return fmt.Errorf("use credentials: %w", err)
	}
	if c.believed, err = lru.New[ledger.Key, time.Time](maxVerified); err != nil {
		return fmt.Errorf("use credentials: %w", err)
	}
	c.renewal = nil
	for _, key := range c.Release {
		secret, err := renewalSecret(key)
		if err != nil {
			return fmt.Errorf("use credentials: %w", err)
		}
		c.renewal = append(c.renewal, secret)
	}
	s.credentials.Store(&c)
	return nil
}

// ServeHTTP answers the requests of licensing/exchange.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// maxVerified is how many licences' signatures, and hosts' chains, are remembered.
const maxVerified = 1024

// newID is a random name of 16 bytes in hex.
func newID() string {
	var id [16]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
