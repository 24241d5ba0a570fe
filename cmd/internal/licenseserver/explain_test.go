package licenseserver_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/licenseserver"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/server"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// explained is a world whose refusals an administrator has explained.
type explained struct {
	*licensetest.World
	t       *testing.T
	guest   licensetest.Guest
	licence licensing.Licence
	log     []byte // of the guest's firmware
}

func explaining(t *testing.T, terms licensing.Terms, o server.Options) *explained {
	t.Helper()
	e := &explained{World: licensetest.Start(t, o), t: t, log: vtpmtest.EventLog()}
	e.guest = e.StartGuest(t, e.Host, "6f1d4c1e-52ab-4b07-9c55-0d6b1f3f0a11")
	e.licence = e.Sell(t, terms, e.TCB(t, e.guest))
	return e
}

func (e *explained) acquire(g licensetest.Guest) (*client.Lease, error) {
	e.t.Helper()
	o := client.Options{TPM: g.TPM, Rounds: 1, EventLog: e.log}
	if g.Host != "" {
		o.Host = g.Host
	}
	lease, err := client.Acquire(e.t.Context(), e.licence, e.Customer(), o)
	if err == nil {
		e.t.Cleanup(lease.Close)
	}
	return lease, err
}

// refused is the name of a request that has to be refused.
func (e *explained) refused(err error) string {
	e.t.Helper()
	var p *exchange.Problem
	if !errors.As(err, &p) {
		e.t.Fatalf("not refused: %v", err)
	}
	return p.Request
}

// explain runs license_server explain.
func (e *explained) explain(args ...string) (code int, out, errs string) {
	e.t.Helper()
	var stdout, stderr bytes.Buffer
	code = licenseserver.Program(licenseserver.Machine()).Run(e.t.Context(), guestcli.Env{
		Args: append([]string{"explain", "-db", e.DB}, args...), Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
	})
	return code, stdout.String(), stderr.String()
}

// says insists on what an explanation says.
func (e *explained) says(request string, want ...string) string {
	e.t.Helper()
	code, out, errs := e.explain(request)
	if code != 0 {
		e.t.Fatalf("exit %d: %s", code, errs)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			e.t.Errorf("it does not say %q:\n%s", w, out)
		}
	}
	return out
}

// A state that no TCB has: the register, and the first event that differs from those
// of a guest that was in the TCB before.
func TestExplainState(t *testing.T) {
	e := explaining(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	if _, err := e.acquire(e.guest); err != nil {
		t.Fatal(err)
	}
	vtpmtest.Extend(t, e.guest.TPM, 4)
	loader := quote.Event{PCR: 4, Type: 0x80000003, Digest: make([]byte, 32), Data: []byte("evil.efi")}
	e.log = vtpmtest.EventLog(loader)
	_, err := e.acquire(e.guest)
	request := e.refused(err)
	e.says(request, "state", "TCB ", "guest's PCR 4 (boot loader)", "first difference: event 9",
		`is     EV_EFI_BOOT_SERVICES_APPLICATION "evil.efi" 0000`, "wants  -", "gen-tcb-signature", "sale -renew", "customer:  CN=customer", string(e.licence.LicenceGUID))

	_, out, _ := e.explain("-json", request)
	var parsed struct {
		Check string
		TCBs  []struct {
			Differs []struct {
				Of    string
				PCR   int
				Event *struct{ Place int }
			}
		}
		State any
	}
	if err := json.Unmarshal([]byte(out), &parsed); err != nil {
		t.Fatal(err)
	}
	if parsed.Check != "state" || len(parsed.TCBs) != 1 || len(parsed.TCBs[0].Differs) != 1 || parsed.TCBs[0].Differs[0].PCR != 4 ||
		parsed.TCBs[0].Differs[0].Event == nil || parsed.TCBs[0].Differs[0].Event.Place != 9 || parsed.State != nil {
		t.Errorf("%s", out)
	}

	// What the guest does not say in its log is told as such.
	e.log = nil
	_, err = e.acquire(e.guest)
	e.says(e.refused(err), "guest's PCR 4", "the guest sent no event log")

	// And the licence that was made for it later allows it.
	e.licence.TCBs = append(e.licence.TCBs, e.TCB(t, e.guest))
	e.Store(t, e.licence, e.ISV)
	e.says(request, "allows this state by now")
}

// Before any guest was in a TCB, a reference shows what differs.
func TestExplainReference(t *testing.T) {
	e := explaining(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	dir := t.TempDir()
	path := func(name string, data []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good, err := guest.Make(t.Context(), e.guest.TPM, make([]byte, 32), vtpmtest.EventLog(), e.guest.Host)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := good.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	good.EventLog = nil
	silent, err := good.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	vtpmtest.Extend(t, e.guest.TPM, 7)
	e.log = vtpmtest.EventLog(quote.Event{PCR: 7, Type: 4, Digest: make([]byte, 32), Data: []byte{0, 0, 0, 0}})
	_, err = e.acquire(e.guest)
	request := e.refused(err)
	e.says(request, "guest's PCR 7", "no guest was in this state yet")
	for _, tt := range []struct {
		name string
		data []byte
		code int
		want string
	}{
		{"quote", append(answer, '\n'), 0, "first difference: event 9\n      is     EV_SEPARATOR "},
		{"log", vtpmtest.EventLog(), 0, "first difference: event 9"},
		{"another", e.log, 0, "the reference does not lead to what is wanted"},
		{"silent", silent, 1, "no event log"},
		{"json", []byte("{}"), 1, "parse evidence"},
		{"rubbish", []byte("rubbish"), 1, "parse event log"},
	} {
		code, out, errs := e.explain("-reference", path(tt.name, tt.data), request)
		if code != tt.code || !strings.Contains(out+errs, tt.want) {
			t.Errorf("%s: exit %d, want %q:\n%s%s", tt.name, code, tt.want, out, errs)
		}
	}
}

// Each check that refuses is named, with what would allow it.
func TestExplainChecks(t *testing.T) {
	at := func(later time.Duration) func() time.Time {
		return func() time.Time { return time.Now().Add(later) }
	}
	for _, tt := range []struct {
		name string
		o    server.Options
		do   func(e *explained) error // what has to be refused
		want []string
	}{
		{"revoked host", server.Options{}, func(e *explained) error {
			lease, err := e.acquire(e.guest)
			if err != nil {
				return err
			}
			var host string
			if err := e.Ledger.Audit(e.t.Context(), 0, func(_ int64, entry ledger.Entry) error {
				for _, s := range entry.Subjects {
					if s.Kind == ledger.KindHost {
						host = s.ID
					}
				}
				return nil
			}); err != nil {
				return err
			}
			if err := e.Ledger.Revoke(e.t.Context(), ledger.Subject{Kind: ledger.KindHost, ID: host}, "stolen", time.Now()); err != nil {
				return err
			}
			lease.Close()
			_, err = e.acquire(e.guest)
			return err
		}, []string{"revoked", "license_server unrevoke host "}},
		{"host that is not enrolled", server.Options{}, func(e *explained) error {
			_, err := e.acquire(e.StartGuest(e.t, vtpmtest.New(e.t), "0b5e7a52-9f6a-4a63-8c11-0e8f4a6d2b22"))
			return err
		}, []string{`host, step "host record: host AK certified"`, "ovsactl host enroll", "trust add -for attestation"}},
		{"no word of the host", server.Options{}, func(e *explained) error {
			alone := e.guest
			alone.Host = ""
			_, err := e.acquire(alone)
			return err
		}, []string{`evidence, step "host now"`, "ovsactl host check"}},
		{"another customer's keys", server.Options{}, func(e *explained) error {
			e.Secondary = licensetest.NewParty(e.t, "mallory")
			_, err := e.acquire(e.guest)
			return err
		}, []string{"possession", "another customer's certificate", "license_server show"}},
		{"an old record", server.Options{RecordAge: time.Minute, Now: at(4 * time.Minute)}, func(e *explained) error {
			_, err := e.acquire(e.guest)
			return err
		}, []string{"record age", "-record-age"}},
		{"a licence that is over", server.Options{Now: at(2 * time.Hour)}, func(e *explained) error {
			e.licence = e.Offer(e.t, licensing.Terms{Type: licensing.TimeLimit, Days: 1}, e.TCB(e.t, e.guest))
			e.licence.Created, e.licence.NotAfter = e.licence.Created.Add(-23*time.Hour), e.licence.NotAfter.Add(-23*time.Hour)
			e.Store(e.t, e.licence, e.ISV)
			_, err := e.acquire(e.guest)
			return err
		}, []string{"term", "sale -renew"}},
		{"all seats taken", server.Options{}, func(e *explained) error {
			e.licence = e.Sell(e.t, licensing.Terms{Type: licensing.InstanceLimit, Instances: 1}, e.TCB(e.t, e.guest))
			if _, err := e.acquire(e.guest); err != nil {
				return err
			}
			_, err := e.acquire(e.StartGuest(e.t, e.Host, "0b5e7a52-9f6a-4a63-8c11-0e8f4a6d2b22"))
			return err
		}, []string{"seats", "guests ls"}},
		{"an ISV that is not believed", server.Options{}, func(e *explained) error {
			e.Credentials.ISVs = nobody{}
			if err := e.Server.Use(e.Credentials); err != nil {
				return err
			}
			_, err := e.acquire(e.guest)
			return err
		}, []string{"isv", "trust add -for isv"}},
		{"a licence that is not stored", server.Options{}, func(e *explained) error {
			e.licence = e.Offer(e.t, licensing.Terms{Type: licensing.Sale}, e.TCB(e.t, e.guest))
			_, err := e.acquire(e.guest)
			return err
		}, []string{"no such licence", "license_server store"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := explaining(t, licensing.Terms{Type: licensing.Sale}, tt.o)
			e.says(e.refused(tt.do(e)), tt.want...)
		})
	}
}

// nobody is believed.
type nobody struct{ server.Verifier }

func (nobody) Verify(context.Context, []*x509.Certificate) ([]*x509.Certificate, error) {
	return nil, errors.New("not believed")
}

// What is not remembered, or no request's name, says where to look.
func TestExplainNothing(t *testing.T) {
	e := explaining(t, licensing.Terms{Type: licensing.Sale}, server.Options{})
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "REQUEST"},
		{[]string{"abc"}, 2, "the server's log has them"},
		{[]string{strings.Repeat("0", 32)}, 1, "the server's log has all"},
	} {
		code, _, errs := e.explain(tt.args...)
		if code != tt.code || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: exit %d, %s", tt.args, code, errs)
		}
	}
}

// Only the latest refusals are kept, of a licence and of strangers, and the others'
// go on.
func TestRefusalsAreBounded(t *testing.T) {
	e := explaining(t, licensing.Terms{Type: licensing.Sale}, server.Options{Limits: server.Limits{
		PerIP: server.Rate{PerSecond: 1e9, Burst: 1e6}, PerEK: server.Rate{PerSecond: 1e9, Burst: 1e6}, PerLicence: server.Rate{PerSecond: 1e9, Burst: 1e6},
	}})
	vtpmtest.Extend(t, e.guest.TPM, 4)
	e.log = nil
	var proven []string
	for range 34 {
		_, err := e.acquire(e.guest)
		proven = append(proven, e.refused(err))
	}
	e.Secondary = licensetest.NewParty(t, "mallory")
	var strange []string
	for range 60 {
		_, err := e.acquire(e.guest)
		strange = append(strange, e.refused(err))
	}
	kept := func(requests []string) (n int) {
		for _, request := range requests {
			if code, _, _ := e.explain(request); code == 0 {
				n++
			}
		}
		return n
	}
	if n := kept(proven); n != 32 {
		t.Errorf("%d of a licence's are kept", n)
	}
	if code, _, _ := e.explain(proven[33]); code != 0 {
		t.Error("the latest is not kept")
	}
	if n := kept(strange); n < 32 || n == 60 {
		t.Errorf("%d of a stranger's are kept", n)
	}
}
