package server_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/server"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// A guest that is refused again and again fills no log: once an hour there is an
// entry, with how often it was.
func TestRefusalsAreFolded(t *testing.T) {
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	metrics := prometheus.NewRegistry()
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Now: now, Metrics: metrics})
	s.Tamper(changed(exchange.PathFinish, evidence(func(e *quote.Evidence) { flip(e.PCRs[0].Digest) })))
	for range 5 {
		s.refused(t, s.guest, exchange.NotAllowed, "PCR digest")
	}
	later.Store(int64(61 * time.Minute))
	s.refused(t, s.guest, exchange.NotAllowed, "PCR digest")
	var counts []int
	if err := s.Ledger.Audit(t.Context(), 0, func(_ int64, e ledger.Entry) error {
		if e.Refused != "" {
			counts = append(counts, e.Count)
			if e.By != "127.0.0.1" || e.Customer != "CN=customer" || len(e.Request) != 32 || !strings.Contains(e.Refused, "PCR digest") {
				t.Errorf("%+v", e)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(counts) != 2 || counts[0] != 0 || counts[1] != 5 {
		t.Errorf("counts %v, want once and then 5 times", counts)
	}
	if n := counted(t, metrics, "ovsa_refusals_total", string(server.CheckEvidence)); n != 6 {
		t.Errorf("the metrics count %v refusals of evidence", n)
	}
}

// What a guest varies of its rubbish makes no other entry, and what is counted when the
// server ends is logged.
func TestRefusalsOfAllKindsAreFolded(t *testing.T) {
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	s := sell(t, licensing.Terms{Type: licensing.Sale}, server.Options{Now: now})
	logged := func() (counts []int) {
		t.Helper()
		if err := s.Ledger.Audit(t.Context(), 0, func(_ int64, e ledger.Entry) error {
			if e.Refused != "" {
				counts = append(counts, e.Count)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return counts
	}
	settle := func(all bool) {
		t.Helper()
		if err := s.Server.Settle(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 6 {
		s.Tamper(changed(exchange.PathFinish, evidence(func(e *quote.Evidence) { e.Attest[0] = byte(i) })))
		s.refused(t, s.guest, exchange.NotAllowed, "type and magic")
	}
	if counts := logged(); len(counts) != 1 {
		t.Errorf("rubbish of six kinds makes %d entries", len(counts))
	}
	settle(false)
	if counts := logged(); len(counts) != 1 {
		t.Errorf("within the hour: %v", counts)
	}
	later.Store(int64(61 * time.Minute))
	settle(false)
	settle(false)
	if counts := logged(); !slices.Equal(counts, []int{0, 5}) {
		t.Errorf("after an hour: %v, want once and then 5 times", counts)
	}
	for range 3 {
		s.refused(t, s.guest, exchange.NotAllowed, "type and magic")
	}
	s.Tamper(changed(exchange.PathFinish, evidence(func(e *quote.Evidence) { flip(e.PCRs[0].Digest) })))
	s.refused(t, s.guest, exchange.NotAllowed, "PCR digest") // by another step
	settle(true)
	if counts := logged(); !slices.Equal(counts, []int{0, 5, 0, 0, 2}) {
		t.Errorf("at the end: %v", counts)
	}
	if _, _, err := s.Ledger.VerifyAudit(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// counted is the value of a counter with one label.
func counted(t *testing.T, r *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
