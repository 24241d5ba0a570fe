package image

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/run"
)

// ensureEnv makes the test binary a process that wants one image: "DIR URL
// SHA256" or "DIR build SUITE".
const ensureEnv = "OVSACTL_TEST_ENSURE"

func TestMain(m *testing.M) {
	if job := os.Getenv(ensureEnv); job != "" {
		os.Exit(ensureProcess(strings.Fields(job)))
	}
	os.Exit(m.Run())
}

func ensureProcess(job []string) int {
	c, err := Open(job[0], Options{})
	src := Source{Name: "x", URL: job[1], SHA256: job[2]}
	if job[1] == "build" {
		src = Source{Name: "x", Build: &Build{Suite: job[2], Size: 4 << 30}}
	}
	if err == nil {
		var img Image
		if img, err = c.Ensure(context.Background(), src, nil); err == nil {
			fmt.Print(img.Path)
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// startEnsure starts another process that wants the image.
func startEnsure(t *testing.T, dir, url, sum string) (*run.Process, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := &bytes.Buffer{}
	p, err := run.Cmd{
		Path: self, Env: []string{ensureEnv + "=" + dir + " " + url + " " + sum}, Stdout: out,
	}.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p, out
}

func TestTwoProcessesDownloadOnce(t *testing.T) {
	disk := rawDisk(256 << 10)
	slow := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(200 * time.Millisecond) // the second process comes meanwhile
		whole(disk, "")(w, r)
	}
	s := serve(t, slow)
	dir := t.TempDir()
	a, outA := startEnsure(t, dir, s.URL, sum(disk))
	b, outB := startEnsure(t, dir, s.URL, sum(disk))
	if err := a.Wait(); err != nil {
		t.Error(err)
	}
	if err := b.Wait(); err != nil {
		t.Error(err)
	}
	if outA.String() == "" || outA.String() != outB.String() {
		t.Errorf("the processes got %q and %q, want the same file", outA, outB)
	}
	if n := s.requests.Load(); n != 1 {
		t.Errorf("%d requests, want one", n)
	}
	onlyTheImage(t, openCache(t, dir))
}

func TestKilledDownloadIsResumed(t *testing.T) {
	disk := rawDisk(1 << 20)
	const before = 600_000
	var asked atomic.Value
	arrived := make(chan struct{})
	first := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"a"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(disk)))
		w.Write(disk[:before])
		w.(countingWriter).ResponseWriter.(http.Flusher).Flush()
		close(arrived)
		<-r.Context().Done()
	}
	s := serve(t, first, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Header.Get("Range") + " " + r.Header.Get("If-Range"))
		whole(disk, `"a"`)(w, r)
	})
	dir := t.TempDir()
	c := openCache(t, dir)
	p, _ := startEnsure(t, dir, s.URL, sum(disk))
	<-arrived
	for waitUntil := time.Now().Add(5 * time.Second); partSize(c, disk) < before-sparseBlock && time.Now().Before(waitUntil); {
		time.Sleep(10 * time.Millisecond)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.Wait()

	if _, ok, err := c.Lookup(t.Context(), Source{URL: s.URL, SHA256: sum(disk)}); ok || err != nil {
		t.Fatalf("half an image is found: %v, %v", ok, err)
	}
	if entries, _ := c.List(t.Context()); len(entries) != 2 || !entries[0].Leftover || !entries[1].Leftover {
		t.Errorf("after the kill: %+v, want two leftovers", entries)
	}
	img, err := c.Ensure(t.Context(), Source{URL: s.URL, SHA256: sum(disk)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(img.Path); !bytes.Equal(got, disk) {
		t.Error("the resumed disk differs")
	}
	if got, _ := asked.Load().(string); !strings.HasPrefix(got, "bytes=") || !strings.HasSuffix(got, ` "a"`) || got == `bytes=0- "a"` {
		t.Errorf("asked for %q, want the rest of the same version", got)
	}
	onlyTheImage(t, c)
}

func partSize(c *Cache, disk []byte) int64 {
	info, err := os.Stat(c.dir + "/partial/" + sum(disk) + ".part")
	if err != nil {
		return 0
	}
	return info.Size()
}
