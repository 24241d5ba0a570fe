package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/ovsactl/ovsactl/internal/netclient"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// request is what handlers know of one, beside its message.
type request struct {
	*Credentials
	now      time.Time
	exporter []byte // the connection's
	peer     string // IP address and port
	client   netip.Prefix
	renews   bool // or ends a lease
	log      *slog.Logger
}

// refusal is a decision against a request. Only its code reaches the client.
type refusal struct {
	code  exchange.Code
	cause error
}

func (r *refusal) Error() string { return r.cause.Error() }
func (r *refusal) Unwrap() error { return r.cause }

func refuse(code exchange.Code, format string, args ...any) error {
	return &refusal{code, fmt.Errorf(format, args...)}
}

// codeOf is how a client hears of an error.
func codeOf(err error) exchange.Code {
	var r *refusal
	for _, c := range []struct {
		err  error
		code exchange.Code
	}{
		{ledger.ErrChallenge, exchange.ChallengeOver},
		{ledger.ErrNoLease, exchange.LeaseOver},
		{ledger.ErrRevoked, exchange.Revoked},
		{ledger.ErrExpired, exchange.Expired},
		{ledger.ErrExhausted, exchange.Exhausted},
		{ledger.ErrNoLicence, exchange.NotAllowed},
		{ledger.ErrArchived, exchange.NotAllowed},
		{ledger.ErrRolledBack, exchange.NotAllowed},
		{ledger.ErrCopied, exchange.NotAllowed},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	if errors.As(err, &r) {
		return r.code
	}
	return exchange.Unavailable
}

// handle routes a path to f, which has a message and answers with one.
func handle[In any, P interface {
	*In
	parsed
}, Out any](s *Server, path string, limit int64, f func(context.Context, *request, P) (Out, error)) {
	s.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		begin, id := time.Now(), newID()
		req := &request{log: s.opts.Log.With("request", id, "path", path), renews: path == exchange.PathRenew || path == exchange.PathEnd}
		out, err := func() (any, error) {
			if err := s.admit(req, r); err != nil {
				return nil, err
			}
			in := P(new(In))
			if err := read(w, r, limit, in); err != nil {
				return nil, err
			}
			// Only now: whoever sends slowly keeps nobody else waiting.
			if err := s.limits.enter(req); err != nil {
				return nil, err
			}
			defer s.limits.leave(req)
			req.now = s.opts.Now()
			return f(ledger.On(r.Context(), host(req.peer), id), req, in)
		}()
		code := exchange.Code("ok")
		if err != nil {
			code = codeOf(err)
			s.refused(w, req, id, code, err)
		} else {
			answer(w, http.StatusOK, out)
		}
		s.metrics.observe(path, string(code), time.Since(begin))
	})
}

// host is an address without its port.
func host(peer string) string {
	if at, err := netip.ParseAddrPort(peer); err == nil {
		return at.Addr().Unmap().String()
	}
	return peer
}

// parsed is what exchange.Parse fills.
type parsed = exchange.Message

// admit lets a request in whose connection is good and whose sender is not too
// quick, before anything of it is read.
func (s *Server) admit(req *request, r *http.Request) error {
	req.Credentials = s.credentials.Load()
	if req.Credentials == nil {
		return refuse(exchange.Unavailable, "there are no credentials yet")
	}
	if r.TLS == nil || r.TLS.Version < tls.VersionTLS13 {
		return refuse(exchange.BadRequest, "not over TLS 1.3")
	}
	var err error
	if req.exporter, err = r.TLS.ExportKeyingMaterial(exchange.ExporterLabel, nil, exchange.ExporterSize); err != nil {
		return refuse(exchange.BadRequest, "export from the TLS connection: %w", err)
	}
	return s.ask(req, r)
}

// ask lets a request in whose sender is not too quick.
func (s *Server) ask(req *request, r *http.Request) error {
	req.peer, req.client, req.now = r.RemoteAddr, netclient.Of(r.RemoteAddr), s.opts.Now()
	req.log = req.log.With("peer", req.peer)
	return s.limits.ask(req)
}

// Admit counts a request for something else on the same port with the server's
// own: not too many at a time, nor from one client, which waits longer for each
// that was refused, as done is told. It is asked before anything of the request is
// read, and enter when all of it is.
func (s *Server) Admit(r *http.Request) (enter func() (done func(refused bool), err error), err error) {
	req := &request{log: s.opts.Log}
	if err := s.ask(req, r); err != nil {
		return nil, err
	}
	return func() (func(bool), error) {
		if err := s.limits.enter(req); err != nil {
			return nil, err
		}
		return func(refused bool) {
			s.limits.leave(req)
			if refused {
				s.limits.punish(req, exchange.NotAllowed)
			}
		}, nil
	}, nil
}

func read(w http.ResponseWriter, r *http.Request, limit int64, into parsed) error {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return refuse(exchange.BadRequest, "read: %w", err)
	}
	if err := exchange.Parse(data, into); err != nil {
		return refuse(exchange.BadRequest, "%w", err)
	}
	return nil
}

func (s *Server) refused(w http.ResponseWriter, req *request, id string, code exchange.Code, err error) {
	level := slog.LevelInfo
	if code == exchange.Unavailable {
		level = slog.LevelError
	}
	req.log.Log(context.Background(), level, "refused", "code", string(code), "cause", err.Error())
	wait := s.limits.punish(req, code)
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	answer(w, code.Status(), &exchange.Problem{Code: code, Message: code.Sentence(), Request: id})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // who has left does not hear it
}
