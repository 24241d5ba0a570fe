package provision_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
)

// withServer gives a manifest's first role a licence server.
func withServer(m *roles.Manifest) {
	m.Roles[0].Components = append(m.Roles[0].Components, roles.Component{Name: "license_server", Port: 4452, Timeout: time.Minute})
}

// enrolled makes it the one that certifies the host.
func enrolled(m *roles.Manifest) {
	withServer(m)
	m.Host.Enroll = &roles.Enroll{Role: "isv_dev", Port: 4452}
}

// starts counts how often a guest was started.
func starts(w *world, domain string) int {
	n := 0
	for _, c := range w.host.Calls() {
		if c.Method == "Start" && c.Name == domain {
			n++
		}
	}
	return n
}

func certified(t *testing.T, w *world) {
	t.Helper()
	for _, role := range []string{"isv_dev", "runtime"} {
		if s, err := (tpmHost{w}).Status(t.Context(), provision.DomainUUID("local", role)); err != nil || !s.Certified {
			t.Errorf("%s: %+v, %v", role, s, err)
		}
	}
}

func nothingMore(t *testing.T, w *world, m *roles.Manifest) {
	t.Helper()
	w.host.Forget()
	p, _, err := apply(w.life(t.Context(), 0), w.engine(), m)
	if err != nil || p.Changed() {
		t.Errorf("second apply: %+v, %+v, %v", p.Enrol, p.Roles, err)
	}
	for _, c := range w.host.Calls() {
		if c.Method != "Domains" {
			t.Errorf("second apply called %s %s", c.Method, c.Name)
		}
	}
}

// A manifest with its own licence server ends fully proven; the other guest does not
// start before the host is certified, and so starts once.
func TestHostIsEnrolledWithItsGuest(t *testing.T) {
	w := newWorld(t)
	w.silent = 2
	m := manifest(t, w, enrolled)
	p, report, err := apply(w.life(t.Context(), 0), w.engine(), m)
	if err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	if p.Enrol == nil || p.Enrol.Server != "role.isv_dev" || !strings.Contains(p.Enrol.Vendor, "a maker of TPMs") {
		t.Errorf("plan: %+v", p.Enrol)
	}
	certified(t, w)
	if a, b := starts(w, "ovsa_isv_dev"), starts(w, "ovsa_runtime"); a != 2 || b != 1 {
		t.Errorf("the server's guest was started %d times, the other one %d times", a, b)
	}
	last := w.asked[len(w.asked)-1]
	if last.URL != "https://192.168.122.20:4452" || last.Pin != pinOf(w.servers["192.168.122.20"]) || last.CA != nil {
		t.Errorf("asked %+v", last)
	}
	nothingMore(t, w, m)
}

// Guests that run since before are started again, once, and nothing else is done to
// them.
func TestBindingsAreRenewed(t *testing.T) {
	w := newWorld(t)
	ctx := w.life(t.Context(), 0)
	if _, _, err := apply(ctx, w.engine(), manifest(t, w, withServer)); err != nil {
		t.Fatal(err)
	}
	w.host.Forget()
	m := manifest(t, w, enrolled)
	p, report, err := apply(ctx, w.engine(), m)
	if err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	for _, rp := range p.Roles {
		if rp.Action != provision.Reboot || !slices.ContainsFunc(rp.Changes, func(c provision.Change) bool { return c.Attribute == "vtpm.host_certificate" }) {
			t.Errorf("%s: %+v", rp.Role, rp)
		}
	}
	certified(t, w)
	for _, c := range w.host.Calls() {
		if c.Method == "Define" || c.Method == "CreateOverlay" {
			t.Errorf("called %s %s", c.Method, c.Name)
		}
	}
	nothingMore(t, w, m)
}

func TestCertificateIsRenewed(t *testing.T) {
	w := newWorld(t)
	ctx := w.life(t.Context(), 0)
	m := manifest(t, w, enrolled)
	if _, _, err := apply(ctx, w.engine(), m); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		do     func()
		reason string
	}{
		{"it ends soon", func() { w.ends = time.Now().Add(24 * time.Hour) }, "its certificate ends on"},
		{"another authority's", func() {
			w.certificate = "another"
			w.believed = append(w.believed, "another")
		}, "another authority"},
		{"somebody removed it", func() { w.certificate = "" }, "it is not enrolled"},
	} {
		tt.do()
		p, report, err := apply(ctx, w.engine(), m)
		if err != nil {
			t.Fatalf("%s: %v: %+v", tt.name, err, report)
		}
		if p.Enrol == nil || !strings.Contains(p.Enrol.Reason, tt.reason) {
			t.Errorf("%s: %+v", tt.name, p.Enrol)
		}
		certified(t, w)
		nothingMore(t, w, m)
	}
}

// A licence server that is made anew has another authority, and the one before is
// believed no longer.
func TestServerMadeAnew(t *testing.T) {
	w := newWorld(t)
	ctx := w.life(t.Context(), 0)
	if _, _, err := apply(ctx, w.engine(), manifest(t, w, enrolled)); err != nil {
		t.Fatal(err)
	}
	before := w.certificate
	m := manifest(t, w, func(m *roles.Manifest) { enrolled(m); m.Roles[0].Image = "noble" })
	p, report, err := apply(ctx, w.engine(), m)
	if err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	if p.Enrol == nil || p.Enrol.Reason != "role.isv_dev is made anew" || w.certificate == before || slices.Contains(w.believed, before) {
		t.Errorf("%+v, certified by %s, before by %s, believed: %q", p.Enrol, w.certificate, before, w.believed)
	}
	certified(t, w)
	nothingMore(t, w, m)
}

// A server that never answers, one that says no, and one that is another leave the
// guests as they are, and the next run goes on.
func TestHostIsNotEnrolled(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*world)
		want string
		hint string
	}{
		{"nobody answers", func(w *world) { w.silent = 1 << 20 }, "no answer within", "systemctl status license_server"},
		{"refused", func(w *world) { w.refuses = errors.New("the host was not enrolled") }, "the host was not enrolled", "systemctl status"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.do(w)
			m := manifest(t, w, enrolled)
			ctx := w.life(t.Context(), 0)
			release, err := w.engine().Lock(ctx, "test", nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := w.engine().Plan(ctx, m, provision.PlanOptions{})
			if err != nil {
				t.Fatal(err)
			}
			report, err := w.engine().Apply(ctx, p, provision.ApplyOptions{Timeout: 2 * time.Second})
			release()
			if !errors.Is(err, provision.ErrRoles) || report.Host == nil || !strings.Contains(report.Host.Error, tt.want) || !strings.Contains(report.Host.Hint, tt.hint) {
				t.Errorf("%v, %+v", err, report.Host)
			}
			for _, r := range report.Roles {
				if r.Failed != "host/enrolled" || !strings.Contains(r.Error, tt.want) {
					t.Errorf("%s failed at %q: %s", r.Role, r.Failed, r.Error)
				}
				if s, err := w.host.Inspect(ctx, provision.DomainName(r.Role)); err != nil || !s.Active || len(s.Metadata.Components) == 0 {
					t.Errorf("%s does not run: %+v, %v", r.Role, s, err)
				}
			}
			w.silent, w.refuses = 0, nil
			if _, report, err := apply(ctx, w.engine(), m); err != nil {
				t.Fatalf("%v: %+v", err, report)
			}
			certified(t, w)
			nothingMore(t, w, m)
		})
	}
}

// What a guest says is not taken for more than it is.
func TestLicenceServersWord(t *testing.T) {
	one := string(pki.EncodePEM(newAuthority("one")))
	for name, tt := range map[string]struct{ word, want string }{
		"not JSON":         {"allowed", "parse what the licence server says"},
		"no certificate":   {`{"pin": "00", "authority": "none"}`, "parse the licence server's authority"},
		"two certificates": {fmt.Sprintf(`{"pin": "00", "authority": %q}`, one+one), "2 certificates"},
		"too much":         {strings.Repeat(" ", 1<<20), "more than 65536 bytes"},
	} {
		w := newWorld(t)
		w.word = tt.word
		_, report, err := apply(w.life(t.Context(), 0), w.engine(), manifest(t, w, enrolled))
		if !errors.Is(err, provision.ErrRoles) || report.Host == nil || !strings.Contains(report.Host.Error, tt.want) || len(w.asked) > 0 {
			t.Errorf("%s: %v, %+v, asked %d times", name, err, report.Host, len(w.asked))
		}
	}
}

// When the licence server's guest cannot be had, the others are made without it, and
// say what they lack.
func TestServersGuestFails(t *testing.T) {
	w := newWorld(t)
	m := manifest(t, w, func(m *roles.Manifest) {
		enrolled(m)
		m.Roles[0].Components[0] = roles.Component{Name: "broken", Timeout: time.Minute}
	})
	_, report, err := apply(w.life(t.Context(), 0), w.engine(), m)
	if !errors.Is(err, provision.ErrRoles) || report.Host != nil {
		t.Fatalf("%v, %+v", err, report)
	}
	if r := report.Roles[0]; r.Failed != "components" {
		t.Errorf("%s failed at %q: %s", r.Role, r.Failed, r.Error)
	}
	if r := report.Roles[1]; r.Failed != "host/enrolled" || !strings.Contains(r.Error, "role.isv_dev/verified did not succeed") {
		t.Errorf("%s failed at %q: %s", r.Role, r.Failed, r.Error)
	}
	if s, err := w.host.Inspect(t.Context(), "ovsa_runtime"); err != nil || !s.Active || len(s.Metadata.Components) == 0 {
		t.Errorf("the other guest: %+v, %v", s, err)
	}
}

// Somebody's server is asked before any guest starts, and told nothing.
func TestHostIsEnrolledAtAnAddress(t *testing.T) {
	w := newWorld(t)
	issuer := newAuthority("somebody's")
	file := filepath.Join(t.TempDir(), "issuer.pem")
	if err := os.WriteFile(file, pki.EncodePEM(issuer), 0o600); err != nil {
		t.Fatal(err)
	}
	m := manifest(t, w, func(m *roles.Manifest) {
		m.Host.Enroll = &roles.Enroll{URL: "https://lic.example.org", Pin: strings.Repeat("ab", 32), Issuer: file}
	})
	p, report, err := apply(w.life(t.Context(), 0), w.engine(), m)
	if err != nil {
		t.Fatalf("%v: %+v", err, report)
	}
	if p.Enrol.Server != "https://lic.example.org" || p.Enrol.Vendor != "" || len(w.servers) != 0 {
		t.Errorf("%+v, %+v", p.Enrol, w.servers)
	}
	certified(t, w)
	if a, b := starts(w, "ovsa_isv_dev"), starts(w, "ovsa_runtime"); a != 1 || b != 1 {
		t.Errorf("started %d and %d times", a, b)
	}
	if got := w.asked[0]; got.Pin != strings.Repeat("ab", 32) || !got.Issuers[0].Equal(issuer) {
		t.Errorf("asked %+v", got)
	}
	nothingMore(t, w, m)

	// Whom the manifest believes now is somebody else.
	if err := os.WriteFile(file, pki.EncodePEM(newAuthority("another's")), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := w.engine().Plan(t.Context(), m, provision.PlanOptions{}); err != nil || p.Enrol == nil {
		t.Errorf("another authority: %+v, %v", p.Enrol, err)
	}
}

// Without its licence server among the targets the host stays as it is, and nothing
// is started again in vain.
func TestTargetsWithoutTheServer(t *testing.T) {
	w := newWorld(t)
	ctx := w.life(t.Context(), 0)
	if _, _, err := apply(ctx, w.engine(), manifest(t, w, withServer)); err != nil {
		t.Fatal(err)
	}
	p, err := w.engine().Plan(ctx, manifest(t, w, enrolled), provision.PlanOptions{Targets: []string{"runtime"}})
	if err != nil || p.Changed() {
		t.Errorf("%+v, %v", p, err)
	}
}
