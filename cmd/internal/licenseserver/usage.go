package licenseserver

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ovsactl/ovsactl/licensing/ledger"
)

const (
	// usageResult is for how long what the database said of its licences holds: those
	// who ask often cost it nothing.
	usageResult = 15 * time.Second
	// maxInUse is of how many licences the use is told, those of most leases first.
	maxInUse = 1000
)

// usages is the part of a ledger that knows what is used.
type usages interface {
	InUse(ctx context.Context, n int, now time.Time) ([]ledger.InUse, error)
	Ending(ctx context.Context, from, until time.Time) (int, error)
}

// usageCollector are metrics about licences and certificates, which are looked up
// when somebody asks.
type usageCollector struct {
	ledger usages
	look   func(context.Context) []finding // what the server has, and what ends
	now    func() time.Time
	log    *slog.Logger

	mu     sync.Mutex
	at     time.Time
	inUse  []ledger.InUse
	ending int
	err    error
}

var (
	leasesDesc = prometheus.NewDesc("ovsa_licence_leases", "Leases that guests hold, of the licences of which most are.", []string{"licence", "model"}, nil)
	seatsDesc  = prometheus.NewDesc("ovsa_licence_seats", "Leases that may be held at the same time, of those licences that have a limit.", []string{"licence", "model"}, nil)
	endingDesc = prometheus.NewDesc("ovsa_licences_ending", "Licences that end within 30 days.", nil, nil)
	setupDesc  = prometheus.NewDesc("ovsa_setup_incomplete", "What license_server check tells: what cannot work, or will not for long, by its status.", []string{"status"}, nil)
	upDesc     = prometheus.NewDesc("ovsa_database_up", "Whether the database says how licences are used.", nil, nil)
)

// Describe is of prometheus.Collector.
func (u *usageCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{leasesDesc, seatsDesc, endingDesc, setupDesc, upDesc} {
		to <- d
	}
}

// Collect is of prometheus.Collector.
func (u *usageCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	found := map[state]int{ending: 0, absent: 0, broken: 0}
	for _, f := range u.look(ctx) {
		found[f.Status]++
	}
	delete(found, good)
	for status, n := range found {
		gauge(setupDesc, n, string(status))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := u.now(); u.at.IsZero() || now.Sub(u.at) >= usageResult {
		u.ask(ctx, now)
	}
	if u.err != nil {
		gauge(upDesc, 0)
		return
	}
	gauge(upDesc, 1)
	gauge(endingDesc, u.ending)
	for _, l := range u.inUse {
		gauge(leasesDesc, l.Held, l.GUID, l.Model)
		if l.Type == ledger.InstanceLimit {
			gauge(seatsDesc, l.Seats, l.GUID, l.Model)
		}
	}
}

func (u *usageCollector) ask(ctx context.Context, now time.Time) {
	u.at = now
	if u.inUse, u.err = u.ledger.InUse(ctx, maxInUse, now); u.err == nil {
		u.ending, u.err = u.ledger.Ending(ctx, now, now.Add(soon))
	}
	if u.err != nil {
		u.log.Error("metrics have nothing about licences", "error", u.err.Error())
	}
}
