package licenseserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/buildinfo"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/sdnotify"
	"github.com/ovsactl/ovsactl/licensing/pki"
	proto "github.com/ovsactl/ovsactl/licensing/server"
)

// serveOptions are what serve's flags say.
type serveOptions struct {
	dir         certDir
	db          string
	listen, ops string
	connections int
	perClient   int
	limits      proto.Limits
	drain       time.Duration
	lasting     Lasting
	status      pki.StatusSource
}

// maxResponses is how many certificates' OCSP responses a server remembers.
const maxResponses = 4096

func serveCommand(run binder) guestcli.Command {
	setting := func(name, arg string, kind guestcli.Kind, value, help string) guestcli.Flag {
		return guestcli.Flag{Name: name, Arg: arg, Kind: kind, Setting: true, Default: value, Help: help}
	}
	duration := func(name, value, help string) guestcli.Flag {
		return setting(name, "DURATION", guestcli.Duration, value, help)
	}
	number := func(name, value, help string) guestcli.Flag {
		return setting(name, "N", guestcli.Number, value, help)
	}
	rate := func(name, value, help string) guestcli.Flag {
		return setting(name, "PER-SECOND:AT-ONCE", guestcli.Rate, value, help)
	}
	return guestcli.Command{
		Name: "serve", Summary: "answer guests; also what the program does without a command",
		Flags: append([]guestcli.Flag{
			dirFlag(), dbFlag(),
			setting("listen", "ADDRESS", guestcli.Plain, ":4452", "where guests connect"),
			setting("ops", "ADDRESS", guestcli.Plain, "127.0.0.1:9452", `where /metrics is, without TLS; "off" for nowhere`),
			number("max-connections", "4096", "connections at the same time"),
			number("max-per-client", "256", "connections of one client at the same time"),
			number("max-requests", "256", "requests that are worked on at the same time"),
			rate("client-rate", "50:200", "requests of one client: an IPv4 address, or an IPv6 network of 64 bits"),
			rate("guest-rate", "1:20", "proofs of one guest"),
			rate("licence-rate", "100:1000", "proofs for one licence"),
			duration("drain", "30s", "how long requests may still take at the end"),
			duration("lease", "10m", "how long a lease lasts, and a revocation takes at most"),
			duration("proof-every", "24h", "how long a lease is renewed without another proof"),
			duration("record-age", "0s", "how old what a host says of a guest's start may be; 0s for any age"),
			{Name: "host-fresh", Arg: "required|off", Values: "required|off", Default: string(proto.HostRequired),
				Help: "whether a guest's host has to vouch for each proof; off takes a copy of a virtual TPM for its guest"},
		}, ocspFlags()...),
		NoJSON: "its log is JSON",
		Run: run(func(ctx context.Context, s session) error {
			memory, err := pki.NewMemory(maxResponses)
			if err != nil {
				return err
			}
			o := serveOptions{
				dir: s.certDir(), db: s.Text("db"), listen: s.Text("listen"), ops: s.Text("ops"),
				connections: s.Number("max-connections"), perClient: s.Number("max-per-client"), drain: s.Duration("drain"),
				lasting: Lasting{Lease: s.Duration("lease"), ProofEvery: s.Duration("proof-every"), RecordAge: s.Duration("record-age"), HostFresh: proto.HostFresh(s.Text("host-fresh"))},
				limits:  proto.Limits{PerIP: s.rate("client-rate"), PerEK: s.rate("guest-rate"), PerLicence: s.rate("licence-rate"), InFlight: s.Number("max-requests")},
				status:  s.status(memory),
			}
			if err := o.check(); err != nil {
				return err
			}
			if s.NewService == nil {
				return hint.Wrap(guestcli.Usagef("answering guests is not in this version yet"), "what there is: license_server help")
			}
			return s.serve(ctx, o)
		}),
	}
}

// rate is the word of a flag of that kind.
func (s session) rate(name string) proto.Rate {
	perSecond, atOnce := s.Rate(name)
	return proto.Rate{PerSecond: perSecond, Burst: atOnce}
}

func (o serveOptions) check() error {
	if o.connections < 1 || o.perClient < 1 || o.limits.InFlight < 1 || o.drain < 0 {
		return guestcli.Usagef("limits are numbers from 1, and a drain is no negative duration")
	}
	if l := o.lasting; l.Lease < time.Second || l.ProofEvery < l.Lease || l.RecordAge < 0 {
		return guestcli.Usagef("a lease lasts a second or longer, and no longer than a proof; no record has a negative age")
	}
	if f := o.lasting.HostFresh; f != proto.HostRequired && f != proto.HostOff {
		return guestcli.Usagef("-host-fresh %q: want %s or %s", f, proto.HostRequired, proto.HostOff)
	}
	return nil
}

// serve runs until ctx ends. It listens when all that it needs is there.
func (s session) serve(ctx context.Context, o serveOptions) (err error) {
	log := slog.New(slog.NewJSONHandler(s.Stderr, nil))
	material, err := o.dir.material(s.Now, o.status)
	if err != nil {
		return o.dir.explain(err)
	}
	ledger, err := awaitDatabase(ctx, o.db, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()

	registry := newRegistry()
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // until requests are answered
	defer stop()
	service, err := s.NewService(running, Config{
		Ledger: ledger, Material: material, Log: log, Metrics: registry, Now: s.Now, Lasting: o.lasting, Limits: o.limits,
		Hint: func(err error) string { return hint.Of(explainDatabase(err, o.db)) },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	p := newProcess(s, o, log, service, ledger, registry, material)
	registry.MustRegister(&usageCollector{ledger: ledger, look: p.health.findings, now: s.Now, log: log})
	var listen net.ListenConfig
	guests, err := listen.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen for guests: %w", err)
	}
	defer guests.Close() // once more than needed
	var ops net.Listener
	if o.ops != "off" {
		if ops, err = listen.Listen(ctx, "tcp", o.ops); err != nil {
			return hint.Wrap(fmt.Errorf("listen for metrics: %w", err), "-ops ADDRESS chooses another place, -ops off none")
		}
		defer ops.Close()
	}
	return p.run(ctx, guests, ops)
}

// process is a server that runs.
type process struct {
	session
	options  serveOptions
	log      *slog.Logger
	service  Service
	current  *current
	health   *health
	counters counters
	registry *prometheus.Registry
}

func newProcess(s session, o serveOptions, log *slog.Logger, service Service, ledger licences, registry *prometheus.Registry, m Material) *process {
	p := &process{session: s, options: o, log: log, service: service, registry: registry, counters: newCounters(registry)}
	p.current = newCurrent(m, registry)
	p.health = &health{look: func(ctx context.Context) []finding {
		found := o.dir.look(ctx, *p.current.p.Load(), nil, ledger, nil, s.Now())
		found.database = explainDatabase(found.database, o.db)
		return found.findings(s.Now())
	}}
	return p
}

// run serves both listeners, reloads when it is asked to, and lets requests end
// when ctx does.
func (p *process) run(ctx context.Context, guests, ops net.Listener) error {
	requests, stopRequests := p.Hangups()
	defer stopRequests()
	servers := map[*http.Server]func(*http.Server) error{
		p.guestServer(): func(server *http.Server) error {
			return server.ServeTLS(newLimited(guests, p.options.connections, p.options.perClient, p.counters.turnedAway), "", "")
		},
	}
	if ops != nil {
		servers[p.opsServer()] = func(server *http.Server) error { return server.Serve(newLimited(ops, 64, 64, p.counters.turnedAway)) }
	}
	group, live := errgroup.WithContext(ctx)
	for server, serve := range servers {
		group.Go(func() error {
			if err := serve(server); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		})
		group.Go(func() error {
			<-live.Done()
			return p.drain(ctx, server)
		})
	}
	group.Go(func() error {
		for {
			select {
			case <-live.Done():
				return nil
			case <-requests:
				p.notify(sdnotify.Reloading())
				p.reload(ctx)
				p.notify(sdnotify.Ready)
			}
		}
	})
	p.announce(ctx, guests, ops)
	err := group.Wait()
	p.log.Info("stopped")
	return err
}

func (p *process) announce(ctx context.Context, guests, ops net.Listener) {
	attrs := []any{"version", buildinfo.Version(), "address", guests.Addr().String()}
	if ops != nil {
		attrs = append(attrs, "ops", ops.Addr().String())
	}
	p.log.Info("serving", append(attrs, p.current.describe()...)...)
	p.warn(ctx)
	p.notify(sdnotify.Ready)
}

// notify tells systemd, which need not hear it.
func (p *process) notify(states ...string) {
	if err := sdnotify.New(p.Getenv).Tell(states...); err != nil {
		p.log.Warn("systemd was not told", "error", err)
	}
}

// drain lets a server's requests end, and ends them when their time is over.
func (p *process) drain(ctx context.Context, server *http.Server) error {
	if p.health.stop() {
		p.log.Info("stopping", "drain", p.options.drain.String())
		p.notify(sdnotify.Stopping)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.options.drain)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		p.log.Warn("requests were cut off", "drain", p.options.drain.String())
		return server.Close()
	}
	return err
}

// soon is how long before its end a certificate is warned of.
const soon = 30 * 24 * time.Hour

// warn logs what cannot work yet, or will not for long.
func (p *process) warn(ctx context.Context) {
	for _, f := range p.health.look(ctx) {
		if f.Status != good {
			p.log.Warn("not complete", "status", f.Status, "what", f.What, "detail", f.Detail, "fix", f.Fix)
		}
	}
}
