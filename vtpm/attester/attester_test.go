package attester_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vtpm/attester"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

var request = quote.HostRequest{Version: 1, Nonce: bytes.Repeat([]byte{7}, 32), AK: append([]byte{0, 0x0b}, make([]byte, 32)...)}

// host says which VM it was asked about.
type host struct {
	mu    sync.Mutex
	asked []string
	err   error
}

func (h *host) Attest(_ context.Context, uuid string, r quote.HostRequest) (quote.HostQuote, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, uuid)
	return quote.HostQuote{Attest: []byte(uuid), Signature: r.AK, PCRs: []quote.PCR{}}, h.err
}

// TestMain makes this program other processes, too: a stranger, who asks with the
// words that it is given, and a parent, who connects and leaves that to a child.
func TestMain(m *testing.M) {
	switch path := os.Getenv("OVSA_SOCKET"); os.Getenv("OVSA_ROLE") {
	case "stranger":
		c, err := net.Dial("unix", path)
		if err != nil {
			panic(err)
		}
		say(c)
	case "parent":
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			panic(err)
		}
		f, err := c.File()
		if err != nil {
			panic(err)
		}
		time.Sleep(500 * time.Millisecond) // until the service has accepted
		child := exec.Command("/proc/self/exe")
		child.Env = []string{"OVSA_ROLE=child", "OVSA_PARENT=" + strconv.Itoa(os.Getpid())}
		child.Stdin, child.Stdout, child.ExtraFiles = os.Stdin, os.Stdout, []*os.File{f}
		if err := child.Start(); err != nil {
			panic(err)
		}
	case "child":
		for strconv.Itoa(os.Getppid()) == os.Getenv("OVSA_PARENT") {
			time.Sleep(10 * time.Millisecond)
		}
		c, err := net.FileConn(os.NewFile(3, "connection"))
		if err != nil {
			panic(err)
		}
		say(c)
	default:
		os.Exit(m.Run())
	}
}

// say says what is on standard input, and prints what is said to that.
func say(c net.Conn) {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	words, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	c.Write(words) // nobody may be there
	answer := make([]byte, 1000)
	n, err := c.Read(answer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		panic(err)
	}
	os.Stdout.Write(answer[:n])
}

// another runs another process and returns what that hears.
func another(t *testing.T, role, path string, words []byte) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"OVSA_ROLE=" + role, "OVSA_SOCKET=" + path}
	cmd.Stdin, cmd.Stderr = bytes.NewReader(words), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// serve starts a service and returns the path of its socket.
func serve(t *testing.T, h attester.Host, vm func(pid int) (string, error)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovsa") //nolint:usetesting // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s := attester.Service{Host: h, VM: vm, Log: slog.New(slog.DiscardHandler)}
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return path
}

// conn is a connection with a deadline.
func conn(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func line(t *testing.T, r quote.HostRequest) []byte {
	t.Helper()
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

// closed says that the service ends the connection and says nothing.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v: want the end of the connection", n, err)
	}
}

// The machine is the one whose process is at the other end, whatever is said.
func TestWhoAsksFollowsFromTheProcess(t *testing.T) {
	h := &host{}
	path := serve(t, h, func(pid int) (string, error) {
		if pid != os.Getpid() {
			return "", fmt.Errorf("process %d is a stranger", pid)
		}
		return "ours", nil
	})
	q, err := guest.Port("unix:"+path).Attest(t.Context(), request)
	if err != nil || string(q.Attest) != "ours" {
		t.Errorf("%+v, %v", q, err)
	}
	// Another process, with the very same words.
	if heard := another(t, "stranger", path, line(t, request)); heard != "" {
		t.Errorf("a stranger hears %q", heard)
	}
	another(t, "stranger", path, nil) // one that says nothing is not waited for
	if h.mu.Lock(); len(h.asked) != 1 {
		t.Errorf("the host was asked for %q", h.asked)
	}
	h.mu.Unlock()
}

// QEMU connects before libvirt has written down which machine it is.
func TestMachineThatIsNotKnownYet(t *testing.T) {
	var known atomic.Bool
	path := serve(t, &host{}, func(int) (string, error) {
		if !known.Load() {
			return "", fmt.Errorf("no record: %w", fs.ErrNotExist)
		}
		return "ours", nil
	})
	c := conn(t, path)
	known.Store(true)
	if _, err := c.Write(line(t, request)); err != nil {
		t.Fatal(err)
	}
	if answer, err := bufio.NewReader(c).ReadBytes('\n'); err != nil || !bytes.Contains(answer, []byte(`"quote"`)) {
		t.Errorf("%s, %v", answer, err)
	}
	known.Store(false)
	c = conn(t, path)
	if _, err := c.Write(line(t, request)); err != nil {
		t.Fatal(err)
	}
	closed(t, c)
}

// A process that has ended is nobody, even where another has its id since: a
// descriptor that it left to a child asks in vain.
func TestProcessThatEnded(t *testing.T) {
	h := &host{}
	path := serve(t, h, func(int) (string, error) { return "ours", nil })
	if heard := another(t, "parent", path, line(t, request)); heard != "" {
		t.Errorf("it hears %q", heard)
	}
	if h.mu.Lock(); len(h.asked) != 0 {
		t.Errorf("the host was asked for %q", h.asked)
	}
	h.mu.Unlock()
}

// What is no request is told so, and a torn one takes nothing with it.
func TestTornRequests(t *testing.T) {
	path := serve(t, &host{}, func(int) (string, error) { return "ours", nil })
	c := conn(t, path)
	r := bufio.NewReader(c)
	for _, step := range []struct{ say, want string }{
		{"\n\n{\"version\":1,\"no\n", `"problem":"bad_request"`},
		{"\n" + string(line(t, request)), `"quote"`},
	} {
		if _, err := c.Write([]byte(step.say)); err != nil {
			t.Fatal(err)
		}
		if answer, err := r.ReadString('\n'); err != nil || !strings.Contains(answer, step.want) {
			t.Errorf("%q: %s, %v", step.say, answer, err)
		}
	}
	if _, err := c.Write(bytes.Repeat([]byte{'x'}, quote.MaxHostRequest+2)); err != nil {
		t.Fatal(err)
	}
	closed(t, c)
}

// A guest may ask so often, over whatever connection, and another guest is not in
// its way.
func TestGuestThatAsksTooOften(t *testing.T) {
	var vm atomic.Value
	vm.Store("greedy")
	h := &host{}
	path := serve(t, h, func(int) (string, error) { return vm.Load().(string), nil })
	ask := func() string {
		c := conn(t, path)
		defer c.Close()
		if _, err := c.Write(line(t, request)); err != nil {
			t.Fatal(err)
		}
		answer, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	refused := 0
	for range 100 {
		if strings.Contains(ask(), `"problem":"slow_down"`) {
			refused++
		}
	}
	if refused < 50 {
		t.Errorf("%d of 100 were refused", refused)
	}
	vm.Store("modest")
	if answer := ask(); !strings.Contains(answer, `"quote"`) {
		t.Errorf("another guest: %s", answer)
	}
}

// One process holds a few connections, not all.
func TestManyConnectionsOfOneProcess(t *testing.T) {
	path := serve(t, &host{}, func(int) (string, error) { return "ours", nil })
	for range 4 {
		c := conn(t, path)
		if _, err := c.Write([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, conn(t, path))
}

// Why a host does not quote is in its log, not in the answer.
func TestHostThatCannotQuote(t *testing.T) {
	path := serve(t, &host{err: errors.New("the TPM is on fire")}, func(int) (string, error) { return "ours", nil })
	_, err := guest.Port("unix:"+path).Attest(t.Context(), request)
	if !errors.Is(err, guest.ErrHostRefused) || strings.Contains(err.Error(), "fire") {
		t.Error(err)
	}
}
