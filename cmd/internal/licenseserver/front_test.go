package licenseserver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/licensetest"
)

// TestHostingFront: nginx stands before the model's server, and lets those in who have
// a certificate by the runtime's own authority.
func TestHostingFront(t *testing.T) {
	g := hostGuide(t, "nginx")
	g.sold("-t Sale")
	g.stored("Sale", "cust", g.path("DB/ovsa.db"))
	certs := g.path("Modelserver")
	for _, client := range []string{"client", "client", "other"} { // what is there stays
		if code, out := g.ovsaruntime("gencerts", "-certs", certs, "-client", client); code != 0 {
			t.Fatalf("gencerts: exit %d\n%s", code, out)
		}
	}
	for name, want := range map[string]os.FileMode{"server.key": 0o600, "client_ca.key": 0o600, "client.key": 0o600, "other.key": 0o600, "server.pem": 0o644} {
		if info, err := os.Stat(filepath.Join(certs, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	r := g.prepare("model", "Sale.lic")
	f := r.front(certs, "-client-rate", "0.1:60")
	r.start()
	t.Cleanup(r.end)
	r.until("ready")
	client := f.client("client")
	get := func(c *http.Client, path string) (int, []byte) { return f.ask(c, http.MethodGet, f.rest+path, nil) }
	if code, body := get(client, "/controlled-access-model/1/face.bin"); code != 200 || !bytes.Equal(body, g.files["face.bin"]) {
		t.Errorf("a client: %d, %d bytes", code, len(body))
	}
	if code, _ := get(f.client("other"), "/controlled-access-model/1/face.xml"); code != 200 {
		t.Errorf("another client: %d", code)
	}

	// Others are not let in, and nothing of theirs reaches the model's server.
	for name, c := range map[string]*http.Client{
		"without a certificate":             f.with(nil),
		"with one by another authority":     f.with(f.issue(nil, time.Now().Add(time.Hour))),
		"with one that is over":             f.with(f.issue(f.authority(), time.Now().Add(-time.Minute))),
		"with the server's own certificate": f.with(f.load("server")),
	} {
		for _, at := range []string{f.rest, f.grpc} {
			if code, body := f.ask(c, http.MethodGet, at+"/controlled-access-model/1/face.xml", nil); code == 200 || strings.Contains(string(body), "<net/>") {
				t.Errorf("%s: %d, %s", name, code, body)
			}
		}
	}
	old := f.with(f.load("client"))
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS11
	old.Transport.(*http.Transport).TLSClientConfig.MinVersion = tls.VersionTLS10
	if code, _ := get(old, "/"); code != 0 {
		t.Errorf("TLS 1.1: %d", code)
	}

	// What is sent goes on as it is, up to a limit.
	large := bytes.Repeat([]byte("x"), 1<<20)
	if code, body := f.ask(client, http.MethodPost, f.rest+"/", large[1:]); code != 200 || string(body) != fmt.Sprintf("HTTP/1.1 %d <nil>", len(large)-1) {
		t.Errorf("a large request: %d, %s", code, body)
	}
	if code, _ := f.ask(client, http.MethodPost, f.rest+"/", append(large, 'x')); code != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", code)
	}
	if code, body := f.ask(client, http.MethodPost, f.grpc+"/", large[1:]); code != 200 || string(body) != fmt.Sprintf("HTTP/2.0 %d <nil>", len(large)-1) {
		t.Errorf("HTTP/2: %d, %s", code, body)
	}

	// A client that asks too often is told so, and others are not.
	var often int
	for often = 0; often < 100; often++ {
		if code, _ := get(client, "/controlled-access-model/1/face.xml"); code == http.StatusTooManyRequests {
			break
		}
	}
	if code, _ := get(f.client("other"), "/controlled-access-model/1/face.xml"); often == 100 || code != 200 {
		t.Errorf("after %d requests of one client another gets %d", often, code)
	}

	// It comes back when it was killed.
	pid, err := os.ReadFile(filepath.Join(f.dir, "nginx.pid"))
	var number int
	if _, scan := fmt.Sscan(string(pid), &number); errors.Join(err, scan) != nil {
		t.Fatal(err, scan)
	}
	if err := syscall.Kill(number, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); r.status().Engine.Started < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not started again: %s", r.log)
		}
	}
	r.until("ready")
	if log := r.log.String(); !strings.Contains(log, "the engine ended: its front ended: by itself") {
		t.Errorf("the log is %s", log)
	}
	if code, _ := get(f.client("client"), "/controlled-access-model/1/face.xml"); code != 200 {
		t.Errorf("after the front's end: %d", code)
	}
	r.end()
	if code, _ := get(f.client("client"), "/"); code != 0 {
		t.Errorf("after the end: %d", code)
	}
	if left := r.left(); len(left) > 0 {
		t.Errorf("there is %q", left)
	}
}

// hold makes a request of a client's that is not sent to its end, until ctx ends or it is
// answered.
func (f *front) hold(ctx context.Context, client string) {
	body, write := io.Pipe()
	defer context.AfterFunc(ctx, func() { write.Close() })()
	defer write.Close()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.rest+"/", body)
	if err != nil {
		f.t.Error(err)
		return
	}
	request.ContentLength = 6
	go io.WriteString(write, "abc")
	if response, err := f.client(client).Do(request); err == nil {
		response.Body.Close()
	}
}

// front is nginx before a runtime.
type front struct {
	t          testing.TB
	certs, dir string
	rest, grpc string
}

// front has the runtime's server be one that speaks HTTP/2, too, behind nginx, with more
// flags.
func (r *runner) front(certs string, flags ...string) *front {
	t := r.g.t
	t.Helper()
	program := filepath.Join(licensetest.ProgramDir(t), "h2engine")
	licensetest.CopyProgram(t, os.Args[0], program)
	rest, grpc, port := licensetest.FreeAddress(t), licensetest.FreeAddress(t), licensetest.FreeAddress(t)
	_, port, _ = strings.Cut(port, ":")
	f := &front{t: t, certs: certs, dir: filepath.Join(filepath.Dir(r.args[4]), "front"), rest: "https://" + rest, grpc: "https://" + grpc}
	var args []string
	for _, a := range r.args {
		if a == "--" {
			break
		}
		args = append(args, a)
	}
	args[len(args)-3] = rest // of -front
	r.args = append(args, "-front-grpc", grpc, "-grpc-port", port, "-certs", certs, "-max-body", "1048576")
	r.args = append(append(r.args, flags...), "--", program, "{models}", "{port}", "{grpc_port}")
	return f
}

func (f *front) load(name string) *tls.Certificate {
	f.t.Helper()
	c, err := tls.LoadX509KeyPair(filepath.Join(f.certs, name+".pem"), filepath.Join(f.certs, name+".key"))
	if err != nil {
		f.t.Fatal(err)
	}
	return &c
}

func (f *front) authority() *tls.Certificate { return f.load("client_ca") }

// issue makes a client's certificate, by an authority or, without one, by itself.
func (f *front) issue(by *tls.Certificate, until time.Time) *tls.Certificate {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotBefore: until.Add(-time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		f.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (f *front) client(name string) *http.Client { return f.with(f.load(name)) }

// with is a client that has a certificate, and believes the front's.
func (f *front) with(c *tls.Certificate) *http.Client {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.certs, "server.pem"))
	if err != nil {
		f.t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		f.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	config := &tls.Config{RootCAs: roots}
	if c != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableKeepAlives: true}, Timeout: 20 * time.Second}
}

// ask returns the status of an answer, 0 for none, and its body.
func (f *front) ask(c *http.Client, method, url string, body []byte) (int, []byte) {
	f.t.Helper()
	request, err := http.NewRequestWithContext(f.t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return -1, nil
	}
	return response.StatusCode, answer
}

// A client that is revoked is refused within the look interval, and others, with what
// they have under way, notice nothing. So it is with another certificate of the front.
func TestHostingRevokedClient(t *testing.T) {
	g := hostGuide(t, "nginx")
	g.sold("-t Sale")
	g.stored("Sale", "cust", g.path("DB/ovsa.db"))
	certs := g.path("Modelserver")
	gencerts := func(says string, args ...string) {
		t.Helper()
		if code, out := g.ovsaruntime(append([]string{"gencerts", "-certs", certs}, args...)...); code != 0 || !strings.Contains(out, says) {
			t.Fatalf("gencerts %s: exit %d\n%s", args, code, out)
		}
	}
	for _, client := range []string{"alice", "bob"} {
		gencerts("made ", "-client", client)
	}
	r := g.prepare("model", "Sale.lic")
	f := r.front(certs, "-max-per-client", "2")
	r.start()
	t.Cleanup(r.end)
	r.until("ready")
	alice, older, bob := f.client("alice"), f.load("alice"), f.client("bob")
	get := func(c *http.Client) int {
		code, _ := f.ask(c, http.MethodGet, f.rest+"/controlled-access-model/1/face.xml", nil)
		return code
	}
	if a, b := get(alice), get(bob); a != 200 || b != 200 {
		t.Fatalf("before: %d, %d", a, b)
	}
	kept := f.client("alice") // goes on with the connection that it has
	kept.Transport.(*http.Transport).DisableKeepAlives = false
	if code := get(kept); code != 200 {
		t.Fatalf("before: %d", code)
	}
	gencerts("made server.pem, alice.pem", "-renew", "-client", "alice")
	renewed := f.client("alice")

	// Bob's request goes on while the front takes other files.
	body, write := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.rest+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	request.ContentLength = 6
	type answer struct {
		code int
		err  error
	}
	answered := make(chan answer, 1)
	// Whether it is sent to the front's old certificate or to its new one.
	long := &http.Client{Transport: f.client("bob").Transport}
	long.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
	go func() {
		response, err := long.Do(request)
		if err != nil {
			answered <- answer{0, err}
			return
		}
		response.Body.Close()
		answered <- answer{response.StatusCode, nil}
	}()
	io.WriteString(write, "abc")

	gencerts("revoked 2 of alice's certificates", "-revoke", "alice")
	if err := r.process.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); get(f.client("bob")) != 200 || get(renewed) == 200; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("alice gets %d, bob %d: %s", get(renewed), get(f.client("bob")), r.log)
		}
	}
	for name, c := range map[string]*http.Client{"her first certificate": f.with(older), "her second": f.client("alice")} {
		for _, at := range []string{f.rest, f.grpc} {
			if code, body := f.ask(c, http.MethodGet, at+"/controlled-access-model/1/face.xml", nil); code == 200 || strings.Contains(string(body), "<net/>") {
				t.Errorf("alice is revoked, and gets with %s: %d, %s", name, code, body)
			}
		}
	}
	if code := get(kept); code == 200 {
		t.Error("alice is revoked, and gets what she wants on the connection that she had")
	}
	io.WriteString(write, "def")
	write.Close()
	if a := <-answered; a.code != 200 {
		t.Errorf("bob's request over a reload: %+v", a)
	}
	if s := r.status(); s.Engine.Started != 1 {
		t.Errorf("the engine was started %d times", s.Engine.Started)
	}
	r.measures("ovsaruntime_front_up 1", "ovsaruntime_front_reloads_total{result=\"failed\"} 0")

	// Whoever was revoked gets a new certificate, when somebody makes one.
	gencerts("made alice.pem", "-client", "alice")
	if code := get(f.client("alice")); code != 200 {
		t.Errorf("with a new certificate: %d", code)
	}

	// What nginx does not take is said, and what was there goes on.
	crl := filepath.Join(certs, "client.crl")
	good, err := os.ReadFile(crl)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(crl, []byte("no list"), 0o644); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(r.log.String(), "the front's certificates are refused: what was in use stays"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is not refused: %s", r.log)
		}
	}
	if a, b := get(renewed), get(f.client("bob")); a == 200 || b != 200 {
		t.Errorf("with a bad list alice gets %d, bob %d", a, b)
	}
	if err := os.WriteFile(crl, good, 0o644); err != nil {
		t.Fatal(err)
	}

	// One client's requests are limited, and the others' not.
	var holders sync.WaitGroup
	defer holders.Wait()
	holding, stop := context.WithCancel(t.Context())
	defer stop()
	for range 2 {
		holders.Go(func() {
			for holding.Err() == nil { // a reload may end one
				f.hold(holding, "bob")
			}
		})
	}
	for end := time.Now().Add(20 * time.Second); get(f.client("bob")) != http.StatusTooManyRequests; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("a client's third request at the same time: %d", get(f.client("bob")))
		}
	}
	if code := get(f.client("alice")); code != 200 {
		t.Errorf("another client: %d", code)
	}
	stop()
}
