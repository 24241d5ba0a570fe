package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is wanted of a licence server on two cores, and of a model's container.
const (
	maxP99   = 100.0 // ms, at half of that
	maxSlope = 1.25  // from one stored licence to the most
	minGCM   = 0.6   // of AES-256-GCM's limit, for each core
)

// minRate is how many there shall be in a second on a kind of database, whose half
// is what the server is tried with: see BenchmarkServer.
var minRate = map[string]map[string]float64{
	"sqlite":   {"proof": 400, "renewal": 4000},
	"postgres": {"proof": 300, "renewal": 3000},
}

// RenderLicensing writes the page of licensing.
func RenderLicensing(w io.Writer, m Machine, at time.Time, rs Results) {
	fmt.Fprintf(w, `# Benchmarks of licensing

Written by `+"`make bench-license`"+` on %s, all of it in one run on one
machine, which every part of it shares. So look at the ratios.

`, at.UTC().Format("2 January 2006"))
	machine(m, rs).write(w)
	for _, db := range []string{"sqlite", "postgres"} {
		licenceServer(w, rs, db)
	}
	replicas(w, rs)
	connections(w, rs)
	floods(w, rs)
	containers(w, rs)
}

// stored are the numbers of licences that a database was measured with.
func stored(rs Results, db string) []int {
	var all []int
	for _, r := range rs {
		text, ok := strings.CutPrefix(r.Name, "Server/db="+db+"/stored=")
		text, _, _ = strings.Cut(text, "/")
		if n, err := strconv.Atoi(text); ok && err == nil && !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

var dbNames = map[string]string{"sqlite": "SQLite", "postgres": "PostgreSQL"}

func licenceServer(w io.Writer, rs Results, db string) {
	fmt.Fprintf(w, "\n## The licence server on %s\n\n", dbNames[db])
	ns := stored(rs, db)
	if len(ns) == 0 {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, `The server's whole part of a proof, begin and finish, and of a renewal, from the
parsed request to the answer, every decision on the disk; TLS and HTTP come on top, see
below. The proof is one that a real swtpm made, judged again and again. Columns are how
many licences are stored.
`)
	if db == "postgres" {
		fmt.Fprint(w, "PostgreSQL runs on the same cores.\n")
	}
	fmt.Fprintln(w)
	value := func(n int, what, unit string) (float64, bool) {
		return rs.Value(fmt.Sprintf("Server/db=%s/stored=%d/%s", db, n, what), unit)
	}
	t := newByRoles(rs, "", nil)
	t.ns = ns
	for _, n := range ns {
		t.head = append(t.head, thousands(n))
	}
	ms := func(v float64) string { return nanos(v * 1e6) }
	for _, kind := range []string{"proof", "renewal"} {
		for _, clients := range []int{1, 10, 100} {
			what := fmt.Sprintf("%s/clients=%d", kind, clients)
			label := fmt.Sprintf("%ss, %s", kind, plural(clients, "client"))
			t.line("**"+label+"**", func(n int) (string, bool) {
				v, ok := value(n, what, "per-s")
				return digits(v) + " / s", ok
			})
			t.line("median, 99th percentile", func(n int) (string, bool) {
				p50, ok := value(n, what, "p50-ms")
				p99, ok2 := value(n, what, "p99-ms")
				return ms(p50) + ", " + ms(p99), ok && ok2
			})
		}
		rate := int(minRate[db][kind]) / 2
		t.line(fmt.Sprintf("%d %ss arrive in a second: median, 99th", rate, kind), func(n int) (string, bool) {
			p50, ok := value(n, fmt.Sprintf("%s/rate=%d", kind, rate), "p50-ms")
			p99, ok2 := value(n, fmt.Sprintf("%s/rate=%d", kind, rate), "p99-ms")
			return ms(p50) + ", " + ms(p99), ok && ok2
		})
	}
	beside(t, rs, db, value)
	t.write(w)

	goal := newTargets()
	last := ns[len(ns)-1]
	for _, kind := range []string{"proof", "renewal"} {
		want := minRate[db][kind]
		best := func(n int) (v float64) {
			for _, clients := range []int{1, 10, 100} {
				one, _ := value(n, fmt.Sprintf("%s/clients=%d", kind, clients), "per-s")
				v = max(v, one)
			}
			return v
		}
		goal.add(fmt.Sprintf("%s %ss in a second, %s stored", thousands(int(want)), kind, thousands(last)), digits(best(last)), best(last) >= want)
		if p99, ok := value(last, fmt.Sprintf("%s/rate=%d", kind, int(want)/2), "p99-ms"); ok {
			goal.add(fmt.Sprintf("99th percentile under %s at half of that", ms(maxP99)), ms(p99), p99 < maxP99)
		}
		if first := best(ns[0]); len(ns) > 1 && best(last) > 0 {
			goal.add(fmt.Sprintf("no slope: %ss cost at most %s with %s licences what they do with %s", kind, times(maxSlope), thousands(last), thousands(ns[0])),
				times(first/best(last)), first/best(last) <= maxSlope)
		}
	}
	goal.finish(w)
}

// beside adds what costs are in those of the parts that there is no way around.
func beside(t *byRoles, rs Results, db string, value func(int, string, string) (float64, bool)) {
	ratio := func(label, what, baseline string) {
		t.line(label, func(n int) (string, bool) {
			v, ok := value(n, what, "ns/op")
			plain, ok2 := rs.Value(baseline, "ns/op")
			if !ok || !ok2 || plain == 0 {
				return "", false
			}
			return times(v / plain), true
		})
	}
	ratio("a proof beside verifying a P-384 signature (1 client)", "proof/clients=1", "Plain/verify")
	ratio("a renewal beside a transaction of one row (1 client)", "renewal/clients=1", "Plain/commit/db="+db)
}

// replicas compares two servers that share a database with one.
func replicas(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## Two servers on one PostgreSQL\n\n")
	one, ok := rs.Value("Replicas/servers=1", "per-s")
	two, ok2 := rs.Value("Replicas/servers=2", "per-s")
	if !ok || !ok2 {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, `Renewals of 100 clients, half of them at each server. The servers and PostgreSQL share
this machine's cores.

`)
	t := table{head: []string{"", "renewals", "99th percentile"}}
	for n, v := range []float64{one, two} {
		p99, _ := rs.Value(fmt.Sprintf("Replicas/servers=%d", n+1), "p99-ms")
		t.row(plural(n+1, "server"), digits(v)+" / s", nanos(p99*1e6))
	}
	t.write(w)
	goal := newTargets()
	goal.add("two are faster than one, where there are cores for it", times(two/one), two > one)
	goal.finish(w)
}

func connections(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## Connections\n\n")
	handshake, ok := rs.Value("Connection", "ns/op")
	memory, ok2 := rs.Value("Connection", "B/conn")
	if !ok || !ok2 {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, "With both ends on this machine.\n\n")
	t := table{head: []string{"", ""}}
	t.row("a connection, TLS 1.3, and one request on it", nanos(handshake))
	t.row("memory of the server for each that is open", size(memory))
	for _, clients := range []int{1, 10, 100} {
		name := fmt.Sprintf("RenewHTTPS/clients=%d", clients)
		if v, ok := rs.Value(name, "per-s"); ok {
			p99, _ := rs.Value(name, "p99-ms")
			t.row(fmt.Sprintf("renewals over HTTPS, %s", plural(clients, "client")), fmt.Sprintf("%s / s, 99th percentile %s", digits(v), nanos(p99*1e6)))
		}
	}
	t.write(w)
}

func floods(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## A guest while strangers flood\n\n")
	if _, ok := rs.Value("Flood/from=none-IPv4/connection=kept", "through"); !ok {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, `The server's process with its defaults, over TLS, while strangers begin 10,000 slow
connections at once (nothing comes, or a handshake, a header or a body that never ends)
and ask for rubbish 5,000 times a second. The server takes 4,096 connections, 256 of one
client, and cuts off those on which nothing comes; strangers then connect again, up to
500 of one client in a second, up to 100 of many, and, in the last rows, up to 500 of
many, which with their handshakes want more than the cores have. One client is an
address of IPv4, or 5,000 addresses of one /64 of IPv6; many are 5,000 addresses of
IPv4, or as many of IPv6, each in another /48. The strangers, the guest and the server
share this machine's cores, in a network namespace of their own.

The guest renews its lease up to 40 times in a second, on the connection that it keeps,
or on a new one each time. A renewal that fails is tried again, for up to ten seconds.
Behind each time is how many times that is what it was without a flood, in the same run.

`)
	t := table{head: []string{"", "renewals, let through", "at the first attempt", "median", "99th percentile", "rubbish answered", "slow connections at a time"}}
	goal := newTargets()
	for _, family := range []string{"IPv4", "IPv6"} {
		for _, from := range []struct{ name, label string }{
			{"none", "no flood"}, {"one", "one client"}, {"many", "many clients"}, {"busy", "many, 500 connect again"},
		} {
			for _, connection := range []string{"kept", "new"} {
				value := func(from, unit string) float64 {
					v, _ := rs.Value("Flood/from="+from+"-"+family+"/connection="+connection, unit)
					return v
				}
				tried, through := value(from.name, "renewals"), value(from.name, "through")
				if tried == 0 {
					continue
				}
				took := func(unit string) string {
					v, quiet := value(from.name, unit), value("none", unit)
					if from.name == "none" || quiet == 0 {
						return nanos(v * 1e6)
					}
					return nanos(v*1e6) + ", " + times(v/quiet)
				}
				label := fmt.Sprintf("%s, %s, %s connection", family, from.label, connection)
				t.row(label, fmt.Sprintf("%.0f, %.0f", tried, through), fmt.Sprintf("%.0f", value(from.name, "first")),
					took("p50-ms"), took("p99-ms"), digits(value(from.name, "rubbish/s"))+" / s", fmt.Sprintf("%.0f", value(from.name, "slow")))
				if from.name != "none" {
					goal.add("each renewal gets through: "+label, fmt.Sprintf("%.0f of %.0f", through, tried), through == tried)
				}
			}
		}
	}
	t.write(w)
	goal.finish(w)
}

func containers(w io.Writer, rs Results) {
	fmt.Fprint(w, "\n## Model containers\n\n")
	if _, ok := rs.Value("Seal/digests/cores=1", "MB/s"); !ok {
		fmt.Fprint(w, notMeasured)
		return
	}
	fmt.Fprint(w, `A model of 128 MiB from and to memory, beside what AES-256-GCM alone does on as many
cores, in Go's crypto/cipher and in `+"`openssl speed -evp aes-256-gcm`"+`. The digests,
which are the default, are BLAKE3 of every chunk under the ISV's signature: without
them (tags only) those who have the model's key could make other content under it.

`)
	t := table{head: []string{"", "speed", "share of crypto/cipher, per core", "share of openssl, per core"}}
	goal := newTargets()
	for _, direction := range []string{"Seal", "Open"} {
		for _, kind := range []string{"digests", "tagsonly", "age"} {
			for _, r := range rs {
				cores, ok := strings.CutPrefix(r.Name, direction+"/"+kind+"/cores=")
				if !ok {
					continue
				}
				t.row(fmt.Sprintf("%s, %s, %s cores", strings.ToLower(direction), strings.Replace(kind, "sonly", "s only", 1), cores),
					size(r.Values["MB/s"]*1e6)+" / s", percent(r.Values["gcm/core"]), percent(r.Values["openssl/core"]))
				if kind == "digests" {
					goal.add(fmt.Sprintf("%s of crypto/cipher, per core: %s, %s cores", percent(minGCM), strings.ToLower(direction), cores),
						percent(r.Values["gcm/core"]), r.Values["gcm/core"] >= minGCM)
					besideAge(goal, rs, direction, cores, r.Values["MB/s"])
				}
			}
		}
	}
	t.write(w)
	goal.finish(w)
}

// besideAge compares a container's speed with age's on as many cores: as fast on one,
// and twice as fast on more, of which age uses one.
func besideAge(goal *targets, rs Results, direction, cores string, speed float64) {
	age, ok := rs.Value(direction+"/age/cores="+cores, "MB/s")
	if !ok {
		return
	}
	times, want := 1.0, "as fast as age"
	if cores != "1" {
		times, want = 2, "twice as fast as age"
	}
	goal.add(fmt.Sprintf("%s: %s, %s cores", want, strings.ToLower(direction), cores), fmt.Sprintf("%.2f x", speed/age), speed >= times*age)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%s %ss", thousands(n), what)
}
