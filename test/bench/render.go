package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
)

// Render writes the page. It has a section for each target, and one for every
// benchmark that belongs to none.
func Render(w io.Writer, m Machine, at time.Time, rs Results) {
	fmt.Fprintf(w, `# Benchmarks

Written by `+"`make bench`"+` on %s, all of it in one run on one machine.
Times are means of few runs, so look at the ratios: each is against a baseline
that is named beside it and was measured in the same run.

`, at.UTC().Format("2 January 2006"))
	machine(m, rs).write(w)
	ready(w, rs)
	booting(w, rs)
	quickstart(w, rs)
	cloud(w, rs)
	planning(w, rs)
	manufacture(w, rs)
	others(w, rs)
}

func machine(m Machine, rs Results) *table {
	t := &table{head: []string{"machine", ""}}
	cpu := fmt.Sprintf("%s, %d cores", m.CPU, m.Cores)
	if m.Virtual {
		cpu += ", itself in a virtual machine"
	}
	t.row("processor", cpu)
	t.row("memory", fmt.Sprintf("%.1f GiB", float64(m.Memory)/(1<<30)))
	t.row("system", fmt.Sprintf("%s, Linux %s", m.Distro, m.Kernel))
	accel := "not tried"
	if v, ok := anyValue(rs, "Apply/", "emulated"); ok {
		accel = "KVM"
		if v != 0 {
			accel = "none: guests are emulated (QEMU's TCG)"
		}
	}
	t.row("acceleration", accel)
	for _, tool := range [][2]string{{"ovsactl", m.Ovsactl}, {"Go", m.Go}, {"QEMU", m.QEMU}, {"libvirt", m.Libvirt}, {"swtpm", m.SWTPM}} {
		t.row(tool[0], cmp.Or(tool[1], "not installed"))
	}
	return t
}

// anyValue is a figure of the first benchmark whose name has the prefix.
func anyValue(rs Results, prefix, unit string) (float64, bool) {
	for _, r := range rs {
		if v, ok := r.Values[unit]; ok && strings.HasPrefix(r.Name, prefix) {
			return v, true
		}
	}
	return 0, false
}

// targets are what was wanted, beside what is.
type targets struct{ table }

func newTargets() *targets { return &targets{table{head: []string{"target", "measured", ""}}} }

// add tells whether what is wanted is so.
func (t *targets) add(want, have string, met bool) {
	verdict := "**missed**"
	if met {
		verdict = "met"
	}
	t.row(want, have, verdict)
}

// others lists the benchmarks that have no section.
func others(w io.Writer, rs Results) {
	t := table{head: []string{"benchmark", "time", "memory allocated"}}
	for _, r := range rs {
		top, _, _ := strings.Cut(r.Name, "/")
		switch top {
		case "Apply", "Older", "Variant", "Quickstart", "Cloud", "Noop", "NoopMemory", "Manufacture", "Status":
			continue
		}
		memory := "-"
		if v, ok := r.Values["B/op"]; ok {
			memory = size(v)
		}
		took := "-"
		if v, ok := r.Values["ns/op"]; ok {
			took = nanos(v)
		}
		t.row("`"+r.Name+"`", took, memory)
	}
	if len(t.rows) == 0 {
		return
	}
	fmt.Fprint(w, "\n## Parts\n\n")
	t.write(w)
}

// table is one of Markdown, aligned for those who read it as text.
type table struct {
	head []string
	rows [][]string
}

// row adds a row. A cell's text cannot end the cell.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = strings.NewReplacer("|", "\\|", "\n", " ").Replace(c)
	}
	t.rows = append(t.rows, cells)
}

func (t *table) write(w io.Writer) {
	width := make([]int, len(t.head))
	for _, r := range append([][]string{t.head}, t.rows...) {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)), 3)
		}
	}
	line := func(cells []string) {
		for i, c := range cells {
			fmt.Fprintf(w, "| %-*s ", width[i], c)
		}
		fmt.Fprintln(w, "|")
	}
	line(t.head)
	rule := make([]string, len(width))
	for i, n := range width {
		rule[i] = strings.Repeat("-", n)
	}
	line(rule)
	for _, r := range t.rows {
		line(r)
	}
}

// nanos is a time with three digits.
func nanos(v float64) string {
	for _, u := range []struct {
		least float64
		name  string
	}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
		if v >= u.least {
			return digits(v/u.least) + " " + u.name
		}
	}
	return digits(v) + " ns"
}

func seconds(v float64) string { return nanos(v * 1e9) }

// size is a number of bytes with three digits.
func size(v float64) string {
	for _, u := range []struct {
		least float64
		name  string
	}{{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if v >= u.least {
			return digits(v/u.least) + " " + u.name
		}
	}
	return digits(v) + " B"
}

func digits(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func percent(v float64) string { return digits(100*v) + " %" }

func times(v float64) string { return digits(v) + " x" }
