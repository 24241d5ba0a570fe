package licenseserver_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkConnection is a connection that a guest keeps open between its
// renewals: how long its handshake takes, and the memory that the server's
// process has for it.
func BenchmarkConnection(b *testing.B) {
	const connections = 2000
	g := &guide{t: b, dir: b.TempDir()}
	g.startServer()
	g.stopServer()
	server := g.process(g.path("DB/ovsa.db"), "-max-connections", "4000", "-max-per-client", "4000")
	defer server.Wait()
	defer server.Process.Kill()

	get := func() *http.Client {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		rsp, err := c.Get("https://" + g.address + "/healthz")
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, rsp.Body)
		rsp.Body.Close()
		return c
	}
	get().CloseIdleConnections() // what is made once
	before := resident(b, server.Process.Pid)
	var open []*http.Client
	for range connections {
		open = append(open, get())
	}
	memory := float64(resident(b, server.Process.Pid)-before) / connections
	for _, c := range open {
		c.CloseIdleConnections()
	}
	for b.Loop() {
		get().CloseIdleConnections()
	}
	b.ReportMetric(memory, "B/conn")
}

// resident is the memory of a process, in bytes (proc_pid_status(5)).
func resident(b *testing.B, pid int) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kB, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kB << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}
