package cli

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vm"
)

// mixed is a plan with one role of each kind.
func mixed() *provision.Plan {
	return &provision.Plan{
		Images: []provision.ImagePlan{{Name: "debian"}, {Name: "cached", Cached: true}},
		Roles: []provision.RolePlan{
			{Role: "runtime", Action: provision.Create, Changes: []provision.Change{
				{Attribute: "cpus", New: "2"}, {Attribute: "memory", New: "4GiB"},
			}},
			{Role: "same", Action: provision.NoAction},
			{Role: "isv_dev", Action: provision.Update, Changes: []provision.Change{
				{Attribute: "component.developer", Old: "1.0", New: "1.1", Effect: provision.InPlace},
			}},
			{Role: "bigger", Action: provision.Reboot, Changes: []provision.Change{
				{Attribute: "memory", Old: "1GiB", New: "2GiB", Effect: provision.Restart},
				{Attribute: "vnc.display", Old: "3", Effect: provision.Restart},
			}},
			{Role: "developer", Action: provision.Remake, Changes: []provision.Change{
				{Attribute: "image", Old: "a\x1b[2J", New: "b", Effect: provision.Replace},
				{Attribute: "cpus", Old: "1", New: "2", Effect: provision.Restart},
			}},
			{Role: "half", Action: provision.Finish, Reason: "it was never reached"},
			{Role: "old", Action: provision.Delete},
		},
		Orphans: []string{"stray"},
	}
}

func TestPlanText(t *testing.T) {
	const want = `  + image.debian                     # will be made: it is not in the cache
  + role.runtime                     # will be created
      cpus   = 2
      memory = 4GiB

  ~ role.isv_dev                     # will be changed in place
      component.developer = 1.0 -> 1.1

  ~ role.bigger                      # will be restarted
      memory      = 1GiB -> 2GiB
      vnc.display = 3 -> (none)

-/+ role.developer                   # must be replaced: image cannot change
      image = a␛[2J -> b             # forces replacement
      cpus  = 1 -> 2

  ~ role.half                        # will be finished: it was never reached

  - role.old                         # will be destroyed

Plan: 1 to create, 3 to change, 1 to replace, 1 to destroy.
Not in the manifest and left alone: stray. --prune destroys them.
`
	var b bytes.Buffer
	if err := writePlan(&b, mixed()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestPlanOfEnrolment(t *testing.T) {
	const want = `  + host                             # its attestation key will be certified by role.isv_dev: it is not enrolled
      role.isv_dev will believe = CN=a maker␛, the maker of this host's TPM, which is a stand-in

  ~ role.runtime                     # will be restarted
      vtpm.host_certificate = renewed

Plan: 0 to create, 1 to change, 0 to replace, 0 to destroy.
`
	p := &provision.Plan{
		Enrol: &provision.EnrolPlan{Server: "role.isv_dev", Reason: "it is not enrolled", Vendor: "CN=a maker\x1b", Simulated: true},
		Roles: []provision.RolePlan{{Role: "runtime", Action: provision.Reboot, Changes: []provision.Change{
			{Attribute: "vtpm.host_certificate", New: "renewed", Effect: provision.Restart},
		}}},
	}
	var b bytes.Buffer
	if err := writePlan(&b, p); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// Why the host is not enrolled is said once, whether or not a role fails for it.
func TestReportOfEnrolment(t *testing.T) {
	for failed, want := range map[string]string{
		"":              "ROLE     ACTION  RESULT\nruntime  create  ready\nthe host is not enrolled:\n    refused\n  hint: ask\n1 done, 0 failed, in 1.0s.\n",
		"host/enrolled": "ROLE     ACTION  RESULT\nruntime  create  failed\nrole.runtime failed at host/enrolled:\n    refused\n  hint: ask\n0 done, 1 failed, in 1.0s.\n",
	} {
		role := provision.RoleReport{Role: "runtime", Action: provision.Create, Failed: failed}
		if failed != "" {
			role.Error, role.Hint = "refused", "ask"
		}
		var out bytes.Buffer
		v := newRunView(Env{Stdout: &out, Stderr: &bytes.Buffer{}, Getenv: func(string) string { return "" }}, false)
		v.Close()
		err := v.Report(&provision.Report{Elapsed: time.Second, Host: &provision.HostReport{Error: "refused", Hint: "ask"}, Roles: []provision.RoleReport{role}})
		if err != nil || out.String() != want {
			t.Errorf("%v, %s", err, cmp.Diff(want, out.String()))
		}
	}
}

func TestPlanOfNothing(t *testing.T) {
	var b bytes.Buffer
	p := &provision.Plan{Roles: []provision.RolePlan{{Role: "a", Action: provision.NoAction}, {Role: "b", Action: provision.NoAction}}}
	if err := writePlan(&b, p); err != nil {
		t.Fatal(err)
	}
	want := "No changes. 2 roles were compared with what their guests were made from, their components' digests and their vTPMs' bindings.\n"
	if b.String() != want {
		t.Errorf("got %q", b.String())
	}
}

func TestReport(t *testing.T) {
	const want = `ROLE     ACTION  VTPM  START  REACHABLE  RESULT
runtime  create  0.0s  1.2s   41.0s      ready
isv_dev  create  0.2s  1.0s   -          failed
role.isv_dev failed at reachable:
    no answer within 5m0s; its serial log ends:
        | panic ␇
  hint: look closer with: ovsactl logs isv_dev
1 done, 1 failed, in 5m01s.
`
	report := &provision.Report{Elapsed: 301 * time.Second, Roles: []provision.RoleReport{
		{Role: "runtime", Action: provision.Create, Phases: []provision.Phase{
			{Name: "define", Elapsed: time.Millisecond}, {Name: "vtpm", Elapsed: 20 * time.Millisecond}, {Name: "start", Elapsed: 1200 * time.Millisecond}, {Name: "reachable", Elapsed: 41 * time.Second},
		}},
		{
			Role: "isv_dev", Action: provision.Create, Phases: []provision.Phase{{Name: "vtpm", Elapsed: 200 * time.Millisecond}, {Name: "start", Elapsed: time.Second}},
			Failed: "reachable", Error: "no answer within 5m0s; its serial log ends:\n    | panic \x07", Hint: "look closer with: ovsactl logs isv_dev",
		},
	}}
	var out bytes.Buffer
	v := newRunView(Env{Stdout: &out, Stderr: &bytes.Buffer{}, Getenv: func(string) string { return "" }}, false)
	v.Close()
	if err := v.Report(report); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestRunAsJSONLines(t *testing.T) {
	var out bytes.Buffer
	v := newRunView(Env{Stdout: &out}, true)
	at := time.Unix(1000, 0).UTC()
	v.Plan(mixed())
	for i := range 3 { // one progress a second is enough
		v.Observe(provision.Event{Time: at.Add(time.Duration(i) * 600 * time.Millisecond), Kind: provision.Progress, Step: "image.debian", Stage: "fetch", Done: int64(i), Total: 3})
	}
	v.Report(&provision.Report{})
	var events []string
	for line := range strings.Lines(out.String()) {
		var e struct{ Event string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		events = append(events, e.Event)
	}
	if diff := cmp.Diff([]string{"plan", "progress", "progress", "report"}, events); diff != "" {
		t.Error(diff)
	}
}

func TestStatusTable(t *testing.T) {
	const want = `ROLE     STATE    ADDRESS         UPTIME  VTPM               COMPONENTS           DRIFT
runtime  running  192.168.122.30  2h05m   bound (simulated)  model_hosting 1.0.0  none
isv_dev  absent   -               -       missing            -                    apply would create it
half     running  -               12s     none               -                    it was never reached
bigger   running  -               3d      stale              -                    memory (restart)
stray    running  -               5m      bound              -                    not in the manifest
`
	list := []provision.RoleStatus{
		{
			Role: "runtime", State: "running", Address: netip.MustParseAddr("192.168.122.30"), Uptime: 125 * time.Minute, VTPM: "bound",
			Simulated: true, Components: []vm.ComponentRecord{{Name: "model_hosting", Version: "1.0.0"}}, Action: provision.NoAction,
		},
		{Role: "isv_dev", State: "absent", VTPM: "missing", Action: provision.Create},
		{Role: "half", State: "running", Uptime: 12 * time.Second, VTPM: "none", Action: provision.Finish, Reason: "it was never reached"},
		{
			Role: "bigger", State: "running", Uptime: 72 * time.Hour, VTPM: "stale", Action: provision.Reboot,
			Drift: []provision.Change{{Attribute: "memory", Old: "1GiB", New: "2GiB", Effect: provision.Restart}},
		},
		{Role: "stray", State: "running", Uptime: 5 * time.Minute, VTPM: "bound", Action: provision.Delete, Orphan: true},
	}
	var b bytes.Buffer
	if err := writeStatus(&b, list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
