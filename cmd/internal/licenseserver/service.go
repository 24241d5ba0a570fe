package licenseserver

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ovsactl/ovsactl/licensing/ledger"
	proto "github.com/ovsactl/ovsactl/licensing/server"
)

// Service is the protocol: it answers every request but those about the process
// itself. The requests' TLS state is that of the connection to the guest.
type Service interface {
	http.Handler
	// Reload makes requests that come from now on be answered with this material.
	// On an error it goes on with what it had.
	Reload(Material) error
	// Close ends the service's own tasks, once, when no request is under way.
	Close() error
}

// Config is what a service is made of.
type Config struct {
	Ledger   *ledger.Ledger
	Material Material
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Now      func() time.Time
	Lasting  Lasting
	Limits   proto.Limits
	Hint     func(error) string // what to do about an error of the ledger; "" for nothing
}

// Lasting is how long things last.
type Lasting struct {
	Lease      time.Duration
	ProofEvery time.Duration // that a lease is renewed without another proof
	RecordAge  time.Duration // of a host's record; 0 for any
	HostFresh  proto.HostFresh
}

// NewService makes a service, whose own tasks end with ctx or Close.
type NewService func(ctx context.Context, c Config) (Service, error)
