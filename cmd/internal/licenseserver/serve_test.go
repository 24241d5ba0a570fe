package licenseserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	proto "github.com/ovsactl/ovsactl/licensing/server"
)

// running is a server in this process.
type running struct {
	t       *testing.T
	dir     string // with certs and DB
	service *echo
	hup     chan os.Signal
	stop    context.CancelFunc
	code    chan int
	log     *logLines

	address, ops string
}

// start runs license_server with more arguments, and waits until it serves. Its
// service echoes.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	return startWith(t, nil, args...)
}

// startWith is start with a service.
func startWith(t *testing.T, service NewService, args ...string) *running {
	t.Helper()
	return startIn(t, nil, service, args...)
}

// startIn is startWith in an environment.
func startIn(t *testing.T, environment map[string]string, service NewService, args ...string) *running {
	t.Helper()
	r := &running{t: t, dir: t.TempDir(), service: &echo{began: make(chan struct{}, 16)}, hup: make(chan os.Signal), code: make(chan int, 1)}
	for _, name := range []string{"certs", "DB"} {
		if err := os.Mkdir(filepath.Join(r.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.run("gencert")
	pipe, stderr := io.Pipe()
	r.log = readLog(pipe)
	ports := r.ports()
	ports.NewService = service
	if service == nil {
		ports.NewService = func(context.Context, Config) (Service, error) { return r.service, nil }
	}
	args = append([]string{"license_server", "-dir", r.certs(), "-db", filepath.Join(r.dir, "DB", "ovsa.db"), "-listen", "127.0.0.1:0", "-ops", "127.0.0.1:0"}, args...)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		r.code <- Program(ports).Run(ctx, guestcli.Env{Args: commandLine(args), Stderr: stderr, Getenv: func(name string) string { return environment[name] }})
		stderr.Close()
	}()
	t.Cleanup(stop)
	line := r.log.wait(t, "serving")
	r.address, r.ops = line["address"].(string), line["ops"].(string)
	return r
}

func (r *running) certs() string { return filepath.Join(r.dir, "certs") }

func (r *running) ports() Ports {
	return Ports{Now: time.Now, Hangups: func() (<-chan os.Signal, func()) { return r.hup, func() {} }}
}

// run runs a certificate verb.
func (r *running) run(args ...string) {
	r.t.Helper()
	var stderr bytes.Buffer
	if code := Program(r.ports()).Run(r.t.Context(), guestcli.Env{Args: append(args, "-dir", r.certs()), Stderr: &stderr}); code != 0 {
		r.t.Fatalf("%s: %s", args, &stderr)
	}
}

// end stops the server and returns its exit code.
func (r *running) end() int {
	r.t.Helper()
	r.stop()
	select {
	case code := <-r.code:
		return code
	case <-time.After(10 * time.Second):
		r.t.Fatal("the server does not stop")
		return 0
	}
}

// client believes the certificate that is in server.crt now.
func (r *running) client() *http.Client {
	r.t.Helper()
	leaf, _, err := certDir(r.certs()).bundle(bundle)
	if err != nil {
		r.t.Fatal(err)
	}
	return pinned(leaf)
}

// pinned is a client that knows a server by its key, as guests do.
func pinned(leaf *x509.Certificate) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, // the pin is all there is
		VerifyConnection: func(state tls.ConnectionState) error {
			if !bytes.Equal(licensing.PinOf(state.PeerCertificates[0]), licensing.PinOf(leaf)) {
				return errors.New("another key")
			}
			return nil
		},
	}}}
}

func fetch(c *http.Client, url string) (int, string, error) {
	response, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func expectFetch(t *testing.T, c *http.Client, url string, code int, body string) {
	t.Helper()
	gotCode, gotBody, err := fetch(c, url)
	if err != nil || gotCode != code || !strings.Contains(gotBody, body) {
		t.Errorf("%s: %d %q %v, want %d %q", url, gotCode, gotBody, err, code, body)
	}
}

// logLines are the lines of a server's log so far.
type logLines struct {
	mu    sync.Mutex
	lines []map[string]any
}

func readLog(r io.Reader) *logLines {
	l := new(logLines)
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			line := map[string]any{}
			if json.Unmarshal(s.Bytes(), &line) != nil {
				line["msg"] = s.Text()
			}
			l.mu.Lock()
			l.lines = append(l.lines, line)
			l.mu.Unlock()
		}
	}()
	return l
}

// wait returns the last line with a message, when it comes.
func (l *logLines) wait(t *testing.T, msg string) map[string]any {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		l.mu.Lock()
		for i := len(l.lines) - 1; i >= 0; i-- {
			if strings.Contains(fmt.Sprint(l.lines[i]["msg"]), msg) {
				defer l.mu.Unlock()
				return l.lines[i]
			}
		}
		l.mu.Unlock()
	}
	t.Fatalf("the log has no %q: %v", msg, l.lines)
	return nil
}

func TestServe(t *testing.T) {
	r := start(t)
	client := r.client()
	response, err := client.Post("https://"+r.address+"/v1/begin", "application/json", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if string(body) != "hello" || response.TLS.Version != tls.VersionTLS13 || response.ProtoMajor != 1 {
		t.Errorf("%q, TLS %#x, HTTP/%d", body, response.TLS.Version, response.ProtoMajor)
	}
	if n := len(response.TLS.PeerCertificates); n != 1 {
		t.Errorf("the server shows %d certificates, want its own alone", n)
	}
	for _, base := range []string{"https://" + r.address, "http://" + r.ops} {
		expectFetch(t, client, base+"/healthz", 200, "ok")
		expectFetch(t, client, base+"/readyz", 200, "ready, and not complete")
	}
	for _, missing := range []string{"licences", "trust for isv", "trust for customer", "trust for tpm-vendor", "trust for attestation"} {
		expectFetch(t, client, "http://"+r.ops+"/readyz", 200, "missing: "+missing+": ")
	}
	if _, body, err := fetch(client, "https://"+r.address+"/readyz"); err != nil || strings.Contains(body, "missing") {
		t.Errorf("strangers learn %q (%v)", body, err)
	}
	expectFetch(t, client, "https://"+r.address+"/metrics", 200, "") // the service's, which echoes nothing
	expectFetch(t, client, "http://"+r.ops+"/v1/begin", 404, "")
	for _, want := range []string{
		`license_server_requests_total{code="200"} 2`, "license_server_certificate_end_seconds ", "license_server_build_info{version=",
		"license_server_connections_turned_away_total 0", "go_goroutines ", "ovsa_database_up 1", "ovsa_licences_ending 0", `ovsa_setup_incomplete{status="missing"} 5`, "license_server_request_seconds_bucket",
	} {
		expectFetch(t, client, "http://"+r.ops+"/metrics", 200, want)
	}
	if code := r.end(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// systemd is told of the start, of a reload and of the end.
func TestSystemdIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	hears := func(want string) {
		t.Helper()
		buf := make([]byte, 256)
		socket.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := socket.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			t.Fatalf("%q, %v, want %s", buf[:n], err, want)
		}
	}
	r := startIn(t, map[string]string{"NOTIFY_SOCKET": path}, nil)
	hears("READY=1")
	r.hup <- syscall.SIGHUP
	hears("RELOADING=1\nMONOTONIC_USEC=")
	hears("READY=1")
	if code := r.end(); code != 0 {
		t.Errorf("exit %d", code)
	}
	hears("STOPPING=1")
}

func TestOldTLSIsRefused(t *testing.T) {
	r := start(t)
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12} {
		conn, err := tls.Dial("tcp", r.address, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if err == nil {
			conn.Close()
			t.Errorf("the server speaks TLS %#x", version)
		}
	}
	if _, _, err := fetch(http.DefaultClient, "http://"+r.address+"/healthz"); err == nil {
		if code, _, _ := fetch(http.DefaultClient, "http://"+r.address+"/healthz"); code == 200 {
			t.Error("the server answers without TLS")
		}
	}
}

// TestNoResumption: every connection is a full handshake.
func TestNoResumption(t *testing.T) {
	r := start(t)
	config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	for range 2 {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		response, err := client.Get("https://" + r.address + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.TLS.DidResume {
			t.Error("a session was resumed")
		}
	}
}

func TestReload(t *testing.T) {
	r := start(t)
	before := r.client()
	expectFetch(t, before, "https://"+r.address+"/healthz", 200, "ok")
	r.run("gencert-new")
	r.run("provision-new-cert")
	after := r.client()
	if _, _, err := fetch(after, "https://"+r.address+"/healthz"); err == nil {
		t.Error("the new key is in use before a reload")
	}
	r.hup <- syscall.SIGHUP
	r.log.wait(t, "reloaded")
	expectFetch(t, after, "https://"+r.address+"/healthz", 200, "ok")
	expectFetch(t, before, "https://"+r.address+"/healthz", 200, "ok") // on its connection, which was not dropped
	before.CloseIdleConnections()
	if _, _, err := fetch(before, "https://"+r.address+"/healthz"); err == nil {
		t.Error("the old key is still in use")
	}
	if n := r.service.reloads.Load(); n != 1 {
		t.Errorf("the service was given %d reloads", n)
	}
}

// TestReloadOfBadFiles: whatever is wrong with them, the server goes on with what
// it had, and says so.
func TestReloadOfBadFiles(t *testing.T) {
	for name, spoil := range map[string]func(r *running) error{
		"no certificate":         func(r *running) error { return os.Remove(filepath.Join(r.certs(), bundle)) },
		"empty certificate":      func(r *running) error { return os.WriteFile(filepath.Join(r.certs(), bundle), nil, 0o644) },
		"another key":            func(r *running) error { return replaceKey(r, tlsKey) },
		"another release key":    func(r *running) error { return replaceKey(r, releaseKey) },
		"readable key":           func(r *running) error { return os.Chmod(filepath.Join(r.certs(), tlsKey), 0o644) },
		"garbage in trust":       func(r *running) error { return addTrust(r, "garbage", 0o644) },
		"trust others write":     func(r *running) error { return addTrust(r, "", 0o666) },
		"refused by the service": func(r *running) error { r.service.refuse.Store(true); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			client := r.client()
			if err := spoil(r); err != nil {
				t.Fatal(err)
			}
			r.hup <- syscall.SIGHUP
			line := r.log.wait(t, "reload failed")
			if line["level"] != "ERROR" || line["error"] == "" {
				t.Errorf("log: %v", line)
			}
			expectFetch(t, client, "https://"+r.address+"/healthz", 200, "ok")
			expectFetch(t, client, "http://"+r.ops+"/metrics", 200, `license_server_reloads_total{result="failed"} 1`)
			if n := r.service.reloads.Load(); n != 0 {
				t.Errorf("the service was given %d reloads", n)
			}
		})
	}
}

func replaceKey(r *running, name string) error {
	if err := os.Remove(filepath.Join(r.certs(), name)); err != nil {
		return err
	}
	_, err := certDir(r.certs()).newKey(name)
	return err
}

func addTrust(r *running, text string, mode os.FileMode) error {
	dir := filepath.Join(r.certs(), "trust", "isv")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if text == "" {
		good, err := os.ReadFile(filepath.Join(r.certs(), bundle))
		if err != nil {
			return err
		}
		text = string(good)
	}
	path := filepath.Join(dir, "x.pem")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// TestDrain: a request that is being answered when the server is stopped is
// answered, and nothing new is.
func TestDrain(t *testing.T) {
	r := start(t)
	client := r.client()
	done := make(chan error, 1)
	go func() {
		code, _, err := fetch(client, "https://"+r.address+"/slow")
		if err == nil && code != 200 {
			err = fmt.Errorf("status %d", code)
		}
		done <- err
	}()
	<-r.service.began
	if code := r.end(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if err := <-done; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	if _, err := net.DialTimeout("tcp", r.address, time.Second); err == nil {
		t.Error("it still listens")
	}
}

// TestDrainEnds: one that takes too long is cut off.
func TestDrainEnds(t *testing.T) {
	r := start(t, "-drain", "20ms")
	go fetch(r.client(), "https://"+r.address+"/slow")
	<-r.service.began
	if code := r.end(); code != 0 {
		t.Errorf("exit %d", code)
	}
	r.log.wait(t, "requests were cut off")
}

func TestTooMuch(t *testing.T) {
	r := start(t, "-max-connections", "3", "-max-per-client", "2")
	client := r.client()
	response, err := client.Post("https://"+r.address+"/", "text/plain", bytes.NewReader(make([]byte, maxBody+1)))
	if err == nil {
		response.Body.Close()
	}
	if err == nil && response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body beyond the limit: %d", response.StatusCode)
	}
	request, _ := http.NewRequest("GET", "https://"+r.address+"/healthz", nil)
	request.Header.Set("X-Long", strings.Repeat("x", 2*maxHeader))
	if response, err := client.Do(request); err == nil {
		response.Body.Close()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header beyond the limit: %d", response.StatusCode)
		}
	}
	var open []net.Conn
	hangUp := func() {
		client.CloseIdleConnections()
		for _, conn := range open {
			conn.Close()
		}
		open = nil
	}
	waitFor(t, "a third connection is turned away", func() bool {
		hangUp() // the server may still count connections of before: anew each time
		for range 2 {
			conn, err := net.Dial("tcp", r.address)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, conn)
		}
		_, _, err := fetch(client, "https://"+r.address+"/healthz")
		return err != nil
	})
	hangUp()
	waitFor(t, "there is room again", func() bool {
		code, _, err := fetch(client, "https://"+r.address+"/healthz")
		return err == nil && code == 200
	})
}

// TestRateLimits: how much is let through is what the settings say.
func TestRateLimits(t *testing.T) {
	var got proto.Limits
	r := startWith(t, func(ctx context.Context, c Config) (Service, error) {
		got = c.Limits
		return Guests(ctx, c)
	}, "-client-rate", "0.001:3", "-guest-rate", "2:5", "-licence-rate", "7:70", "-max-requests", "9")
	want := proto.Limits{PerIP: proto.Rate{PerSecond: 0.001, Burst: 3}, PerEK: proto.Rate{PerSecond: 2, Burst: 5}, PerLicence: proto.Rate{PerSecond: 7, Burst: 70}, InFlight: 9}
	if got != want {
		t.Errorf("limits %+v, want %+v", got, want)
	}
	client := r.client()
	var codes []int
	for range 4 {
		response, err := client.Post("https://"+r.address+exchange.PathRenew, "application/json", strings.NewReader("{"))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		codes = append(codes, response.StatusCode)
	}
	if codes[0] == http.StatusTooManyRequests || codes[3] != http.StatusTooManyRequests {
		t.Errorf("status codes %v, want the last to be %d", codes, http.StatusTooManyRequests)
	}
}

// TestSlowRequests: connections that send nothing, or a little at a time, hold up
// nobody, and are cut off.
func TestSlowRequests(t *testing.T) {
	t.Parallel() // it waits
	r := start(t)
	client := r.client()
	config := client.Transport.(*http.Transport).TLSClientConfig
	idle, err := net.Dial("tcp", r.address) // not even a handshake
	if err != nil {
		t.Fatal(err)
	}
	header, err := tls.Dial("tcp", r.address, config)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(header, "POST /v1/begin HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	defer idle.Close()
	defer header.Close()
	stop := time.AfterFunc(0, func() {
		for { // never long without a byte
			if _, err := header.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	defer stop.Stop()
	expectFetch(t, client, "https://"+r.address+"/healthz", 200, "ok")
	for name, conn := range map[string]net.Conn{"idle": idle, "slow header": header} {
		conn.SetReadDeadline(time.Now().Add(2 * headerTime))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: not cut off", name)
		}
	}
	expectFetch(t, client, "https://"+r.address+"/healthz", 200, "ok")
}

// TestPanic: a request that fails takes only its own connection with it.
func TestPanic(t *testing.T) {
	r := start(t)
	client := r.client()
	if _, _, err := fetch(client, "https://"+r.address+"/panic"); err == nil {
		t.Error("it was answered")
	}
	r.log.wait(t, "the service failed")
	expectFetch(t, client, "https://"+r.address+"/healthz", 200, "ok")
}

func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Errorf("never: %s", what)
}

// TestReadiness: what nothing works without makes the server not ready, what is
// missing does not; and what it is, only those learn who look after it.
func TestReadiness(t *testing.T) {
	for _, tt := range []struct {
		found         []finding
		stopping      bool
		code          int
		guests, owner string
	}{
		{[]finding{{"database", good, "it answers", ""}}, false, 200, "ok\n", "ok\n"},
		{[]finding{{"a", good, "", ""}, {"hosts", absent, "no host", "list one"}}, false, 200, "ready, and not complete\n", "ready, and not complete\nmissing: hosts: no host\n"},
		{[]finding{{"certificate", ending, "it ends", ""}}, false, 200, "ready, and not complete\n", "ready, and not complete\nsoon: certificate: it ends\n"},
		{[]finding{{"hosts", absent, "no host", ""}, {"database", broken, "away", ""}}, false, 503, "not ready\n", "not ready\nmissing: hosts: no host\nfailed: database: away\n"},
		{nil, true, 503, "stopping\n", "stopping\n"},
	} {
		h := &health{look: func(context.Context) []finding { return tt.found }}
		h.stopping.Store(tt.stopping)
		for detailed, want := range map[bool]string{false: tt.guests, true: tt.owner} {
			mux := http.NewServeMux()
			h.handle(mux, detailed)
			for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": want} {
				w := httptest.NewRecorder()
				mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
				code := 200
				if path == "/readyz" {
					code = tt.code
				}
				if w.Code != code || w.Body.String() != want {
					t.Errorf("%v, %s: %d %q, want %d %q", tt.found, path, w.Code, w.Body, code, want)
				}
			}
		}
	}
}
