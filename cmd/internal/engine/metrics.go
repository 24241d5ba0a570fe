package engine

import (
	"log/slog"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// collector tells Prometheus what models have done.
type collector struct{ models *inference.Repository }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ovsa_engine_"+name, help, append([]string{"model", "version"}, labels...), nil)
}

var (
	loaded   = desc("model_loaded", "1 for a version that answers, 0 for one that could not be loaded.")
	requests = desc("requests_total", "Requests that a version has run, by result.", "result")
	waiting  = desc("waiting_seconds_total", "For how long requests have waited for their turn, all together.")
	running  = desc("running_seconds_total", "For how long requests have run, all together.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{loaded, requests, waiting, running} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	for _, name := range c.models.Models() {
		versions, err := c.models.Versions(name)
		if err != nil {
			continue // there is none of that name
		}
		for _, v := range versions {
			of := []string{name, strconv.FormatInt(v.Number, 10)}
			tell := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, more ...string) {
				to <- prometheus.MustNewConstMetric(d, kind, value, append(of, more...)...)
			}
			answers := 1.0
			if v.Available() != nil {
				answers = 0
			}
			s := v.Stats()
			tell(loaded, prometheus.GaugeValue, answers)
			tell(requests, prometheus.CounterValue, float64(s.Succeeded), "ok")
			tell(requests, prometheus.CounterValue, float64(s.Failed), "failed")
			tell(waiting, prometheus.CounterValue, s.Waiting.Seconds())
			tell(running, prometheus.CounterValue, s.Running.Seconds())
		}
	}
}

// metrics answers Prometheus.
func metrics(models *inference.Repository, log *slog.Logger) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collector{models}, prometheus.WrapCollectorWithPrefix("ovsa_engine_", collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)})
}
