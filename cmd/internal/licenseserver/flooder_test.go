package licenseserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/ovsactl/ovsactl/licensing/exchange"
)

// Flooded is how much a flood came to since it began.
type Flooded struct {
	Made     int64 `json:"made"`     // connections
	Open     int64 `json:"open"`     // of these, now
	Asked    int64 `json:"asked"`    // requests that were sent
	Answered int64 `json:"answered"` // of these
}

// flooder is a program that strangers run against a server, until it is killed: slow
// connections, which it makes again when they are cut off, and requests that are
// rubbish. Each tenth of a second it says in a line of JSON what came of it.
type flooder struct {
	address string
	sources []netip.Addr

	made, open, asked, answered atomic.Int64
}

const (
	askers    = 200             // which connect again as often in a second, all of them together
	drip      = 4 * time.Second // between two bytes of a slow connection
	impatient = 20 * time.Second
)

func floodMain() {
	var f flooder
	flag.StringVar(&f.address, "address", "", "the server's")
	from := flag.String("from", "", "addresses: a format for the two bytes of a number")
	count := flag.Int("addresses", 1, "how many")
	slow := flag.Int("slow", 0, "slow connections")
	again := flag.Float64("again", 0, "how many are made in a second, once all were")
	requests := flag.Float64("requests", 0, "rubbish requests in a second")
	flag.Parse()
	for i := range *count {
		f.sources = append(f.sources, netip.MustParseAddr(fmt.Sprintf(*from, i>>8, i&255)))
	}
	ask, connect, hold := rate.NewLimiter(rate.Limit(*requests), 100), rate.NewLimiter(askers, 1), rate.NewLimiter(rate.Limit(*again), *slow)
	idle := f.sources // who asks is not who is slow, where there are so many
	if *count > askers {
		idle = idle[askers:]
	}
	for i := range askers {
		go f.ask(i, f.sources[i%*count], connect, ask)
	}
	for i := range *slow {
		go f.slow(i, idle[i%len(idle)], hold)
	}
	for out := json.NewEncoder(os.Stdout); ; time.Sleep(100 * time.Millisecond) {
		if out.Encode(Flooded{f.made.Load(), f.open.Load(), f.asked.Load(), f.answered.Load()}) != nil {
			return
		}
	}
}

// dial connects from an address, when it is time to.
func (f *flooder) dial(from netip.Addr, pace *rate.Limiter) (net.Conn, error) {
	if err := pace.Wait(context.Background()); err != nil {
		return nil, err
	}
	local := net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	conn, err := (&net.Dialer{LocalAddr: local, Timeout: impatient}).Dial("tcp", f.address)
	if err == nil {
		f.made.Add(1)
	}
	return conn, err
}

var stranger = &tls.Config{InsecureSkipVerify: true}

// slow is a connection that stays for as long as the server lets it, again and again:
// one on which nothing comes, or a handshake, a header or a body that never ends.
func (f *flooder) slow(n int, from netip.Addr, pace *rate.Limiter) {
	for {
		conn, err := f.dial(from, pace)
		if err != nil {
			continue
		}
		f.open.Add(1)
		f.hold(conn, n%4)
		f.open.Add(-1)
	}
}

func (f *flooder) hold(conn net.Conn, kind int) {
	defer func() { conn.Close() }()
	var rest io.Writer
	switch kind {
	case 1: // a record of 512 bytes, a handshake's, is to come (RFC 8446, 5.1)
		rest = conn
		conn.Write([]byte{22, 3, 1, 2, 0})
	case 2, 3:
		t := tls.Client(conn, stranger)
		t.SetDeadline(time.Now().Add(impatient))
		if t.Handshake() != nil {
			return
		}
		t.SetDeadline(time.Time{})
		conn, rest = t, t
		head := "POST " + exchange.PathRenew + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
		if kind == 3 {
			head += "\r\n{"
		}
		io.WriteString(t, head)
	}
	cut := make(chan struct{})
	go func() {
		io.Copy(io.Discard, conn)
		close(cut)
	}()
	for {
		select {
		case <-cut:
			return
		case <-time.After(drip):
		}
		if rest != nil {
			if _, err := io.WriteString(rest, "x"); err != nil {
				return
			}
		}
	}
}

// rubbish is what is asked for in turn.
var rubbish = []struct{ path, body string }{
	{exchange.PathRenew, `{"lease":"` + strings.Repeat("0a", 16) + `","guest":"000b` + strings.Repeat("00", 32) + `","mac":"` + strings.Repeat("A", 43) + `="}`},
	{exchange.PathRenew, "{"},
	{exchange.PathBegin, strings.Repeat("\x00\xff", 1000)},
	{exchange.PathFinish, `{"id":1}`},
	{exchange.PathEnd, ""},
	{"/", "x"},
}

// ask asks for rubbish on a connection, and on another one when that is cut off.
func (f *flooder) ask(n int, from netip.Addr, connect, pace *rate.Limiter) {
	for {
		raw, err := f.dial(from, connect)
		if err != nil {
			continue
		}
		conn := tls.Client(raw, stranger)
		in := bufio.NewReader(conn)
		for i := n; ; i++ {
			if pace.Wait(context.Background()) != nil {
				break
			}
			what := rubbish[i%len(rubbish)]
			conn.SetDeadline(time.Now().Add(impatient))
			f.asked.Add(1)
			if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", what.path, len(what.body), what.body); err != nil {
				break
			}
			rsp, err := http.ReadResponse(in, nil)
			if err != nil {
				break
			}
			if _, err := io.Copy(io.Discard, rsp.Body); err != nil || rsp.Close {
				f.answered.Add(1)
				break
			}
			f.answered.Add(1)
		}
		conn.Close()
	}
}
