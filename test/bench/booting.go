package main

import (
	"fmt"
	"io"
	"strings"
)

// What is wanted of a boot, beside the older version in the same run.
const (
	maxLogin      = 0.5
	maxQuickstart = 0.45
	maxComponents = 1.0 / 3
	maxCloud      = 1.05 // beside virsh: single runs scatter more than that
)

// stage is a row: what a figure is called, its unit and how it is written.
type stage struct {
	label, unit string
	format      func(float64) string
}

var bootStages = []stage{
	{"firmware", "stage-firmware-s", seconds},
	{"loader", "stage-loader-s", seconds},
	{"kernel", "stage-kernel-s", seconds},
	{"initrd", "stage-initrd-s", seconds},
	{"user space, until sshd serves", "stage-userspace-s", seconds},
	{"first login", "stage-login-s", seconds},
	{"**all**, until the first login", "stage-all-s", seconds},
	{"until the guest is at rest", "stage-rest-s", seconds},
	{"QEMU computed, until the first login", "work-cpu-s", seconds},
	{"processes started, until at rest", "work-processes", digits},
	{"services run, until at rest", "work-units", digits},
	{"read from the disk, until at rest", "work-read-B", size},
}

// comparison is a table of what two versions, or two ways, cost.
type comparison struct {
	table
	rs Results
}

func newComparison(rs Results, corner, before, now string) *comparison {
	return &comparison{table{head: []string{corner, before, now, now + " beside " + before}}, rs}
}

// line compares two figures, when both were measured, and returns the quotient.
func (t *comparison) line(s stage, before, now string) (ratio float64, ok bool) {
	a, ok := t.rs.Value(before, s.unit)
	b, ok2 := t.rs.Value(now, s.unit)
	if !ok || !ok2 || a == 0 {
		return 0, false
	}
	t.row(s.label, s.format(a), s.format(b), times(b/a))
	return b / a, true
}

func booting(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## How a guest boots\n\n")
	ns := variants(rs, "Apply/")
	if _, ok := rs.Value("Apply/roles=1", "stage-all-s"); !ok {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, `The plain boots of the tables above, taken apart. Firmware is from the guest's start
until OVMF says on the console what it goes on to; the loader is systemd-stub and
what unpacks the kernel, until the kernel's clock begins; the kernel lasts until it
runs the initrd, the initrd until systemd begins. At rest is what `+"`systemctl\nis-system-running --wait`"+` waits for. How long QEMU computed is a measure of work that
does not depend on what else the machine does.

`)
	goal := newTargets()
	if _, ok := rs.Value("Older/roles=1", "stage-all-s"); ok {
		fmt.Fprint(w, "One guest, booted by an older version of ovsactl from its own image, and by this one:\n\n")
		one := newComparison(rs, "1 role", "older", "this")
		for _, s := range bootStages {
			one.line(s, "Older/roles=1", "Apply/roles=1")
		}
		one.write(w)
		fmt.Fprint(w, "\nSeveral guests that boot at once, until the last one's first login:\n\n")
		many := newComparison(rs, "", "older", "this")
		for _, n := range ns {
			name := fmt.Sprintf("roles=%d", n)
			if r, ok := many.line(stage{count(n), "plain-reachable-s", seconds}, "Older/"+name, "Apply/"+name); ok {
				goal.add(fmt.Sprintf("first login in %s of the older one's time, %s", percent(maxLogin), count(n)), percent(r), r <= maxLogin)
			}
		}
		many.write(w)
	}
	goal.finish(w)
	bootVariants(w, rs)
}

// bootVariants has a column for each thing that one guest boots with.
func bootVariants(w io.Writer, rs Results) {
	names := []string{"Apply/roles=1"}
	t := table{head: []string{"1 role", "UEFI, vTPM"}}
	for _, r := range rs {
		if what, ok := strings.CutPrefix(r.Name, "Variant/"); ok {
			names = append(names, r.Name)
			t.head = append(t.head, strings.ReplaceAll(what, "_", " "))
		}
	}
	if len(names) == 1 {
		return
	}
	for _, s := range bootStages {
		cells, some := []string{s.label}, false
		for _, name := range names {
			v, ok := rs.Value(name, s.unit)
			text := "-"
			if ok {
				text = s.format(v)
			}
			some = some || ok
			cells = append(cells, text)
		}
		if some {
			t.row(cells...)
		}
	}
	fmt.Fprint(w, "\nWhat it boots with:\n\n")
	t.write(w)
}

func quickstart(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## The quickstart, with its components\n\n")
	if _, ok := rs.Value("Quickstart/this", "apply-s"); !ok {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, "`ovsactl apply examples/quickstart.hcl`, its image being built: two guests of two\nprocessors, three components. Of the phases the role's counts for which it took longest.\n\n")
	if _, ok := rs.Value("Quickstart/older", "apply-s"); !ok {
		t := table{head: []string{"", "this"}}
		for _, s := range quickstartStages {
			if v, ok := rs.Value("Quickstart/this", s.unit); ok {
				t.row(s.label, s.format(v))
			}
		}
		t.write(w)
		return
	}
	t, goal := newComparison(rs, "", "older", "this"), newTargets()
	for _, s := range quickstartStages {
		r, ok := t.line(s, "Quickstart/older", "Quickstart/this")
		switch {
		case ok && s.unit == "apply-s":
			goal.add(fmt.Sprintf("ready in %s of the older one's time", percent(maxQuickstart)), percent(r), r <= maxQuickstart)
		case ok && s.unit == "components-s":
			goal.add(fmt.Sprintf("components in %s of the older one's time", percent(maxComponents)), percent(r), r <= maxComponents)
		}
	}
	t.write(w)
	goal.finish(w)
}

var quickstartStages = []stage{
	{"reachable", "reachable-s", seconds},
	{"components", "components-s", seconds},
	{"**apply**, the whole command", "apply-s", seconds},
}

func cloud(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## Cloud images\n\n")
	ns := variants(rs, "Cloud/")
	if len(ns) == 0 {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, "Guests of a Debian image with cloud-init, UEFI, one processor, 1 GiB, no vTPM, all at\nonce: `ovsactl apply` until all are ready, and `virsh` alone with a domain that has no\nmore than that, and a seed that has one user with one key, until ssh(1) is let in.\n\n")
	t, goal := newComparison(rs, "", "virsh", "ovsactl"), newTargets()
	for _, n := range ns {
		name := fmt.Sprintf("Cloud/roles=%d", n)
		ours, ok := rs.Value(name, "apply-s")
		plain, ok2 := rs.Value(name, "plain-s")
		if !ok || !ok2 || plain == 0 {
			continue
		}
		t.row(count(n), seconds(plain), seconds(ours), times(ours/plain))
		goal.add(fmt.Sprintf("at most %s virsh, %s", times(maxCloud), count(n)), times(ours/plain), ours/plain <= maxCloud)
	}
	t.write(w)
	goal.finish(w)
}
