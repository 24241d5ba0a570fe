package ovsaruntime

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ovsactl/ovsactl/internal/buildinfo"
	"github.com/ovsactl/ovsactl/licensing/hosting"
	"github.com/ovsactl/ovsactl/licensing/modelfs"
)

// collector tells Prometheus what becomes of models. It has labels for those alone
// that there are now.
type collector struct {
	host   *hosting.Host
	tally  *hosting.Tally
	reads  *modelfs.Counters
	front  *hosting.FrontState // nil for no front
	certs  frontCerts
	kills  atomic.Uint64 // of engines for their memory
	engine engineMetrics
}

// frontStatus is that of the front; nil for none.
func (c *collector) frontStatus() *hosting.FrontStatus {
	if c.front == nil {
		return nil
	}
	status := c.front.Get()
	return &status
}

// desc describes a metric of the runtime.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ovsaruntime_"+name, help, labels, nil)
}

// ofVersion are the labels of what is said of a version.
var ofVersion = []string{"model", "version"}

var (
	modelState       = desc("model_state", "1 for the state that a version is in.", append(ofVersion, "state")...)
	modelLeaseEnd    = desc("model_lease_end_seconds", "When a version's lease ends, in Unix time.", ofVersion...)
	modelLastProof   = desc("model_last_proof_seconds", "When the guest was proven for a version last, in Unix time.", ofVersion...)
	modelProofs      = desc("model_proofs_total", "Proofs of the guest for a version, by result.", append(ofVersion, "result")...)
	modelRenewals    = desc("model_renewals_total", "Renewals of a version's lease, by result.", append(ofVersion, "result")...)
	engineUp         = desc("engine_up", "1 while the models' server answers.")
	engineStarts     = desc("engine_starts_total", "How often the models' server was started.")
	engineKills      = desc("engine_memory_kills_total", "How often the models' server was killed for its memory.")
	configRefused    = desc("configuration_refused", "1 while the configuration that is there is not used.")
	readBytes        = desc("read_bytes_total", "Bytes of models that were read.")
	decryptedBytes   = desc("decrypted_bytes_total", "Bytes of models that were decrypted and authenticated.")
	keptChunks       = desc("kept_chunks_total", "Chunks of models that were decrypted already when they were asked for.")
	wrongChunks      = desc("wrong_chunks_total", "Reads of models that failed, because a chunk is not what was sealed.")
	frontUp          = desc("front_up", "1 while nginx takes requests for the models' server.")
	frontReloads     = desc("front_reloads_total", "Times that nginx took other certificates, by result.", "result")
	frontCertificate = desc("front_certificate_end_seconds", "When what is in a file of the front ends, in Unix time.", "file")
)

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		modelState, modelLeaseEnd, modelLastProof, modelProofs, modelRenewals, engineUp, engineStarts, engineKills, configRefused,
		readBytes, decryptedBytes, keptChunks, wrongChunks, frontUp, frontReloads, frontCertificate,
	} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	models, engine := c.host.Status()
	for _, m := range models {
		of := []string{m.Name, strconv.FormatInt(m.Version, 10)}
		gauge(modelState, 1, append(of, string(m.State))...)
		for d, at := range map[*prometheus.Desc]time.Time{modelLeaseEnd: m.Lease, modelLastProof: m.Proven} {
			if !at.IsZero() {
				gauge(d, float64(at.Unix()), of...)
			}
		}
		n := c.tally.Of(m.Name, m.Version)
		counter(modelProofs, n.Proofs, append(of, "ok")...)
		counter(modelProofs, n.FailedProofs, append(of, "failed")...)
		counter(modelRenewals, n.Renewals, append(of, "ok")...)
		counter(modelRenewals, n.FailedRenewals, append(of, "failed")...)
	}
	gauge(engineUp, one(engine.State == hosting.Ready))
	counter(engineStarts, uint64(engine.Version))
	gauge(configRefused, one(c.host.Config().Why != ""))
	for d, n := range map[*prometheus.Desc]*atomic.Uint64{
		readBytes: &c.reads.Read, decryptedBytes: &c.reads.Decrypted, keptChunks: &c.reads.Kept, wrongChunks: &c.reads.Wrong,
	} {
		counter(d, n.Load())
	}
	counter(engineKills, c.kills.Load())
	f := c.frontStatus()
	if f == nil {
		return
	}
	gauge(frontUp, one(f.Up))
	counter(frontReloads, f.Reloads, "done")
	counter(frontReloads, f.FailedReloads, "failed")
	for file, at := range c.certs.ends() {
		gauge(frontCertificate, float64(at.Unix()), file)
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// metrics answers Prometheus. What a library registers elsewhere is not in it.
func metrics(c *collector) http.Handler {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ovsaruntime_build_info", Help: "Always 1; the version is a label.", ConstLabels: prometheus.Labels{"version": buildinfo.Version()},
	})
	build.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build, c)
	return promhttp.HandlerFor(prometheus.Gatherers{r, c.engine}, promhttp.HandlerOpts{MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError})
}
