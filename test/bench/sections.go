package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// What is wanted.
const (
	maxShare    = 0.05 // of apply's time
	maxPlan     = 2e9  // ns, for 1,000 roles
	maxMemory   = 200e6
	maxGrowth   = 1.25 // of a role's cost, from 100 roles to 1,000
	minFaster   = 3.0
	targetRoles = 1000
	fewerRoles  = 100
	notMeasured = "Not measured in this run.\n"
)

// variants are the numbers of roles that the benchmarks below prefix were run
// with, least first.
func variants(rs Results, prefix string) []int {
	var all []int
	for _, r := range rs {
		text, ok := strings.CutPrefix(r.Name, prefix+"roles=")
		if n, err := strconv.Atoi(text); ok && err == nil {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

// byRoles is a table with a column for each number of roles.
type byRoles struct {
	table
	rs Results
	ns []int
}

func newByRoles(rs Results, corner string, ns []int) *byRoles {
	t := &byRoles{table{head: []string{corner}}, rs, ns}
	for _, n := range ns {
		t.head = append(t.head, count(n))
	}
	return t
}

// line adds a row of what value says for each number of roles; a figure that
// nobody measured is a dash, and a row of nothing but dashes is left out.
func (t *byRoles) line(label string, value func(n int) (string, bool)) {
	cells, some := []string{label}, false
	for _, n := range t.ns {
		text, ok := value(n)
		if !ok {
			text = "-"
		}
		some = some || ok
		cells = append(cells, text)
	}
	if some {
		t.row(cells...)
	}
}

// figure adds a row of one unit of the benchmarks below prefix.
func (t *byRoles) figure(label, prefix, unit string, format func(float64) string) {
	t.line(label, func(n int) (string, bool) {
		v, ok := t.at(prefix, n, unit)
		return format(v), ok
	})
}

// ratio adds a row of the quotient of two.
func (t *byRoles) ratio(label string, of, to [2]string, format func(float64) string) {
	t.line(label, func(n int) (string, bool) {
		a, ok := t.at(of[0], n, of[1])
		b, ok2 := t.at(to[0], n, to[1])
		if !ok || !ok2 || b == 0 {
			return "", false
		}
		return format(a / b), true
	})
}

func (t *byRoles) at(prefix string, n int, unit string) (float64, bool) {
	return t.rs.Value(fmt.Sprintf("%sroles=%d", prefix, n), unit)
}

func ready(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## From apply to ready\n\n")
	ns := variants(rs, "Apply/")
	if len(ns) == 0 {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, `Guests of a built Debian image, alike: one processor, 1 GiB, UEFI, a bound vTPM,
no components. All boot at once, and for the first time. A guest is ready when SSH
lets us in. A phase's time is that of the role for which it took longest; phases
of several roles overlap, so a column does not add up.

The tool's own share is everything in the whole command but the longest wait for
a guest that boots. The baseline is `+"`virsh define` and `virsh start`"+` of the same
domains, of all at once, over new disks of the same image, until ssh(1) is let
in. It finds the image in the pool, the vTPM and the reserved address ready.

`)
	const p = "Apply/"
	t := newByRoles(rs, "", ns)
	t.figure("image into the pool", p, "image-s", seconds)
	t.figure("network", p, "network-s", seconds)
	for _, phase := range []string{"disk", "address", "vtpm", "seed", "define", "start", "reachable", "components", "verified"} {
		t.figure(phase, p, phase+"-s", seconds)
	}
	t.figure("**apply**, the whole command", p, "apply-s", seconds)
	t.figure("its own time", p, "own-s", seconds)
	t.ratio("**its own share**", [2]string{p, "own-s"}, [2]string{p, "apply-s"}, percent)
	t.figure("`virsh define`", p, "plain-define-s", seconds)
	t.figure("`virsh start`", p, "plain-start-s", seconds)
	t.figure("until ssh is let in", p, "plain-reachable-s", seconds)
	t.figure("**plain**, all of it", p, "plain-s", seconds)
	t.ratio("**apply beside plain**", [2]string{p, "apply-s"}, [2]string{p, "plain-s"}, times)
	t.write(w)

	goal := newTargets()
	for _, n := range ns {
		own, ok := t.at(p, n, "own-s")
		all, ok2 := t.at(p, n, "apply-s")
		if ok && ok2 && all > 0 {
			goal.add(fmt.Sprintf("own share under %s, %s", percent(maxShare), count(n)), percent(own/all), own/all < maxShare)
		}
	}
	goal.finish(w)
}

func planning(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## Plan, and an apply that finds nothing to do\n\n")
	ns := variants(rs, "Noop/plan/")
	if len(ns) == 0 {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, `From the manifest's text to the end of the command, on libvirt's test driver
(`+"`test:///default`"+`). Each role's vTPM record is verified, as on a real host. The
baseline, list, is to connect and to read each domain of the host. The memory is
the most that a process had resident; the test driver's domains are in it, too.

`)
	t := newByRoles(rs, "", ns)
	for _, what := range []string{"list", "create", "plan", "apply"} {
		label := map[string]string{"create": "plan, nothing is there", "plan": "plan, all is there", "apply": "**apply, all is there**"}[what]
		if label == "" {
			label = what
		}
		t.figure(label, "Noop/"+what+"/", "ns/op", nanos)
	}
	t.ratio("apply beside list", [2]string{"Noop/apply/", "ns/op"}, [2]string{"Noop/list/", "ns/op"}, times)
	t.line("apply, for each role", func(n int) (string, bool) {
		v, ok := t.at("Noop/apply/", n, "ns/op")
		return nanos(v / float64(n)), ok
	})
	t.figure("memory, at most", "NoopMemory/", "peak-B", size)
	t.write(w)
	planningTargets(w, t)
}

func planningTargets(w io.Writer, t *byRoles) {
	goal := newTargets()
	for _, what := range []string{"create", "plan", "apply"} {
		if v, ok := t.at("Noop/"+what+"/", targetRoles, "ns/op"); ok {
			goal.add(fmt.Sprintf("%s, %s in %s", what, count(targetRoles), nanos(maxPlan)), nanos(v), v <= maxPlan)
		}
	}
	if v, ok := t.at("NoopMemory/", targetRoles, "peak-B"); ok {
		goal.add(fmt.Sprintf("memory under %s, %s", size(maxMemory), count(targetRoles)), size(v), v < maxMemory)
	}
	for _, what := range []string{"create", "plan", "apply"} {
		few, ok := t.at("Noop/"+what+"/", fewerRoles, "ns/op")
		many, ok2 := t.at("Noop/"+what+"/", targetRoles, "ns/op")
		if ok && ok2 && few > 0 {
			growth := many / targetRoles / (few / fewerRoles)
			goal.add(fmt.Sprintf("%s is linear: a role of %s costs at most %s one of %d", what, thousands(targetRoles), times(maxGrowth), fewerRoles),
				times(growth), growth <= maxGrowth)
		}
	}
	goal.finish(w)
}

func manufacture(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## Making a vTPM\n\n")
	ours, ok := rs.Value("Manufacture/ovsactl", "ns/op")
	if !ok || ours <= 0 {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, `Two endorsement keys, their certificates, a platform certificate, two PCR banks.
Most of it is swtpm, which looks for the primes of an RSA key. swtpm_setup waits
until the swtpm that it stopped is gone, which takes half a second more where PID 1
is slow to reap orphans, as in many containers. So the baseline is swtpm_setup
below a PID 1 that reaps at once; how it does on this very machine is in the table.

`)
	t := table{head: []string{"", "time", "beside ovsactl"}}
	t.row("ovsactl", nanos(ours), times(1))
	goal := newTargets()
	for _, b := range []struct{ name, label string }{
		{"swtpm_setup_reaped", "swtpm_setup, reaped at once"},
		{"swtpm_setup", "swtpm_setup, on this machine as it is"},
	} {
		v, ok := rs.Value("Manufacture/"+b.name, "ns/op")
		if !ok {
			continue
		}
		t.row(b.label, nanos(v), times(v/ours))
		if len(goal.rows) == 0 { // the first is the baseline
			goal.add(fmt.Sprintf("%s faster than %s", times(minFaster), b.label), times(v/ours), v/ours >= minFaster)
		}
	}
	t.write(w)
	goal.finish(w)
	if v, ok := rs.Value("Status", "ns/op"); ok {
		fmt.Fprintf(w, "\nTo verify a vTPM's record, as each plan does, takes %s.\n", nanos(v))
	}
}

// finish writes the targets below a table.
func (t *targets) finish(w io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	fmt.Fprintln(w)
	t.write(w)
}

func count(n int) string {
	if n == 1 {
		return "1 role"
	}
	return thousands(n) + " roles"
}

// thousands is 1000 as "1,000".
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
