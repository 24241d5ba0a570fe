package licenseserver

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ovsactl/ovsactl/licensing"
)

// current is the material in use.
type current struct{ p atomic.Pointer[Material] }

func newCurrent(m Material, registry prometheus.Registerer) *current {
	c := new(current)
	c.p.Store(&m)
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "license_server_certificate_end_seconds", Help: "When the TLS certificate is used no longer, in Unix time.",
	}, func() float64 { return float64(c.end().Unix()) }))
	return c
}

func (c *current) end() time.Time { return licensing.CertificateEnd(c.p.Load().TLS.Leaf) }

func (c *current) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &c.p.Load().TLS, nil
}

// describe is for the log; nothing in it is secret.
func (c *current) describe() []any {
	m := c.p.Load()
	return []any{"pin", licensing.PinOf(m.TLS.Leaf), "end", c.end().UTC().Format(time.RFC3339), "release_keys", len(m.ReleaseKeys),
		"tpm_vendors", len(m.TPMVendors), "attestation_authorities", len(m.Attestation)}
}

// reload reads keys, certificates and trust again. When anything is wrong with
// them all stays as it was. Connections go on; those that come see the new
// certificate.
func (p *process) reload(ctx context.Context) {
	m, err := p.options.dir.material(p.Now, p.options.status)
	if err == nil {
		err = p.service.Reload(m)
	}
	if err != nil {
		p.counters.reloads.WithLabelValues("failed").Inc()
		p.log.Error("reload failed: what was in use stays", "error", err)
		return
	}
	p.current.p.Store(&m)
	p.counters.reloads.WithLabelValues("done").Inc()
	p.log.Info("reloaded", p.current.describe()...)
	p.warn(ctx)
}
