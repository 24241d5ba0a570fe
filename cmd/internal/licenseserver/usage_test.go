package licenseserver

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	proto "github.com/ovsactl/ovsactl/licensing/server"
)

// gathered are the values of a registry's gauges, by name and labels.
func gathered(t *testing.T, u *usageCollector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(u); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			values[name] = m.GetGauge().GetValue()
		}
	}
	return values
}

// What licences are used, what ends, and what cannot work is in the metrics.
func TestUsageMetrics(t *testing.T) {
	w := licensetest.Start(t, proto.Options{})
	g := w.StartGuest(t, w.Host, "6f1d4c1e-52ab-4b07-9c55-0d6b1f3f0a11")
	limited := w.Sell(t, licensing.Terms{Type: licensing.InstanceLimit, Instances: 3}, w.TCB(t, g))
	w.Sell(t, licensing.Terms{Type: licensing.TimeLimit, Days: 10}, w.TCB(t, g))
	w.Sell(t, licensing.Terms{Type: licensing.TimeLimit, Days: 100}, w.TCB(t, g))
	lease, err := client.Acquire(t.Context(), limited, w.Customer(), client.Options{TPM: g.TPM, Host: g.Host, Rounds: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()

	later := time.Duration(0)
	u := &usageCollector{ledger: w.Ledger, now: func() time.Time { return time.Now().Add(later) }, log: slog.New(slog.DiscardHandler),
		look: func(context.Context) []finding {
			return []finding{{Status: good}, {Status: absent}, {Status: absent}}
		}}
	of := " " + string(limited.LicenceGUID) + " " + string(limited.ModelGUID)
	want := map[string]float64{
		"ovsa_licence_leases" + of: 1, "ovsa_licence_seats" + of: 3, "ovsa_licences_ending": 1, "ovsa_database_up": 1,
		"ovsa_setup_incomplete missing": 2, "ovsa_setup_incomplete failed": 0, "ovsa_setup_incomplete soon": 0,
	}
	check := func(when string) {
		t.Helper()
		got := gathered(t, u)
		for name := range want {
			if v, ok := got[name]; !ok || v != want[name] {
				t.Errorf("%s: %s is %v (%t), want %v", when, name, v, ok, want[name])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %v", when, got)
		}
	}
	check("in use")
	if err := lease.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("at once again")
	later = usageResult + time.Second
	delete(want, "ovsa_licence_leases"+of)
	delete(want, "ovsa_licence_seats"+of)
	check("later")

	u.ledger, later = away{}, 2*later
	want = map[string]float64{"ovsa_database_up": 0, "ovsa_setup_incomplete missing": 2, "ovsa_setup_incomplete failed": 0, "ovsa_setup_incomplete soon": 0}
	check("without a database")
}

// away is a database that is away.
type away struct{ usages }

func (away) InUse(context.Context, int, time.Time) ([]ledger.InUse, error) {
	return nil, errors.New("away")
}
