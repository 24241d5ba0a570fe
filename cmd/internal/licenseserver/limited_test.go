package licenseserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ovsactl/ovsactl/licensing/exchange"
)

// arrivals is a listener at which connections arrive from addresses.
type arrivals []*arrival

type arrival struct {
	net.Conn
	from   string
	closed bool
}

func (a *arrivals) Accept() (net.Conn, error) {
	if len(*a) == 0 {
		return nil, io.EOF
	}
	next := (*a)[0]
	*a = (*a)[1:]
	return next, nil
}
func (a *arrivals) Close() error        { return nil }
func (a *arrivals) Addr() net.Addr      { return nil }
func (a *arrival) RemoteAddr() net.Addr { return address(a.from) }
func (a *arrival) Close() error         { a.closed = true; return nil }

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

// TestCrowds has connections arrive at a listener with room for four, three of
// each client. A name is a client's letter and a number; + proves one, - closes one.
func TestCrowds(t *testing.T) {
	for _, tt := range []struct{ what, happens, stay string }{
		{"room for all", "a1 b1 a2 c1", "a1 b1 a2 c1"},
		{"a client has its share", "a1 a2 a3 a4 b1", "a1 a2 a3 b1"},
		{"the oldest goes", "a1 b1 c1 d1 e1", "b1 c1 d1 e1"},
		{"and the next oldest", "a1 b1 c1 d1 e1 f1", "c1 d1 e1 f1"},
		{"the oldest of whoever has most", "a1 b1 b2 c1 d1", "a1 b2 c1 d1"},
		{"one's own, if one has as many as anybody", "a1 a2 b1 b2 a3", "a2 b1 b2 a3"},
		{"not those that are known", "a1 +a1 b1 +b1 c1 d1 e1", "a1 b1 d1 e1"},
		{"known ones do not count", "a1 a2 +a1 +a2 b1 c1 d1", "a1 a2 c1 d1"},
		{"nobody goes for a stranger if all are known", "a1 +a1 b1 +b1 c1 +c1 d1 +d1 e1", "a1 b1 c1 d1"},
		{"room again", "a1 b1 c1 d1 -b1 e1", "a1 c1 d1 e1"},
		{"a share again", "a1 a2 a3 -a1 a4", "a2 a3 a4"},
		{"who was pushed out is closed by its server, too", "a1 b1 c1 d1 e1 -a1 f1", "c1 d1 e1 f1"},
		{"and was known before", "a1 b1 c1 d1 e1 +a1 f1", "c1 d1 e1 f1"},
		{"known and closed", "a1 +a1 -a1 b1 c1 d1 e1", "b1 c1 d1 e1"},
		// Once more, since of those who have as many any may be looked at first.
		{"one's own", "a1 a2 b1 b2 a3", "a2 b1 b2 a3"}, {"one's own", "a1 a2 b1 b2 b3", "a1 a2 b2 b3"},
		{"one's own", "a1 a2 b1 b2 a3", "a2 b1 b2 a3"}, {"one's own", "a1 a2 b1 b2 b3", "a1 a2 b2 b3"},
		{"one's own", "a1 a2 b1 b2 a3", "a2 b1 b2 a3"}, {"one's own", "a1 a2 b1 b2 b3", "a1 a2 b2 b3"},
		{"one's own", "a1 a2 b1 b2 a3", "a2 b1 b2 a3"}, {"one's own", "a1 a2 b1 b2 b3", "a1 a2 b2 b3"},
	} {
		waiting := &arrivals{}
		turned := prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})
		l := newLimited(waiting, 4, 3, turned)
		all, taken := map[string]*arrival{}, map[string]*limitedConn{}
		for _, word := range strings.Fields(tt.happens) {
			switch name := strings.TrimLeft(word, "+-"); word[0] {
			case '+':
				taken[name].prove()
			case '-':
				taken[name].Close()
			default:
				all[name] = &arrival{from: fmt.Sprintf("192.0.2.%d:%s", name[0], name[1:])}
				*waiting = arrivals{all[name]}
				conn, err := l.Accept()
				if err == nil {
					taken[name] = conn.(*limitedConn)
				} else if !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
		}
		var stay []string
		for _, word := range strings.Fields(tt.happens) {
			if a, ok := all[word]; ok && !a.closed {
				stay = append(stay, word)
			}
		}
		if got := strings.Join(stay, " "); got != tt.stay {
			t.Errorf("%s: %s stay, want %s", tt.what, got, tt.stay)
		}
		for _, conn := range taken {
			conn.Close()
		}
		if l.open != 0 || len(l.of) != 0 || l.top != 0 || l.strangers.Len() != 0 {
			t.Errorf("%s: when all have gone, %d are counted, of %d clients", tt.what, l.open, len(l.of))
		}
	}
}

// TestCrowdsAddUp: whatever happens, what is counted is what there is.
func TestCrowdsAddUp(t *testing.T) {
	waiting := &arrivals{}
	l := newLimited(waiting, 20, 4, prometheus.NewCounter(prometheus.CounterOpts{Name: "x"}))
	var open []*limitedConn
	for range 20_000 {
		switch n := rand.IntN(10); {
		case n < 5:
			*waiting = arrivals{{from: fmt.Sprintf("192.0.2.%d:1", rand.IntN(12))}}
			if conn, err := l.Accept(); err == nil {
				open = append(open, conn.(*limitedConn))
			}
		case len(open) == 0:
		case n < 7:
			open[rand.IntN(len(open))].prove()
		default:
			i := rand.IntN(len(open))
			open[i].Close()
			open = append(open[:i], open[i+1:]...)
		}
		alive, strangers, of := 0, 0, map[*crowd]int{}
		for _, conn := range open {
			if !conn.Conn.(*arrival).closed {
				alive++
				of[conn.c]++
				if conn.all != nil {
					strangers++
				}
			}
		}
		if alive != l.open || alive > 20 || strangers != l.strangers.Len() || len(of) != len(l.of) {
			t.Fatalf("%d connections of %d clients, %d of them strangers; counted are %d of %d, %d", alive, len(of), strangers, l.open, len(l.of), l.strangers.Len())
		}
		for c, n := range of {
			if c.open != n || n > 4 || c.strangers.Len() > l.top {
				t.Fatalf("%d of %s, counted are %d", n, c.from, c.open)
			}
		}
	}
}

// TestWhatProves: a proof that was accepted, and a renewal, and nothing else.
func TestWhatProves(t *testing.T) {
	for _, tt := range []struct {
		path   string
		code   int
		proves bool
	}{
		{exchange.PathFinish, 200, true}, {exchange.PathRenew, 200, true},
		{exchange.PathBegin, 200, false}, {exchange.PathEnd, 200, false}, {"/", 200, false},
		{exchange.PathFinish, 403, false}, {exchange.PathRenew, 429, false},
	} {
		waiting := &arrivals{{from: "192.0.2.1:1"}}
		l := newLimited(waiting, 4, 2, prometheus.NewCounter(prometheus.CounterOpts{Name: "x"}))
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(withConn(t.Context(), conn), http.MethodPost, tt.path, nil)
		proving(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tt.code != 200 {
				w.WriteHeader(tt.code)
			}
			w.Write([]byte("x"))
		})).ServeHTTP(httptest.NewRecorder(), r)
		if proven := l.strangers.Len() == 0; proven != tt.proves {
			t.Errorf("%s answered with %d: proven is %v", tt.path, tt.code, proven)
		}
	}
}

// TestAFloodOfConnections: however many strangers connect and send nothing, whoever
// has something to say gets in.
func TestAFloodOfConnections(t *testing.T) {
	r := start(t, "-max-connections", "512", "-max-per-client", "8")
	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	var came atomic.Int64
	for i := range 4 {
		flood.Go(func() {
			var open []net.Conn
			defer func() {
				for _, conn := range open {
					conn.Close()
				}
			}()
			for n := 0; ctx.Err() == nil; n++ {
				from := &net.TCPAddr{IP: net.IPv4(127, byte(i+1), byte(n>>8), byte(n))}
				conn, err := (&net.Dialer{LocalAddr: from}).DialContext(ctx, "tcp", r.address)
				if err != nil {
					continue
				}
				came.Add(1)
				if len(open) < 200 { // of each, and that is more than there is room for
					open = append(open, conn)
				} else {
					defer conn.Close()
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	waitFor(t, "there are more than the server takes", func() bool { return came.Load() > 1000 })
	failed := 0
	for range 50 {
		client := r.client()
		if code, _, err := fetch(client, "https://"+r.address+"/healthz"); err != nil || code != 200 {
			failed++
		}
		client.CloseIdleConnections()
	}
	stop()
	flood.Wait()
	t.Logf("%d connections of strangers", came.Load())
	if failed > 5 { // whoever takes longer than strangers take to fill the server again
		t.Errorf("%d of 50 did not get in", failed)
	}
}
