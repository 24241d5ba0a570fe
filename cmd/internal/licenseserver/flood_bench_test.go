package licenseserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/cmd/internal/licenseserver"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/vtpm/guest"
)

// What strangers do, and what an honest guest does meanwhile.
const (
	slowConnections  = 10_000
	rubbishPerSecond = 5000
	renewals         = 400
	renewEvery       = 25 * time.Millisecond // at the most: 40 a second, below what a client may
	renewWithin      = 10 * time.Second      // with as many attempts as a guest makes
	settled          = 10 * time.Second      // after the flood's beginning
)

// BenchmarkFlood is the renewals of one honest guest while strangers flood the
// server's process, from one client's addresses and from those of thousands, and
// while nobody does. The guest goes on with the connection that it has, or begins
// another for each renewal, as one does whose connection was lost.
//
// All of it is in a network of its own, whose loopback has every address. The server
// has its defaults.
func BenchmarkFlood(b *testing.B) {
	need.Root(b)
	ip := need.Program(b, "ip")
	g := newGuide(b)
	g.sold("-t Sale")
	g.stored("Sale", "cust", g.path("DB/ovsa.db"))
	g.stopServer()
	network := newNetwork(b, ip)

	for _, f := range []struct {
		name, honest, server string
		from                 string // a format for addresses, none for no flood
		addresses            int
		again                int // slow connections that are made in a second, in the place of those that were cut off
	}{
		{"none-IPv4", "127.0.0.2", "127.0.0.1", "", 0, 0},
		{"one-IPv4", "127.0.0.2", "127.0.0.1", "127.66.%[1]d.1", 1, 500},
		{"many-IPv4", "127.0.0.2", "127.0.0.1", "127.66.%d.%d", 5000, 100},
		{"busy-IPv4", "127.0.0.2", "127.0.0.1", "127.66.%d.%d", 5000, 500},
		{"none-IPv6", "fd00::2", "fd00::1", "", 0, 0},
		{"one-IPv6", "fd00::2", "fd00::1", "fd66::%x:%x", 5000, 500},
		{"many-IPv6", "fd00::2", "fd00::1", "fd66:%x:%x::1", 5000, 100},
		{"busy-IPv6", "fd00::2", "fd00::1", "fd66:%x:%x::1", 5000, 500},
	} {
		b.Run("from="+f.name, func(b *testing.B) {
			_, port, err := net.SplitHostPort(g.address)
			if err != nil {
				b.Fatal(err)
			}
			network.serve(b, g, port)
			address := net.JoinHostPort(f.server, port)
			way := network.way(b, f.honest, address)
			lease := g.lease(b, way.address)
			flood := func() licenseserver.Flooded { return licenseserver.Flooded{} }
			if f.from != "" {
				flood = network.flood(b, "-address", address, "-from", f.from, "-addresses", fmt.Sprint(f.addresses), "-again", fmt.Sprint(f.again))
			}
			b.Run("connection=kept", func(b *testing.B) { honest(b, lease, func() {}, flood) })
			b.Run("connection=new", func(b *testing.B) { honest(b, lease, way.cut, flood) })
		})
	}
}

// honest renews a lease, and reports how that went and what the flood came to.
func honest(b *testing.B, lease *client.Lease, before func(), flood func() licenseserver.Flooded) {
	begin := time.Now()
	var took []time.Duration
	start, atOnce := flood(), 0
	for range renewals {
		before()
		began := time.Now()
		ctx, cancel := context.WithTimeout(b.Context(), renewWithin)
		err := lease.Renew(ctx)
		if err == nil {
			atOnce++
		}
		for pause := 250 * time.Millisecond; err != nil && ctx.Err() == nil; pause *= 2 { // as client.Keep waits, at the least
			b.Log(err)
			time.Sleep(pause)
			err = lease.Renew(ctx)
		}
		cancel()
		if err == nil {
			took = append(took, time.Since(began))
		}
		time.Sleep(time.Until(began.Add(renewEvery)))
	}
	last, seconds := flood(), time.Since(begin).Seconds()
	b.ReportMetric(renewals, "renewals")
	b.ReportMetric(float64(len(took)), "through")
	b.ReportMetric(float64(atOnce), "first")
	if len(took) > 0 {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	}
	b.ReportMetric(float64(last.Answered-start.Answered)/seconds, "rubbish/s")
	b.ReportMetric(float64(last.Made-start.Made)/seconds, "connects/s")
	b.ReportMetric(float64(last.Open), "slow")
}

// lease is one that was proven for over an address.
func (g *guide) lease(b *testing.B, address string) *client.Lease {
	b.Helper()
	licence, customer := g.bought("Sale.lic")
	licence.Servers = slices.Clone(licence.Servers)
	licence.Servers[0].Address = address
	tpm, err := guest.Open(b.Context(), g.runtime)
	if err != nil {
		b.Fatal(err)
	}
	defer tpm.Close()
	lease, err := client.Acquire(b.Context(), licence, customer, client.Options{TPM: tpm, Host: g.port(g.guestVM)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(lease.Close)
	return lease
}

// network is a network namespace in which all addresses are this machine's. It ends
// with this process.
type network struct{ file *os.File }

func newNetwork(b *testing.B, ip string) *network {
	b.Helper()
	n := new(network)
	apart(b, func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		for _, line := range []string{"link set lo up", "-6 route add local fd00::/8 dev lo"} {
			if out, err := exec.CommandContext(b.Context(), ip, strings.Fields(line)...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %s: %w: %s", line, err, out)
			}
		}
		for name, value := range map[string]string{"ipv6/ip_nonlocal_bind": "1", "ipv4/ip_local_port_range": "1024 65535"} {
			if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	b.Cleanup(func() { n.file.Close() })
	return n
}

// apart does something on a thread of its own, which ends with it: what it did to
// itself stays with the processes that it started and the sockets that it made.
func apart(b *testing.B, do func() error) {
	b.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- do()
	}()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func (n *network) inside(b *testing.B, do func() error) {
	b.Helper()
	apart(b, func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return do()
	})
}

// serve starts the server's process, which ends with the benchmark. Its log is a
// file, as with systemd.
func (n *network) serve(b *testing.B, g *guide, port string) {
	b.Helper()
	log, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Args = []string{"license_server", "serve", "-dir", g.path("certs"), "-db", g.path("DB/ovsa.db"), "-listen", ":" + port, "-ops", "off"}
	cmd.Stderr = log
	n.start(b, cmd)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			b.Fatal(err)
		}
		if strings.Contains(string(text), `"msg":"serving"`) {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("the server does not serve: %s", text)
		}
	}
}

func (n *network) start(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	n.inside(b, cmd.Start)
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// flood lets strangers loose, until the benchmark ends, waits until they have made
// as many connections as they want to have, and returns what says how much it is.
func (n *network) flood(b *testing.B, args ...string) func() licenseserver.Flooded {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Args = append([]string{"flood", "-slow", fmt.Sprint(slowConnections), "-requests", fmt.Sprint(rubbishPerSecond)}, args...)
	said, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	n.start(b, cmd)
	var last atomic.Pointer[licenseserver.Flooded]
	last.Store(new(licenseserver.Flooded))
	go func() {
		for dec := json.NewDecoder(said); ; {
			now := new(licenseserver.Flooded)
			if dec.Decode(now) != nil {
				return
			}
			last.Store(now)
		}
	}()
	for end := time.Now().Add(time.Minute); last.Load().Made < slowConnections; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("that is no flood: %+v", *last.Load())
		}
	}
	time.Sleep(settled)
	return func() licenseserver.Flooded { return *last.Load() }
}

// way is how the honest guest's connections go from here into a network. It can cut
// them.
type way struct {
	address string

	mu   sync.Mutex
	open []net.Conn
}

// way leads from a loopback address of this process to a server, where it arrives
// from an address.
func (n *network) way(b *testing.B, from, server string) *way {
	b.Helper()
	l, err := net.Listen("tcp", licensetest.FreeAddress(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	w := &way{address: l.Addr().String()}
	b.Cleanup(w.cut)
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)), Timeout: renewWithin}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			var far net.Conn
			n.inside(b, func() (err error) {
				if far, err = dialer.Dial("tcp", server); err != nil {
					near.Close() // the guest's to try again
				}
				return nil
			})
			if far == nil {
				continue
			}
			w.mu.Lock()
			w.open = append(w.open, near, far)
			w.mu.Unlock()
			for from, to := range map[net.Conn]net.Conn{near: far, far: near} {
				go func() {
					io.Copy(to, from)
					to.Close()
				}()
			}
		}
	}()
	return w
}

// cut closes all connections.
func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range w.open {
		conn.Close()
	}
	w.open = nil
}
