package licenseserver

import (
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ovsactl/ovsactl/internal/netclient"
)

// limited is a listener that closes connections beyond its limits at once, so
// that they neither wait nor keep others waiting.
type limited struct {
	net.Listener
	total, perClient int
	turnedAway       prometheus.Counter

	mu   sync.Mutex
	open int
	of   map[netip.Prefix]int
}

func newLimited(l net.Listener, total, perClient int, turnedAway prometheus.Counter) *limited {
	return &limited{Listener: l, total: total, perClient: perClient, turnedAway: turnedAway, of: map[netip.Prefix]int{}}
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := netclient.Of(conn.RemoteAddr().String())
		if l.take(from) {
			return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { l.give(from) })}, nil
		}
		l.turnedAway.Inc()
		conn.Close()
	}
}

func (l *limited) take(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.total || l.of[from] >= l.perClient {
		return false
	}
	l.open++
	l.of[from]++
	return true
}

func (l *limited) give(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.of[from]--; l.of[from] == 0 {
		delete(l.of, from)
	}
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
