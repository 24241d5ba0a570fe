package server

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refusals *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ovsa_requests_total", Help: "Requests by path and by how they were answered.",
		}, []string{"path", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ovsa_request_seconds", Help: "How long requests took.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5},
		}, []string{"path"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ovsa_refusals_total", Help: "Requests that were refused, by what refused them.",
		}, []string{"check"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.refusals} {
		if err := r.Register(c); err != nil {
			return m, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m metrics) observe(path, code string, took time.Duration) {
	m.requests.WithLabelValues(path, code).Inc()
	m.seconds.WithLabelValues(path).Observe(took.Seconds())
}

func (m metrics) refused(c Check) { m.refusals.WithLabelValues(string(c)).Inc() }
