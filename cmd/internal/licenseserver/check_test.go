package licenseserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/trust"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// TestFindings: a server that has all is fine, and whatever is taken from it is found.
func TestFindings(t *testing.T) {
	now := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	store := func(purpose string, ends time.Time) trust.Content {
		return trust.Content{For: purpose, Certificates: []trust.Certificate{{For: purpose, ID: strings.Repeat("0", 64), Subject: "CN=x", Ends: ends}}}
	}
	year := now.AddDate(1, 0, 0)
	for _, tt := range []struct {
		name   string
		change func(s *setup)
		want   state
		lines  string // of what is not good
	}{
		{"complete", func(*setup) {}, good, ""},
		{"certificate ends soon", func(s *setup) { s.end = now.Add(soon - time.Second) }, ending, "soon: certificate: it is used until 2026-04-27\n"},
		{"certificate ends later", func(s *setup) { s.end = now.Add(soon) }, good, ""},
		{"certificate ended", func(s *setup) { s.end = now }, broken, "failed: certificate: it ended on 2026-03-28\n"},
		{"no certificate", func(s *setup) { s.certificate = errors.New("no server.crt") }, broken, "failed: certificate: no server.crt\n"},
		{"no database", func(s *setup) { s.database = errors.New("away") }, broken, "failed: database: away\n"},
		{"no licence", func(s *setup) { s.licences = 0 }, absent, "missing: licences: no licence is stored that guests could use\n"},
		{"no maker", func(s *setup) { s.stores[2] = trust.Content{For: "tpm-vendor", Missing: "no host can be enrolled"} }, absent, "missing: trust for tpm-vendor: no host can be enrolled\n"},
		{"an ISV's certificate ends soon", func(s *setup) { s.stores[0] = store("isv", now.Add(time.Hour)) }, ending, "soon: trust for isv: CN=x ends on 2026-03-28\n"},
		{"a customer's ended", func(s *setup) { s.stores[1] = store("customer", now) }, absent, "missing: trust for customer: CN=x ended on 2026-03-28\n"},
		{"trust that others write", func(s *setup) { s.stores, s.trustErr = nil, errors.New("others may write") }, broken, "failed: trust: others may write\n"},
		{"no host", func(s *setup) { s.hosts = 0 }, absent, "missing: hosts: no host is allowed: none can be enrolled\n"},
		{"a damaged list", func(s *setup) { s.hostsErr = errors.New("line 3") }, absent, "missing: hosts: line 3\n"},
		{"an authority that ends", func(s *setup) { s.authorized = now.Add(time.Hour) }, ending, "soon: attestation authority: it certifies hosts until 2026-03-28\n"},
		{"another's authority", func(s *setup) { s.authority, s.hosts = false, 0 }, good, ""},
	} {
		s := setup{end: year, stores: []trust.Content{store("isv", year), store("customer", year), store("tpm-vendor", year), store("attestation", year)},
			authority: true, hosts: 1, licences: 1}
		tt.change(&s)
		found := s.findings(now)
		if got := worst(found); got != tt.want || lacks(found) != tt.lines {
			t.Errorf("%s: %s, %q, want %s, %q", tt.name, got, lacks(found), tt.want, tt.lines)
		}
	}
}

// shelf is a database of licences.
type shelf struct {
	all  []ledger.Licence
	away error
}

func (s shelf) Check(context.Context) error { return s.away }

func (s shelf) Licences(_ context.Context, _, _ string, n int) ([]ledger.Licence, error) {
	return s.all[:min(n, len(s.all))], nil
}

func TestUsableLicences(t *testing.T) {
	now := time.Now()
	archived, ended, lasting := ledger.Licence{Archived: now}, ledger.Licence{NotAfter: now}, ledger.Licence{NotAfter: now.Add(time.Second)}
	for name, tt := range map[string]struct {
		shelf shelf
		want  int
		fails bool
	}{
		"none":               {shelf{}, 0, false},
		"archived and ended": {shelf{all: []ledger.Licence{archived, ended}}, 0, false},
		"one of each":        {shelf{all: []ledger.Licence{archived, ended, lasting, {}}}, 2, false},
		"too many to tell":   {shelf{all: slices.Repeat([]ledger.Licence{ended}, page)}, 1, false},
		"away":               {shelf{away: errors.New("away")}, 0, true},
	} {
		if got, err := usable(t.Context(), tt.shelf, now); got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}
