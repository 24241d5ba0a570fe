package licenseserver_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ovsactl/ovsactl/internal/inference/irtest"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/testlog"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
)

// servedSizes are how long models are that are served, in MiB, of OVSA_BENCH_SERVED.
func servedSizes(b *testing.B) (all []int) {
	b.Helper()
	for text := range strings.SplitSeq(cmp.Or(os.Getenv("OVSA_BENCH_SERVED"), "96"), ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 16 {
			b.Fatalf("OVSA_BENCH_SERVED has %q: want numbers of MiB from 16, with commas between them", text)
		}
		all = append(all, n)
	}
	return all
}

// mostPlain is how long a model may be, in MiB, that is loaded from a plain file, too: on
// a tmpfs, so that is in memory beside what the engine has.
const mostPlain = 2048

// BenchmarkHostingStart is from `ovsaruntime serve` to the first answer, through nginx, by
// phases: "-s" are seconds of each. Models that are not too large are loaded from a plain
// file on a tmpfs as well, by the same engine.
func BenchmarkHostingStart(b *testing.B) {
	dir, library := programs(b, "openvino")
	for _, mib := range servedSizes(b) {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			const side = 2048 // 16 MiB in a layer
			chain := irtest.Chain{Rows: 1, Side: side, Layers: mib / 16}
			plain := memory(b)
			under := filepath.Join(plain, "chain", "1")
			if err := errors.Join(os.MkdirAll(under, 0o755), chain.Write(under)); err != nil {
				b.Fatal(err)
			}
			g := hostGuide(b, "nginx")
			g.sold("-t Sale")
			s := g.modelServer(dir, "openvino", library, []version{g.licensedChain("chain", under)})
			defer s.end()
			if mib > mostPlain {
				if err := os.RemoveAll(under); err != nil { // its memory is needed
					b.Fatal(err)
				}
			}
			all := sums{}
			for b.Loop() {
				all.add(s.firstAnswer(b, "chain", side))
				if mib > mostPlain {
					continue
				}
				b.StopTimer()
				e := startEngine(b, dir, library, plain)
				e.answers(b, "chain", 1, side)
				_, took := loaded(b, e.log.String())
				all.add(map[string]float64{"plain-load-s": took, "plain-memory-B": e.memory(b)})
				e.end()
				b.StartTimer()
			}
			all.report(b)
		})
	}
}

// memory is a directory that is in memory.
func memory(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// sums are figures, by their units, of several runs.
type sums map[string]float64

func (s sums) add(figures map[string]float64) {
	for unit, v := range figures {
		s[unit] += v
	}
}

// report reports their means.
func (s sums) report(b *testing.B) {
	for unit, v := range s {
		b.ReportMetric(v/float64(b.N), unit)
	}
}

// firstAnswer starts the runtime, asks the model when it is said to be ready, and ends
// the runtime.
func (s modelServer) firstAnswer(b *testing.B, model string, side int) map[string]float64 {
	b.Helper()
	s.log.Take()
	ask := overREST(b, s.front.rest, s.front.client("client"))
	began := time.Now()
	s.start()
	s.until("ready")
	asked := time.Now()
	if _, err := ask(model, []int64{1, int64(side)}, make([]byte, 4*side)); err != nil {
		b.Fatalf("%v; the log is\n%s", err, s.log)
	}
	answered := time.Now()
	b.StopTimer()
	defer b.StartTimer()
	figures := phases(b, s.log.String(), began)
	figures["answer-s"], figures["first-s"] = answered.Sub(asked).Seconds(), answered.Sub(began).Seconds()
	figures["memory-B"] = tree(b, s.process.Process.Pid)
	s.end()
	return figures
}

// phases are those that a runtime's log tells of.
func phases(b *testing.B, log string, began time.Time) map[string]float64 {
	b.Helper()
	figures := map[string]float64{}
	var starting, ready time.Time
	var load, taken float64
	for line := range strings.Lines(log) {
		var said struct {
			Time             time.Time
			Msg, State, Line string
			Open             float64 `json:"open_seconds"`
			Proof            float64 `json:"proof_seconds"`
			Unlock           float64 `json:"unlock_seconds"`
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			b.Fatalf("%v: %s", err, line)
		}
		switch {
		case said.Msg == "serving":
			figures["start-s"] = said.Time.Sub(began).Seconds()
		case said.Msg == "unlocked":
			figures["open-s"], figures["proof-s"], figures["unlock-s"] = said.Open, said.Proof, said.Unlock
		case said.Msg == "engine" && said.State == "starting":
			starting = said.Time
		case said.Msg == "engine says" && strings.Contains(said.Line, "msg=loaded"):
			_, load = loaded(b, said.Line)
			taken = said.Time.Sub(starting).Seconds()
		case said.Msg == "engine" && said.State == "ready":
			ready = said.Time
		}
	}
	if starting.IsZero() || ready.IsZero() || load == 0 || figures["proof-s"] == 0 {
		b.Fatalf("a phase is not in the log\n%s", log)
	}
	figures["load-s"], figures["engine-s"] = load, taken-load
	figures["front-s"] = ready.Sub(starting).Seconds() - taken
	return figures
}

var loadedLine = regexp.MustCompile(`msg=loaded model=(\S+) version=\d+ seconds=(\S+)`)

// loaded is what an engine's log says of the first model that it has loaded.
func loaded(b *testing.B, log string) (model string, seconds float64) {
	b.Helper()
	found := loadedLine.FindStringSubmatch(log)
	if found == nil {
		b.Fatalf("nothing is loaded: %s", log)
	}
	seconds, err := strconv.ParseFloat(found[2], 64)
	if err != nil {
		b.Fatal(err)
	}
	return found[1], seconds
}

// tree is what a process and its descendants have in memory, but for pages of files.
func tree(b *testing.B, pid int) float64 {
	b.Helper()
	all := private(b, pid)
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range children {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // of a thread that has ended
		}
		for _, child := range strings.Fields(string(text)) {
			n, err := strconv.Atoi(child)
			if err != nil {
				b.Fatal(err)
			}
			all += tree(b, n)
		}
	}
	return all
}

var anonymous = regexp.MustCompile(`(?m)^RssAnon:\s+(\d+) kB$`)

// private is a process's memory that no file has (proc_pid_status(5)).
func private(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	found := anonymous.FindSubmatch(status)
	if found == nil {
		b.Fatalf("no RssAnon in\n%s", status)
	}
	kB, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return float64(kB << 10)
}

// plainEngine is the engine of ours on plain files, with nothing before it.
type plainEngine struct {
	process    *exec.Cmd
	rest, grpc string
	log        *testlog.Log
}

func startEngine(b *testing.B, dir, library, models string) *plainEngine {
	b.Helper()
	e := &plainEngine{rest: licensetest.FreeAddress(b), grpc: licensetest.FreeAddress(b), log: new(testlog.Log)}
	e.process = exec.Command(filepath.Join(dir, "ovsa-engine"), "serve", "-models", models, "-http", e.rest, "-grpc", e.grpc, "-runtime", "openvino", "-library", library)
	e.process.Stderr = e.log
	if err := e.process.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(e.end)
	return e
}

// answers returns when a model has answered.
func (e *plainEngine) answers(b *testing.B, model string, rows, side int) {
	b.Helper()
	ask := overREST(b, "http://"+e.rest, http.DefaultClient)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := ask(model, []int64{int64(rows), int64(side)}, make([]byte, 4*rows*side))
		if err == nil {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("%v; the log is\n%s", err, e.log)
		}
	}
}

func (e *plainEngine) memory(b *testing.B) float64 { return private(b, e.process.Process.Pid) }

func (e *plainEngine) end() {
	e.process.Process.Signal(syscall.SIGTERM)
	e.process.Wait()
}

// The model that takes about 5 ms, of as many layers as that needs here.
const (
	fastRows, fastSide = 16, 1024
	fastTime           = 5 * time.Millisecond
)

// roundTime is for how long one way of asking is tried, before the next is.
const roundTime = 2 * time.Second

// BenchmarkHostingAnswers is asking a model of about 5 ms through nginx and TLS, beside
// the same engine alone, on the same plain file, and OpenVINO's own interface for Python
// in the asking process. All take turns.
func BenchmarkHostingAnswers(b *testing.B) {
	python := filepath.Join("../../..", "bin/openvino-python/bin/python")
	if _, err := os.Stat(python); err != nil {
		need.Absent(b, "openvino", "there is no "+python)
	}
	dir, library := programs(b, "openvino")
	plain := memory(b)
	under := filepath.Join(plain, "fast", "1")
	inProcess := func(clients int, d time.Duration) (r rates) {
		b.Helper()
		out, err := exec.CommandContext(b.Context(), python, "testdata/inprocess.py", filepath.Join(under, "model.xml"), strconv.Itoa(fastRows), strconv.Itoa(fastSide), strconv.Itoa(clients), fmt.Sprint(d.Seconds())).Output()
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		if err != nil {
			var failed *exec.ExitError
			if errors.As(err, &failed) {
				b.Fatalf("%v\n%s", err, failed.Stderr)
			}
			b.Fatal(err)
		}
		return r
	}
	chain := irtest.Chain{Rows: fastRows, Side: fastSide, Layers: 10}
	for range 2 { // the second has as many layers as it needs
		if err := errors.Join(os.MkdirAll(under, 0o755), chain.Write(under)); err != nil {
			b.Fatal(err)
		}
		each := inProcess(1, time.Second).Best / float64(chain.Layers)
		chain.Layers = max(1, int(fastTime.Seconds()/each+0.5))
	}
	if err := chain.Write(under); err != nil {
		b.Fatal(err)
	}
	g := hostGuide(b, "nginx")
	g.sold("-t Sale")
	s := g.modelServer(dir, "openvino", library, []version{g.licensedChain("fast", under)})
	s.start()
	defer s.end()
	s.until("ready")
	alone := startEngine(b, dir, library, plain)
	alone.answers(b, "fast", fastRows, fastSide)
	x := bytes.Repeat(floats(1), fastRows*fastSide)
	secure := s.front.client("client").Transport.(*http.Transport).TLSClientConfig
	kept := func() *http.Client { // one connection for each client
		return &http.Client{Transport: &http.Transport{TLSClientConfig: secure}}
	}
	ways := map[string][2]func() asker{
		"rest": {
			func() asker { return overREST(b, "http://"+alone.rest, kept()) },
			func() asker { return overREST(b, s.front.rest, kept()) },
		},
		"grpc": {
			func() asker { return overGRPC(b, alone.grpc, insecure.NewCredentials()) },
			func() asker {
				return overGRPC(b, strings.TrimPrefix(s.front.grpc, "https://"), credentials.NewTLS(secure))
			},
		},
	}
	for _, protocol := range []string{"rest", "grpc"} {
		for _, clients := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/clients=%d", protocol, clients), func(b *testing.B) {
				all := sums{}
				var askers [2][]asker
				for i, way := range ways[protocol] {
					for range clients {
						askers[i] = append(askers[i], way())
					}
					askAll(b, askers[i], x, time.Second/2) // so that all are connected
				}
				for b.Loop() {
					for i, name := range []string{"alone", "front"} {
						all.add(askAll(b, askers[i], x, roundTime).figures(name))
					}
					all.add(inProcess(clients, roundTime).figures("python"))
				}
				all.report(b)
			})
		}
	}
}

// rates are how long answers took, in seconds, and how many there were in one.
type rates struct{ Best, P50, P99, Rate float64 }

func (r rates) figures(name string) map[string]float64 {
	return map[string]float64{name + "-p50-ms": 1e3 * r.P50, name + "-p99-ms": 1e3 * r.P99, name + "-per-s": r.Rate}
}

// askAll has clients ask for a while, each again when it has its answer.
func askAll(b *testing.B, askers []asker, x []byte, d time.Duration) rates {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var group sync.WaitGroup
	began := time.Now()
	for _, ask := range askers {
		group.Go(func() {
			var mine []time.Duration
			for asked := began; asked.Sub(began) < d; {
				asked = time.Now()
				if y, err := ask("fast", []int64{fastRows, fastSide}, x); err != nil || len(y) != len(x) {
					b.Errorf("%d bytes, %v", len(y), err)
					return
				}
				mine = append(mine, time.Since(asked))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	group.Wait()
	elapsed := time.Since(began)
	if b.Failed() || len(took) == 0 {
		b.FailNow()
	}
	slices.Sort(took)
	return rates{took[0].Seconds(), took[len(took)/2].Seconds(), took[len(took)*99/100].Seconds(), float64(len(took)) / elapsed.Seconds()}
}

// BenchmarkHostingThousand is a thousand requests that are there at the same time, and a
// thousand others meanwhile.
func BenchmarkHostingThousand(b *testing.B) {
	const n = 1000
	s := servesDoubles(b)
	var most int
	for b.Loop() {
		at, err := s.requests(n)
		if err != nil {
			b.Fatal(err)
		}
		most = at
	}
	b.ReportMetric(float64(most), "at-once")
	b.ReportMetric(2*n, "answered")
}

// BenchmarkHostingMany is from the start of the runtime until it serves ten models of
// three versions each, for each of which the guest is proven.
func BenchmarkHostingMany(b *testing.B) {
	s := servesMany(b)
	g := s.runner.g
	g.stopServer()
	g.processAt(g.address, g.path("DB/ovsa.db"), "-guest-rate", "10:100")
	for b.Loop() {
		b.StopTimer()
		s.end()
		b.StartTimer()
		s.start()
		s.until(allReady)
	}
	b.ReportMetric(manyModels*manyVersions, "versions")
}
