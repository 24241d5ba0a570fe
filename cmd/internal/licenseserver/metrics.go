package licenseserver

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ovsactl/ovsactl/internal/buildinfo"
)

// newRegistry is the server's own: what a library registers elsewhere is not in it.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "license_server_build_info", Help: "Always 1; the version is a label.", ConstLabels: prometheus.Labels{"version": buildinfo.Version()},
	})
	build.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build)
	return r
}

// counters are of the process; the protocol has its own.
type counters struct {
	inFlight   prometheus.Gauge
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	reloads    *prometheus.CounterVec
	turnedAway prometheus.Counter
}

func newCounters(r prometheus.Registerer) counters {
	c := counters{
		inFlight:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "license_server_requests_in_flight", Help: "Requests that are being answered."}),
		requests:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "license_server_requests_total", Help: "Requests that were answered, by status code."}, []string{"code"}),
		seconds:    prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "license_server_request_seconds", Help: "How long requests took.", Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12)}, nil),
		reloads:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "license_server_reloads_total", Help: "Times that keys and trust were read again, by result."}, []string{"result"}),
		turnedAway: prometheus.NewCounter(prometheus.CounterOpts{Name: "license_server_connections_turned_away_total", Help: "Connections beyond the limits."}),
	}
	r.MustRegister(c.inFlight, c.requests, c.seconds, c.reloads, c.turnedAway)
	return c
}

// count measures a handler.
func (c counters) count(h http.Handler) http.Handler {
	return promhttp.InstrumentHandlerInFlight(c.inFlight, promhttp.InstrumentHandlerCounter(c.requests, promhttp.InstrumentHandlerDuration(c.seconds, h)))
}
