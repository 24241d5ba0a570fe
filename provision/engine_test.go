package provision_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
)

func TestApplyTwiceChangesNothing(t *testing.T) {
	w := newWorld(t)
	m := manifest(t, w, nil)
	if _, _, err := apply(w.life(t.Context(), 0), w.engine(), m); err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"isv_dev", "runtime"} {
		s, err := w.host.Inspect(t.Context(), provision.DomainName(role))
		if err != nil || !s.Active || len(s.Metadata.HostKeys) == 0 || len(s.Metadata.Components) != 1 {
			t.Errorf("%s is not ready: %+v, %v", role, s, err)
		}
	}
	w.host.Forget()
	p, _, err := apply(w.life(t.Context(), 0), w.engine(), m)
	if err != nil || p.Changed() {
		t.Errorf("second apply: changed %v, %v", p.Changed(), err)
	}
	for _, c := range w.host.Calls() {
		if c.Method != "Domains" {
			t.Errorf("second apply called %s %s", c.Method, c.Name)
		}
	}
}

func TestPlanOfANewRoleNamesItsComponents(t *testing.T) {
	w := newWorld(t)
	p, err := w.engine().Plan(w.life(t.Context(), 0), manifest(t, w, nil), provision.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := provision.Change{Attribute: "component.developer", New: "1", Effect: provision.None}
	if !slices.Contains(p.Roles[0].Changes, want) {
		t.Errorf("no %+v in %+v", want, p.Roles[0].Changes)
	}
}

func TestChangesHaveTheirEffect(t *testing.T) {
	role := func(m *roles.Manifest) *roles.Role { return &m.Roles[0] }
	for _, tt := range []struct {
		name   string
		edit   func(*roles.Manifest)
		action provision.Action
		change string
	}{
		{"cpus", func(m *roles.Manifest) { role(m).CPUs = 3 }, provision.Reboot, "cpus 8 -> 3"},
		{"memory", func(m *roles.Manifest) { role(m).Memory = roles.GiB }, provision.Reboot, "memory 4GiB -> 1GiB"},
		{"a larger disk", func(m *roles.Manifest) { role(m).Disk = 30 * roles.GiB }, provision.Reboot, "disk 20GiB -> 30GiB"},
		{"a smaller disk", func(m *roles.Manifest) { role(m).Disk = 10 * roles.GiB }, provision.Remake, "disk 20GiB -> 10GiB"},
		{"another image", func(m *roles.Manifest) { role(m).Image = "noble" }, provision.Remake, "image build trixie, 4GiB -> sha256:cdcdcdcdcdcd"},
		{"no display", func(m *roles.Manifest) { role(m).VNC = nil }, provision.Reboot, "vnc.display 1 -> "},
		{"another TPM interface", func(m *roles.Manifest) { role(m).VTPM = &roles.VTPM{Model: "tis"} }, provision.Reboot, "vtpm.model crb -> tis"},
		{"no TPM", func(m *roles.Manifest) { role(m).VTPM = nil }, provision.Remake, "vtpm.model crb -> "},
		{"one more component", func(m *roles.Manifest) {
			role(m).Components = append(role(m).Components, roles.Component{Name: "license_server", Port: 4452, Timeout: time.Minute})
		}, provision.Update, "component.license_server.port  -> 4452"},
		{"one component less", func(m *roles.Manifest) { role(m).Components = nil }, provision.Remake, "component.developer 1 -> "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			ctx := w.life(t.Context(), 0)
			if _, _, err := apply(ctx, w.engine(), manifest(t, w, nil)); err != nil {
				t.Fatal(err)
			}
			m := manifest(t, w, tt.edit)
			p, _, err := apply(ctx, w.engine(), m)
			if err != nil {
				t.Fatal(err)
			}
			rp := p.Roles[0]
			if rp.Action != tt.action {
				t.Errorf("action %q, want %q", rp.Action, tt.action)
			}
			var changes []string
			for _, c := range rp.Changes {
				changes = append(changes, c.Attribute+" "+c.Old+" -> "+c.New)
			}
			if !slices.Contains(changes, tt.change) {
				t.Errorf("changes %q, want %q among them", changes, tt.change)
			}
			if p.Roles[1].Action != provision.NoAction {
				t.Errorf("the other role: %q", p.Roles[1].Action)
			}
			if again, err := w.engine().Plan(ctx, m, provision.PlanOptions{}); err != nil || again.Changed() {
				t.Errorf("after apply the plan is not empty: %+v, %v", again, err)
			}
		})
	}
}

func TestNewPackageIsInstalledInPlace(t *testing.T) {
	w := newWorld(t)
	ctx := w.life(t.Context(), 0)
	m := manifest(t, w, nil)
	if _, _, err := apply(ctx, w.engine(), m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.packages, "developer"), []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _, err := apply(ctx, w.engine(), m)
	if err != nil {
		t.Fatal(err)
	}
	want := []provision.Change{{Attribute: "component.developer", Old: "1", New: "2", Effect: provision.InPlace}}
	if d := cmp.Diff(want, p.Roles[0].Changes); d != "" || p.Roles[0].Action != provision.Update {
		t.Errorf("%s: %s", p.Roles[0].Action, d)
	}
	if got := w.guests["192.168.122.20"]; !strings.HasPrefix(got[len(got)-1], "developer/developer-2/install.sh ") {
		t.Errorf("ran %q", got)
	}
}

func TestFailedRoleDoesNotStopTheOther(t *testing.T) {
	w := newWorld(t)
	if err := os.WriteFile(filepath.Join(w.packages, "broken"), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := manifest(t, w, func(m *roles.Manifest) { m.Roles[0].Components[0].Name = "broken" })
	_, report, err := apply(w.life(t.Context(), 0), w.engine(), m)
	if !errors.Is(err, provision.ErrRoles) {
		t.Fatalf("error %v", err)
	}
	bad, good := report.Roles[0], report.Roles[1]
	if bad.Failed != "components" || !strings.Contains(bad.Error, `component "broken": run install.sh: exit status 3: no space left`) {
		t.Errorf("failed in %q: %s", bad.Failed, bad.Error)
	}
	if good.Failed != "" || good.Phases[len(good.Phases)-1].Name != "verified" {
		t.Errorf("the other role: %+v", good)
	}
}

func TestForeignDomainsAreNotTouched(t *testing.T) {
	w := newWorld(t)
	const theirs = `<domain type='qemu'>
  <name>theirs</name>
  <uuid>11111111-2222-4333-8444-555555555555</uuid>
  <memory unit='MiB'>512</memory>
  <os><type>hvm</type></os>
  <devices>
    <interface type='network'><mac address='52:54:00:01:02:03'/><source network='default'/></interface>
    <graphics type='vnc' port='5900' listen='127.0.0.1'/>
  </devices>
</domain>`
	if err := w.host.AddForeign(theirs, true); err != nil {
		t.Fatal(err)
	}
	m := manifest(t, w, func(m *roles.Manifest) {
		m.Roles[0].Networks[0].MAC = "52:54:00:01:02:03"
		m.Roles[0].VNC.Display = 0
	})
	_, report, err := apply(w.life(t.Context(), 0), w.engine(), m)
	if !errors.Is(err, provision.ErrRoles) {
		t.Fatalf("error %v", err)
	}
	bad, good := report.Roles[0], report.Roles[1]
	for _, want := range []string{
		`MAC address 52:54:00:01:02:03 is taken by domain "theirs"`,
		`VNC display 0 (port 5900) is taken by domain "theirs"`,
	} {
		if bad.Failed != "check" || !strings.Contains(bad.Error, want) || bad.Hint == "" {
			t.Errorf("no %q in: %+v", want, bad)
		}
	}
	if good.Failed != "" {
		t.Errorf("the other role: %+v", good)
	}
	for _, l := range w.left(t) {
		if strings.Contains(l, "isv_dev") {
			t.Errorf("left %q", l)
		}
	}
}

// A domain that is not ours and has a role's name stays as it is.
func TestForeignDomainOfARolesName(t *testing.T) {
	w := newWorld(t)
	const theirs = `<domain type='qemu'>
  <name>ovsa_isv_dev</name>
  <uuid>11111111-2222-4333-8444-555555555555</uuid>
  <memory unit='MiB'>512</memory>
  <os><type>hvm</type></os>
</domain>`
	if err := w.host.AddForeign(theirs, true); err != nil {
		t.Fatal(err)
	}
	ctx := w.life(t.Context(), 0)
	before, err := w.host.Inspect(ctx, "ovsa_isv_dev")
	if err != nil {
		t.Fatal(err)
	}
	_, report, err := apply(ctx, w.engine(), manifest(t, w, nil))
	if !errors.Is(err, provision.ErrRoles) || report.Roles[0].Failed != "check" || report.Roles[1].Failed != "" {
		t.Errorf("%+v, %v", report, err)
	}
	if after, err := w.host.Inspect(ctx, "ovsa_isv_dev"); err != nil || !after.Active || after.UUID != before.UUID || after.Ours {
		t.Errorf("it was touched: %+v, %v", after, err)
	}
	// Another run first looks after what the last one left: nothing of theirs.
	release, err := w.engine().Lock(ctx, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if after, err := w.host.Inspect(ctx, "ovsa_isv_dev"); err != nil || !after.Active || after.Ours {
		t.Errorf("it was touched by the next run: %+v, %v", after, err)
	}
}

func TestOrphansAreRemovedWhenAskedFor(t *testing.T) {
	w := newWorld(t)
	ctx := w.life(t.Context(), 0)
	if _, _, err := apply(ctx, w.engine(), manifest(t, w, nil)); err != nil {
		t.Fatal(err)
	}
	one := manifest(t, w, func(m *roles.Manifest) { m.Roles = m.Roles[1:] })
	p, err := w.engine().Plan(ctx, one, provision.PlanOptions{})
	if err != nil || p.Changed() || !slices.Equal(p.Orphans, []string{"isv_dev"}) {
		t.Fatalf("plan %+v, %v", p, err)
	}
	p, err = w.engine().Plan(ctx, one, provision.PlanOptions{Prune: true})
	if err != nil || p.Count(provision.Delete) != 1 {
		t.Fatalf("plan %+v, %v", p, err)
	}
	if _, err := w.engine().Apply(ctx, p, provision.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	if s, err := w.host.Inspect(ctx, "ovsa_isv_dev"); err != nil || s.Exists {
		t.Errorf("still there: %+v, %v", s, err)
	}
	if s, err := w.host.Inspect(ctx, "ovsa_runtime"); err != nil || !s.Active {
		t.Errorf("the other was disturbed: %+v, %v", s, err)
	}
}

func TestGuestThatWasShutOffIsStarted(t *testing.T) {
	w := newWorld(t)
	ctx := w.life(t.Context(), 0)
	m := manifest(t, w, nil)
	if _, _, err := apply(ctx, w.engine(), m); err != nil {
		t.Fatal(err)
	}
	if err := w.host.Stop(ctx, "ovsa_runtime"); err != nil {
		t.Fatal(err)
	}
	p, _, err := apply(ctx, w.engine(), m)
	if err != nil || p.Roles[1].Action != provision.Finish || p.Roles[1].Reason != "it is not running (shut off)" {
		t.Errorf("%+v, %v", p.Roles[1], err)
	}
	if s, _ := w.host.Inspect(ctx, "ovsa_runtime"); !s.Active {
		t.Error("it does not run")
	}
}
