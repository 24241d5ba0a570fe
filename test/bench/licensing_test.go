package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

const floodSample = `pkg: example.org/licenseserver
BenchmarkFlood/from=none-IPv4/connection=kept-2 	1	1 ns/op	0 connects/s	400.0 first	2.0 p50-ms	10.0 p99-ms	400.0 renewals	0 rubbish/s	0 slow	400.0 through
BenchmarkFlood/from=none-IPv4/connection=new-2 	1	1 ns/op	0 connects/s	400.0 first	4.0 p50-ms	20.0 p99-ms	400.0 renewals	0 rubbish/s	0 slow	400.0 through
BenchmarkFlood/from=one-IPv4/connection=kept-2 	1	1 ns/op	700 connects/s	400.0 first	3.0 p50-ms	50.0 p99-ms	400.0 renewals	4900 rubbish/s	200 slow	400.0 through
BenchmarkFlood/from=many-IPv4/connection=new-2 	1	1 ns/op	500 connects/s	390.0 first	40.0 p50-ms	400.0 p99-ms	400.0 renewals	2000 rubbish/s	3900 slow	399.0 through
`

func TestRenderFloods(t *testing.T) {
	var page bytes.Buffer
	RenderLicensing(&page, Machine{}, time.Now(), parse(t, floodSample))
	got := strings.Join(strings.Fields(page.String()), " ")
	for _, want := range []string{
		"| IPv4, no flood, kept connection | 400, 400 | 400 | 2.00 ms | 10.0 ms | 0 / s | 0 |",
		"| IPv4, one client, kept connection | 400, 400 | 400 | 3.00 ms, 1.50 x | 50.0 ms, 5.00 x | 4900 / s | 200 |",
		"| IPv4, many clients, new connection | 400, 399 | 390 | 40.0 ms, 10.0 x | 400 ms, 20.0 x | 2000 / s | 3900 |",
		"| each renewal gets through: IPv4, one client, kept connection | 400 of 400 | met |",
		"| each renewal gets through: IPv4, many clients, new connection | 399 of 400 | **missed** |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, page.String())
		}
	}
	page.Reset()
	RenderLicensing(&page, Machine{}, time.Now(), parse(t, "BenchmarkX 1 2 ns/op\n"))
	if strings.Contains(page.String(), "The server's process") {
		t.Error("a flood that was not measured")
	}
}

func TestRenderServers(t *testing.T) {
	var page bytes.Buffer
	RenderLicensing(&page, Machine{}, time.Now(), parse(t, `pkg: example.org/server
BenchmarkServer/db=sqlite/stored=1/proof/clients=10-2	10	1 ns/op	20.0 p50-ms	50.0 p99-ms	399.0 per-s
BenchmarkServer/db=sqlite/stored=1/proof/rate=200-2	10	1 ns/op	5.0 p50-ms	100.0 p99-ms	200.0 per-s
BenchmarkServer/db=postgres/stored=1/proof/clients=10-2	10	1 ns/op	20.0 p50-ms	50.0 p99-ms	399.0 per-s
BenchmarkServer/db=postgres/stored=1/proof/rate=150-2	10	1 ns/op	5.0 p50-ms	99.0 p99-ms	150.0 per-s
BenchmarkReplicas/servers=1-2	10	1 ns/op	5.0 p50-ms	10.0 p99-ms	2000.0 per-s
BenchmarkReplicas/servers=2-2	10	1 ns/op	5.0 p50-ms	10.0 p99-ms	1000.0 per-s
`))
	got := strings.Join(strings.Fields(page.String()), " ")
	for _, want := range []string{
		"| 400 proofs in a second, 1 stored | 399 | **missed** |",
		"| 99th percentile under 100 ms at half of that | 100 ms | **missed** |",
		"| 300 proofs in a second, 1 stored | 399 | met |",
		"| 99th percentile under 100 ms at half of that | 99.0 ms | met |",
		"| two are faster than one, where there are cores for it | 0.50 x | **missed** |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, page.String())
		}
	}
}
