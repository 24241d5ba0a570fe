package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

const hostingSample = `pkg: example.org/modelfs
BenchmarkRead/decrypt-2 	3	1073741824 ns/op	1000.00 MB/s	1.800 cpu-s/GiB
BenchmarkRead/cold-2 	3	2 ns/op	600.00 MB/s	2.6 cpu-s/GiB
BenchmarkRead/fuse-2 	3	2 ns/op	2000.00 MB/s	0.700 cpu-s/GiB
pkg: example.org/licenseserver
BenchmarkHostingStart/1024MiB-2 	1	1 ns/op	0.0115 answer-s	0.033 engine-s	2.5 first-s	0.106 front-s	1.25 load-s	1100000000 memory-B	0.0044 open-s	1.0 plain-load-s	1000000000 plain-memory-B	0.047 proof-s	0.009 start-s	0.0000042 unlock-s
BenchmarkHostingStart/4096MiB-2 	1	1 ns/op	0.0115 answer-s	0.033 engine-s	9.5 first-s	0.106 front-s	8.25 load-s	4100000000 memory-B	0.0044 open-s	0.047 proof-s	0.009 start-s	0.0000042 unlock-s
BenchmarkHostingAnswers/rest/clients=1-2 	1	1 ns/op	5.0 alone-p50-ms	9.0 alone-p99-ms	200 alone-per-s	5.5 front-p50-ms	10 front-p99-ms	180 front-per-s	5.1 python-p50-ms	9 python-p99-ms	190 python-per-s
BenchmarkHostingAnswers/rest/clients=8-2 	1	1 ns/op	40.0 alone-p50-ms	70 alone-p99-ms	200 alone-per-s	43.0 front-p50-ms	80 front-p99-ms	190 front-per-s	41 python-p50-ms	60 python-p99-ms	195 python-per-s
BenchmarkHostingAnswers/grpc/clients=1-2 	1	1 ns/op	5.0 alone-p50-ms	9.0 alone-p99-ms	200 alone-per-s	5.5 front-p50-ms	10 front-p99-ms	180 front-per-s	5.1 python-p50-ms	9 python-p99-ms	190 python-per-s
BenchmarkHostingAnswers/grpc/clients=8-2 	1	1 ns/op	40.0 alone-p50-ms	70 alone-p99-ms	200 alone-per-s	44.0 front-p50-ms	80 front-p99-ms	170 front-per-s	41 python-p50-ms	60 python-p99-ms	195 python-per-s
BenchmarkHostingThousand-2 	1	1500000000 ns/op	2000 answered	1000 at-once
BenchmarkHostingMany-2 	1	9000000000 ns/op	30.00 versions
`

func TestRenderHosting(t *testing.T) {
	var page bytes.Buffer
	RenderHosting(&page, Machine{Cores: 2}, time.Now(), parse(t, hostingSample))
	got := strings.Join(strings.Fields(page.String()), " ")
	for _, want := range []string{
		"A model of 1.0 GiB is read",
		"| **through the mount**, first time | 600 MB / s | 60.0 % | 2.60 s |",
		"| the mount gives a model at 90.0 % of the speed of opening | 60.0 % | **missed** |",
		"2.50 s of processors for each GiB. 2 cores with no moment idle would read 859 MB in a second, 85.9 % of the speed of opening; the mount does 69.8 % of that.",
		"| | 1.0 GiB | 4.0 GiB |",
		"| the engine loads the plain file | 1.00 s | - |",
		"| time to load, 1.0 GiB, at most 1.20 x that of a plain file | 1.25 x | **missed** |",
		"| memory, 1.0 GiB, at most 1.10 x that of a plain file | 1.10 x | met |",
		"| REST, 8 clients, **through nginx** | 43.0 ms | 80.0 ms | 190 / s |",
		"| in Python, 8 requests at a time | 41.0 ms | 60.0 ms | 195 / s |",
		"| nginx adds under 10 % to the median: REST, 8 clients | 1.07 x | met |",
		"| nginx adds under 10 % to the median: gRPC, 8 clients | 1.10 x | **missed** |",
		"| and takes under 10 % of the answers | 1.18 x | **missed** |",
		"| 1,000 requests in flight, none lost or mixed up | 2000 of 2000 | met |",
		"| 10 models and 3 versions each are served | 30 | met |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, page.String())
		}
	}
	page.Reset()
	RenderHosting(&page, Machine{Cores: 2}, time.Now(), parse(t, "BenchmarkX 1 2 ns/op\n"))
	if strings.Contains(page.String(), "| met") || strings.Count(page.String(), notMeasured) != 4 {
		t.Errorf("what was not measured\n%s", page.String())
	}
}
