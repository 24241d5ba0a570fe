package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is wanted of serving licensed models.
const (
	minRead   = 0.9 // of the speed at which a container is opened
	maxLoad   = 1.2 // of an engine's time to load a plain file
	maxAdded  = 1.1 // of the engine's own time to answer, at 8 clients
	maxUse    = 1.1 // of the memory of an engine with a plain file
	atOnce    = 1000
	addedWith = 8 // clients
)

// RenderHosting writes the page of serving.
func RenderHosting(w io.Writer, m Machine, at time.Time, rs Results) {
	fmt.Fprintf(w, `# Benchmarks of serving

Written by `+"`make bench-hosting`"+` on %s, all of it in one run on one
machine, which every part of it shares, clients too. So look at the ratios.

`, at.UTC().Format("2 January 2006"))
	machine(m, rs).write(w)
	reading(w, m, rs)
	starting(w, rs)
	answering(w, rs)
	many(w, rs)
}

// reading is how fast a model is read.
func reading(w io.Writer, m Machine, rs Results) {
	fmt.Fprint(w, "\n## Reading a model\n\n")
	value := func(name, unit string) float64 {
		v, _ := rs.Value("Read/"+name, unit)
		return v
	}
	open, cold := value("decrypt", "MB/s"), value("cold", "MB/s")
	if open == 0 || cold == 0 {
		fmt.Fprint(w, notMeasured)
		return
	}
	bytes := open * 1e6 * value("decrypt", "ns/op") / 1e9
	fmt.Fprintf(w, `A model of %.1f GiB is read from its beginning to its end, by dd(1) with 1 MiB at a time.
The container is on a tmpfs, so no disk has a part in it. Opening the container is to
decrypt and authenticate all of it on all cores, and to give it to nobody. FUSE alone is
a file system of one file whose bytes are there already. The time of processors is that
of who reads and of who answers, all together.

`, bytes/(1<<30))
	t := table{head: []string{"", "speed", "beside opening", "processors, for each GiB"}}
	for _, r := range [][2]string{{"decrypt", "opening the container"}, {"cold", "**through the mount**, first time"}, {"warm", "through the mount, again (the kernel's cache)"}, {"tmpfs", "the same file on a tmpfs"}, {"fuse", "FUSE alone"}} {
		if v := value(r[0], "MB/s"); v > 0 {
			t.row(r[1], size(v*1e6)+" / s", percent(v/open), seconds(value(r[0], "cpu-s/GiB")))
		}
	}
	t.write(w)
	goal := newTargets()
	goal.add(fmt.Sprintf("the mount gives a model at %s of the speed of opening", percent(minRead)), percent(cold/open), cold/open >= minRead)
	goal.finish(w)
	if both := value("decrypt", "cpu-s/GiB") + value("fuse", "cpu-s/GiB"); both > 0 && m.Cores > 0 {
		bound := float64(m.Cores) * (1 << 30) / both
		fmt.Fprintf(w, `
Opening uses all cores, and so reading has nothing left to do its copying with: what
opening and FUSE alone take together is %s of processors for each GiB. %s with no
moment idle would read %s in a second, %s of the speed of opening; the mount does %s
of that.
`, seconds(both), strings.ToUpper(plural(m.Cores, "core")[:1])+plural(m.Cores, "core")[1:], size(bound), percent(bound/(open*1e6)), percent(cold*1e6/bound))
	}
}

// served are the sizes of models that were served, in MiB.
func served(rs Results) (all []int) {
	for _, r := range rs {
		text, ok := strings.CutPrefix(r.Name, "HostingStart/")
		text, ok2 := strings.CutSuffix(text, "MiB")
		if n, err := strconv.Atoi(text); ok && ok2 && err == nil {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

// starting is from the start to the first answer.
func starting(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## From serve to the first answer\n\n")
	ns := served(rs)
	if len(ns) == 0 {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, `From the start of `+"`ovsaruntime serve`"+` to the first answer through nginx: means of few
runs, with a software TPM (swtpm), a licence server on this machine, and OpenVINO, which
reads a model's weights and arranges them anew. Models are chains of products of
matrices. The plain file is on a tmpfs, and loaded by the same program. Memory is what
no file has: of the engine, the runtime and nginx together, beside the engine alone.

`)
	t := newByRoles(rs, "", nil)
	t.ns = ns
	for _, n := range ns {
		t.head = append(t.head, fmt.Sprintf("%.1f GiB", float64(n)/1024))
	}
	value := func(n int, unit string) (float64, bool) {
		return rs.Value(fmt.Sprintf("HostingStart/%dMiB", n), unit)
	}
	figure := func(label, unit string, format func(float64) string) {
		t.line(label, func(n int) (string, bool) {
			v, ok := value(n, unit)
			return format(v), ok
		})
	}
	figure("the runtime starts", "start-s", seconds)
	figure("licence and container are opened", "open-s", seconds)
	figure("the guest is proven, and gets its lease", "proof-s", seconds)
	figure("the model is unlocked", "unlock-s", seconds)
	figure("the engine starts, with the mount", "engine-s", seconds)
	figure("the engine loads the model", "load-s", seconds)
	figure("the front starts, and all is found to be ready", "front-s", seconds)
	figure("the first answer", "answer-s", seconds)
	figure("**all of it**", "first-s", seconds)
	figure("the engine loads the plain file", "plain-load-s", seconds)
	figure("memory", "memory-B", size)
	figure("memory with the plain file", "plain-memory-B", size)
	t.write(w)
	goal := newTargets()
	for i, n := range ns {
		ratio := func(what, unit, plain string, most float64) {
			a, ok := value(n, unit)
			b, ok2 := value(n, plain)
			if ok && ok2 && b > 0 {
				goal.add(fmt.Sprintf("%s, %s, at most %s that of a plain file", what, t.head[i+1], times(most)), times(a/b), a/b <= most)
			}
		}
		ratio("time to load", "load-s", "plain-load-s", maxLoad)
		ratio("memory", "memory-B", "plain-memory-B", maxUse)
	}
	goal.finish(w)
}

// answering is how long requests take.
func answering(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## Answers\n\n")
	value := func(protocol string, clients int, unit string) float64 {
		v, _ := rs.Value(fmt.Sprintf("HostingAnswers/%s/clients=%d", protocol, clients), unit)
		return v
	}
	if value("rest", 1, "front-p50-ms") == 0 {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, `A model that takes about 5 ms, asked with 64 KiB that are answered with as many, by the
Open Inference Protocol. Each client has a connection, and asks again when it has its
answer. The engine alone answers on the loopback device, without TLS; OpenVINO's own
interface for Python runs the model in the asking process, with as many requests at the
same time as there are clients. They take turns.

`)
	t := table{head: []string{"", "median", "99th percentile", "answers"}}
	goal := newTargets()
	ms := func(v float64) string { return nanos(v * 1e6) }
	for _, clients := range []int{1, addedWith} {
		for _, protocol := range []string{"rest", "grpc"} {
			label := map[string]string{"rest": "REST", "grpc": "gRPC"}[protocol] + ", " + plural(clients, "client")
			for _, way := range [][2]string{{"alone", "the engine alone"}, {"front", "**through nginx**"}, {"python", "in Python"}} {
				if way[0] == "python" && protocol != "grpc" { // once for both
					continue
				}
				text := label + ", " + way[1]
				if way[0] == "python" {
					text = way[1] + ", " + plural(clients, "request") + " at a time"
				}
				t.row(text, ms(value(protocol, clients, way[0]+"-p50-ms")), ms(value(protocol, clients, way[0]+"-p99-ms")), digits(value(protocol, clients, way[0]+"-per-s"))+" / s")
			}
			if clients != addedWith {
				continue
			}
			slower := value(protocol, clients, "front-p50-ms") / value(protocol, clients, "alone-p50-ms")
			goal.add("nginx adds under 10 % to the median: "+label, times(slower), slower < maxAdded)
			fewer := value(protocol, clients, "alone-per-s") / value(protocol, clients, "front-per-s")
			goal.add("and takes under 10 % of the answers", times(fewer), fewer < maxAdded)
		}
	}
	t.write(w)
	goal.finish(w)
}

// many is many requests, and many models.
func many(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## Many\n\n")
	at, ok := rs.Value("HostingThousand", "at-once")
	took, ok2 := rs.Value("HostingMany", "ns/op")
	if !ok || !ok2 {
		fmt.Fprint(w, notMeasured)
		return
	}
	answered, _ := rs.Value("HostingThousand", "answered")
	versions, _ := rs.Value("HostingMany", "versions")
	all, _ := rs.Value("HostingThousand", "ns/op")
	fmt.Fprintf(w, `A thousand requests over REST are there at the same time, each but for its last byte,
and a thousand others over gRPC are answered meanwhile; each answer is compared with what
it is to be. For the models, the guest is proven for each version, with one TPM, one
after the other; the licence server is told to let it (`+"`-guest-rate 10:100`"+`; by default
it lets a guest be proven 20 times at once, and then once in a second).

`)
	t := table{head: []string{"", ""}}
	t.row("requests at the same time", fmt.Sprintf("%.0f", at))
	t.row("answers, each the right one", fmt.Sprintf("%.0f, in %s", answered, nanos(all)))
	t.row("10 models, 3 versions each: until all are ready", nanos(took))
	if versions > 0 {
		t.row("for each version", nanos(took/versions))
	}
	t.write(w)
	goal := newTargets()
	goal.add("1,000 requests in flight, none lost or mixed up", fmt.Sprintf("%.0f of %d", answered, 2*atOnce), at >= atOnce && answered == 2*atOnce)
	goal.add("10 models and 3 versions each are served", fmt.Sprintf("%.0f", versions), versions == 30)
	goal.finish(w)
}
