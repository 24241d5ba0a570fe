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
	p.health.handle(mux, false)
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
	p.health.handle(mux, true)
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

// health tells whether the process lives, whether it can answer guests, and what it
// cannot do yet.
type health struct {
	look     func(context.Context) []finding
	stopping atomic.Bool
	last     atomic.Pointer[looked]
}

// looked is what was found, and when: those who ask often cost nothing.
type looked struct {
	at       time.Time
	findings []finding
}

// stop makes it not ready, and tells whether it was.
func (h *health) stop() bool { return !h.stopping.Swap(true) }

// handle answers what the process is like. What it lacks is for those alone who look
// after it.
func (h *health) handle(mux *http.ServeMux, detailed bool) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if h.stopping.Load() {
			answer(w, http.StatusServiceUnavailable, "stopping")
			return
		}
		code, text := http.StatusOK, "ok"
		found := h.findings(r.Context())
		switch worst(found) {
		case broken:
			code, text = http.StatusServiceUnavailable, "not ready"
		case absent, ending:
			text = "ready, and not complete"
		}
		if detailed {
			text = strings.TrimSuffix(text+"\n"+lacks(found), "\n")
		}
		answer(w, code, text)
	})
}

func (h *health) findings(ctx context.Context) []finding {
	if last := h.last.Load(); last != nil && time.Since(last.at) < readyResult {
		return last.findings
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
	defer cancel()
	now := &looked{time.Now(), h.look(ctx)}
	h.last.Store(now)
	return now.findings
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	io.WriteString(w, text+"\n")
}
