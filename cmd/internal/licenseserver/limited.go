package licenseserver

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ovsactl/ovsactl/internal/netclient"
	"github.com/ovsactl/ovsactl/licensing/exchange"
)

// limited is a listener with a limit of connections. Where there is no room for
// another, one of those goes on which nobody has proven anything yet: the oldest of
// the client that has most of them. So strangers push each other out, guests that
// are known stay, and whoever has just come has time to say what he wants. A client
// that has its share gets no more.
type limited struct {
	net.Listener
	total, perClient int
	turnedAway       prometheus.Counter

	mu        sync.Mutex
	open      int
	of        map[netip.Prefix]*crowd
	strangers list.List             // *limitedConn, the oldest first
	levels    []map[*crowd]struct{} // by how many strangers each has
	top       int                   // the highest level that has one
}

// crowd is the connections of one client.
type crowd struct {
	from      netip.Prefix
	open      int
	strangers list.List // *limitedConn, the oldest first
}

type limitedConn struct {
	net.Conn
	l       *limited
	c       *crowd
	release func()
	all, of *list.Element // in the lists of strangers; nil when it is none any more
}

func newLimited(l net.Listener, total, perClient int, turnedAway prometheus.Counter) *limited {
	return &limited{Listener: l, total: total, perClient: perClient, turnedAway: turnedAway, of: map[netip.Prefix]*crowd{}}
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		taken, goes := l.take(conn)
		if goes != nil {
			l.turnedAway.Inc()
			goes.Close()
		}
		if taken != nil {
			return taken, nil
		}
	}
}

// take counts a connection, and returns the one that has to go for it: it itself,
// when it is not taken.
func (l *limited) take(conn net.Conn) (taken *limitedConn, goes net.Conn) {
	from := netclient.Of(conn.RemoteAddr().String())
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.of[from]
	if c == nil {
		c = &crowd{from: from}
	}
	if c.open >= l.perClient {
		return nil, conn
	}
	if l.open >= l.total {
		victim := l.victim(c)
		if victim == nil {
			return nil, conn
		}
		victim.release = sync.OnceFunc(func() {}) // it is no longer counted
		l.forget(victim)
		goes = victim.Conn
	}
	taken = &limitedConn{Conn: conn, l: l, c: c}
	taken.release = sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.forget(taken)
	})
	l.of[from] = c
	l.open++
	c.open++
	l.level(c, +1, func() {
		taken.all, taken.of = l.strangers.PushBack(taken), c.strangers.PushBack(taken)
	})
	return taken, goes
}

// victim is the connection that goes for one of c's.
func (l *limited) victim(c *crowd) *limitedConn {
	var front *list.Element
	switch {
	case l.top == 0:
		return nil
	case l.top == 1:
		front = l.strangers.Front()
	case c.strangers.Len() == l.top:
		front = c.strangers.Front()
	default:
		for heaviest := range l.levels[l.top] {
			front = heaviest.strangers.Front()
			break
		}
	}
	return front.Value.(*limitedConn)
}

// forget counts a connection no longer.
func (l *limited) forget(conn *limitedConn) {
	l.known(conn)
	l.open--
	if conn.c.open--; conn.c.open == 0 {
		delete(l.of, conn.c.from)
	}
}

// known takes a connection out of the strangers.
func (l *limited) known(conn *limitedConn) {
	if conn.all == nil {
		return
	}
	l.level(conn.c, -1, func() {
		l.strangers.Remove(conn.all)
		conn.c.strangers.Remove(conn.of)
	})
	conn.all, conn.of = nil, nil
}

// level moves a crowd to where it belongs when a change has it one stranger more or
// less.
func (l *limited) level(c *crowd, by int, change func()) {
	n := c.strangers.Len()
	if n > 0 {
		delete(l.levels[n], c)
	}
	change()
	if n += by; n > 0 {
		for len(l.levels) <= n {
			l.levels = append(l.levels, map[*crowd]struct{}{})
		}
		l.levels[n][c] = struct{}{}
	}
	l.top = max(l.top, n)
	for l.top > 0 && len(l.levels[l.top]) == 0 {
		l.top--
	}
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// prove keeps a connection from being pushed out.
func (c *limitedConn) prove() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.l.known(c)
}

type connKey struct{}

// withConn lets handlers find the connection that they answer on.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	return context.WithValue(ctx, connKey{}, conn)
}

// proving keeps connections on which guests have proven themselves.
func proving(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told := &status{ResponseWriter: w}
		h.ServeHTTP(told, r)
		if conn, ok := r.Context().Value(connKey{}).(*limitedConn); ok && told.code == http.StatusOK && (r.URL.Path == exchange.PathFinish || r.URL.Path == exchange.PathRenew) {
			conn.prove()
		}
	})
}

// status remembers what was answered.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

func (s *status) Write(b []byte) (int, error) {
	if s.code == 0 {
		s.code = http.StatusOK
	}
	return s.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }
