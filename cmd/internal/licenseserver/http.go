package licenseserver

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Limits of every request, whoever sends it. The protocol has its own.
const (
	headerTime  = 10 * time.Second // and of the TLS handshake
	readTime    = 30 * time.Second
	writeTime   = 60 * time.Second
	idleTime    = 75 * time.Second
	maxHeader   = 16 << 10
	maxBody     = 4 << 20
	checkTime   = 2 * time.Second
	readyResult = time.Second // for how long what /readyz found holds
)

// guestServer is for guests: TLS 1.3 and HTTP/1.1. A session is never resumed,
// so that each connection proves the server's key and has secrets of its own.
func (p *process) guestServer() *http.Server {
	mux := http.NewServeMux()
	p.health.handle(mux)
	mux.Handle("/", p.counters.count(proving(http.MaxBytesHandler(p.service, maxBody))))
	server := p.server(mux)
	server.ConnContext = withConn
	server.TLSConfig = &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: p.current.certificate, SessionTicketsDisabled: true, NextProtos: []string{"http/1.1"},
	}
	server.Protocols = new(http.Protocols)
	server.Protocols.SetHTTP1(true)
	return server
}

// opsServer is for whoever looks after the server.
func (p *process) opsServer() *http.Server {
	mux := http.NewServeMux()
	p.health.handle(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{ErrorLog: p.errorLog(), MaxRequestsInFlight: 4}))
	return p.server(http.MaxBytesHandler(mux, maxHeader))
}

func (p *process) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: p.errorLog(), DisableGeneralOptionsHandler: true,
	}
}

func (p *process) errorLog() *log.Logger { return log.New(errorWriter{p.log}, "", 0) }

// errorWriter takes what net/http has to say. What any stranger can make it say,
// as often as they like, is for debugging alone.
type errorWriter struct{ log *slog.Logger }

func (w errorWriter) Write(line []byte) (int, error) {
	text, level := strings.TrimSpace(string(line)), slog.LevelError
	if strings.Contains(text, "TLS handshake error") {
		level = slog.LevelDebug
	}
	w.log.Log(context.Background(), level, text)
	return len(line), nil
}

// checker is the part of a ledger that tells whether it answers.
type checker interface{ Check(context.Context) error }

// health tells whether the process lives, and whether it can answer guests.
type health struct {
	ledger   checker
	stopping atomic.Bool
	last     atomic.Pointer[checked]
}

// checked is what the ledger said, and when: those who ask often cost nothing.
type checked struct {
	at time.Time
	ok bool
}

// stop makes it not ready, and tells whether it was.
func (h *health) stop() bool { return !h.stopping.Swap(true) }

func (h *health) handle(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case h.stopping.Load():
			answer(w, http.StatusServiceUnavailable, "stopping")
		case !h.ready(r.Context()):
			answer(w, http.StatusServiceUnavailable, "the database does not answer")
		default:
			answer(w, http.StatusOK, "ok")
		}
	})
}

func (h *health) ready(ctx context.Context) bool {
	if last := h.last.Load(); last != nil && time.Since(last.at) < readyResult {
		return last.ok
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
	defer cancel()
	now := &checked{time.Now(), h.ledger.Check(ctx) == nil}
	h.last.Store(now)
	return now.ok
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	io.WriteString(w, text+"\n")
}
