package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const sample = `goos: linux
goarch: amd64
pkg: example.org/provision
cpu: Some CPU
BenchmarkNoop/list/roles=100-2    	       3	 45000000 ns/op	  5367701 B/op
BenchmarkNoop/list/roles=1000-2   	       3	 450000000 ns/op
BenchmarkNoop/create/roles=1000-2 	       3	 100000000 ns/op
BenchmarkNoop/plan/roles=100-2    	       3	 50000000 ns/op
BenchmarkNoop/plan/roles=1000-2   	       3	 2500000000 ns/op
BenchmarkNoop/apply/roles=100-2   	       3	 50000000 ns/op
BenchmarkNoop/apply/roles=1000-2  	       3	 500000000 ns/op
BenchmarkNoopMemory/roles=1000-2  	       3	  85299200 peak-B
PASS
ok  	example.org/provision	76.458s
pkg: example.org/vtpm
BenchmarkManufacture/ovsactl-2            	20	100000000 ns/op
BenchmarkManufacture/swtpm_setup-2        	20	600000000 ns/op
BenchmarkManufacture/swtpm_setup_reaped-2 	20	150000000 ns/op
pkg: example.org/e2e
BenchmarkApply/roles=1-2 
    lab_test.go:1: said something
BenchmarkApply/roles=1-2 	1	 62.0 apply-s	1.00 emulated	2.00 own-s	50.0 plain-s	60.0 reachable-s	20.0 plain-reachable-s	5.00 stage-firmware-s	20.0 stage-all-s	600 work-processes
BenchmarkApply/roles=2-2 	1	 80.0 apply-s	1.00 emulated	8.00 own-s	75.0 plain-s	72.0 reachable-s
BenchmarkApply/roles=4-2 	1	 90.0 apply-s	1.00 emulated	2.00 own-s	80.0 plain-s	80.0 plain-reachable-s
BenchmarkOlder/roles=1-2 	1	 90.0 apply-s	50.0 plain-reachable-s	10.0 stage-firmware-s	50.0 stage-all-s	3000 work-processes
BenchmarkOlder/roles=4-2 	1	 290.0 apply-s	100.0 plain-reachable-s
BenchmarkVariant/kernel_with_vTPM-2 	1	5.00 stage-loader-s	20.0 stage-all-s	700 work-processes
BenchmarkQuickstart/this-2 	1	40.0 apply-s	10.0 components-s
BenchmarkQuickstart/older-2 	1	80.0 apply-s	40.0 components-s
BenchmarkCloud/roles=4-2 	1	90.0 apply-s	100 plain-s
BenchmarkParse-2 	1000	 1234 ns/op	12 B/op
`

func parse(t *testing.T, text string) Results {
	t.Helper()
	rs, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestParse(t *testing.T) {
	rs := parse(t, sample)
	if len(rs) != 21 {
		t.Errorf("%d results", len(rs))
	}
	if r := rs[0]; r.Name != "Noop/list/roles=100" || r.Package != "example.org/provision" || r.Runs != 3 || r.Values["B/op"] != 5367701 {
		t.Errorf("%+v", r)
	}
	if rs := parse(t, "pkg: a\nBenchmarkX 1 2 ns/op\npkg: b\nBenchmarkX 1 2 ns/op\n"); len(rs) != 2 {
		t.Errorf("the same name in two packages: %v", rs)
	}
	if v, ok := rs.Value("Apply/roles=2", "own-s"); !ok || v != 8 {
		t.Errorf("own-s: %v, %v", v, ok)
	}
	if _, ok := rs.Value("Apply/roles=2", "ns/op"); ok {
		t.Error("a figure that is not there")
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":           "PASS\n",
		"a failure":         sample + "--- FAIL: BenchmarkX\n",
		"a failed package":  sample + "FAIL\texample.org/x\t1s\n",
		"a panic":           sample + "panic: oh\n",
		"the same twice":    sample + "BenchmarkParse-8 	1 2 ns/op\n",
		"no figure":         "BenchmarkX-2 1 x ns/op\n",
		"not a number":      "BenchmarkX-2 1 NaN ns/op\n",
		"no unit":           "BenchmarkX-2 1 2\n",
		"a figure too many": "BenchmarkX-2 1 2 ns/op 3\n",
		"no runs":           "BenchmarkX-2 0 2 ns/op\n",
		"too much":          sample + strings.Repeat("x\n", maxInput),
		"too long a line":   sample + strings.Repeat("x", maxLine+1),
	} {
		if rs, err := Parse(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %v", name, rs)
		}
	}
}

func TestRender(t *testing.T) {
	var page bytes.Buffer
	m := Machine{CPU: "Some CPU", Cores: 2, Memory: 24 << 30, Virtual: true, Distro: "Debian", Kernel: "6.1", Go: "1.26", QEMU: "7.2"}
	Render(&page, m, time.Date(2026, 11, 2, 23, 0, 0, 0, time.UTC), parse(t, sample))
	got := strings.Join(strings.Fields(page.String()), " ") // whatever the alignment
	for _, want := range []string{
		"on 2 November 2026,",
		"| processor | Some CPU, 2 cores, itself in a virtual machine |",
		"| memory | 24.0 GiB |",
		"| swtpm | not installed |",
		"| acceleration | none: guests are emulated (QEMU's TCG) |",
		"| | 1 role | 2 roles | 4 roles |",
		"| 1 role | older | this | this beside older |",
		"| firmware | 10.0 s | 5.00 s | 0.50 x |",
		"| processes started, until at rest | 3000 | 600 | 0.20 x |",
		"| 1 role | 50.0 s | 20.0 s | 0.40 x |",
		"| first login in 50.0 % of the older one's time, 1 role | 40.0 % | met |",
		"| first login in 50.0 % of the older one's time, 4 roles | 80.0 % | **missed** |",
		"| 1 role | UEFI, vTPM | kernel with vTPM |",
		"| firmware | 5.00 s | - |",
		"| loader | - | 5.00 s |",
		"| ready in 45.0 % of the older one's time | 50.0 % | **missed** |",
		"| components in 33.3 % of the older one's time | 25.0 % | met |",
		"| 4 roles | 100 s | 90.0 s | 0.90 x |",
		"| at most 1.05 x virsh, 4 roles | 0.90 x | met |",
		"| **its own share** | 3.23 % | 10.0 % | 2.22 % |",
		"| **apply beside plain** | 1.24 x | 1.07 x | 1.12 x |",
		"| own share under 5.00 %, 1 role | 3.23 % | met |",
		"| own share under 5.00 %, 2 roles | 10.0 % | **missed** |",
		"| | 100 roles | 1,000 roles |",
		"| plan, nothing is there | - | 100 ms |",
		"| apply beside list | 1.11 x | 1.11 x |",
		"| apply, for each role | 500 µs | 500 µs |",
		"| plan, 1,000 roles in 2.00 s | 2.50 s | **missed** |",
		"| memory under 200 MB, 1,000 roles | 85.3 MB | met |",
		"| plan is linear: a role of 1,000 costs at most 1.25 x one of 100 | 5.00 x | **missed** |",
		"| apply is linear: a role of 1,000 costs at most 1.25 x one of 100 | 1.00 x | met |",
		"| 3.00 x faster than swtpm_setup, reaped at once | 1.50 x | **missed** |",
		"| swtpm_setup, on this machine as it is | 600 ms | 6.00 x |",
		"| `Parse` | 1.23 µs | 12.0 B |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, page.String())
		}
	}
	if strings.Contains(got, "| disk |") {
		t.Error("a row that nobody measured")
	}
}

func TestRenderOfAPart(t *testing.T) {
	var page bytes.Buffer
	Render(&page, Machine{CPU: "a|b"}, time.Now(), parse(t, "BenchmarkX 1 2 ns/op\n"))
	if got := page.String(); strings.Count(got, notMeasured) != 6 || !strings.Contains(got, "not tried") || !strings.Contains(got, `a\|b`) {
		t.Error(got)
	}
}

func TestPageIsWrittenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out.md")
	for text, want := range map[string]bool{sample + "FAIL\n": false, sample: true} {
		if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := render(t.Context(), []string{"-o", out, in}, nil, nil)
		page, _ := os.ReadFile(out)
		if (err == nil) != want || strings.Contains(string(page), "# Benchmarks") != want {
			t.Errorf("%v: %q", err, page)
		}
		os.Remove(out)
	}
	var stdout bytes.Buffer
	if err := render(t.Context(), nil, strings.NewReader(sample), &stdout); err != nil || !strings.HasPrefix(stdout.String(), "# Benchmarks") {
		t.Errorf("%v: %q", err, stdout.String())
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("BenchmarkX-2 1 2 ns/op\n")
	f.Fuzz(func(t *testing.T, text string) {
		rs, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		var page bytes.Buffer
		Render(&page, Machine{}, time.Time{}, rs)
		for _, r := range rs {
			if r.Runs < 1 || len(r.Values) == 0 {
				t.Errorf("%+v", r)
			}
		}
	})
}
