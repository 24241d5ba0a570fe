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
	id, path string
	renews   bool    // or ends a lease
	about    Refusal // what is known of it, should it be refused
	log      *slog.Logger
}

// refusal is a decision against a request. Only its code reaches the client.
type refusal struct {
	code  exchange.Code
	check Check
	cause error
}

func (r *refusal) Error() string { return r.cause.Error() }
func (r *refusal) Unwrap() error { return r.cause }

func refuse(code exchange.Code, check Check, format string, args ...any) error {
	return &refusal{code, check, fmt.Errorf(format, args...)}
}

// codeOf is how a client hears of an error.
func codeOf(err error) exchange.Code { return decisionOf(err).code }

// checkOf is how an administrator does.
func checkOf(err error) Check { return decisionOf(err).check }

// decisionOf is what an error decided, or that the server could not.
func decisionOf(err error) refusal {
	for _, c := range []struct {
		err   error
		code  exchange.Code
		check Check
	}{
		{ledger.ErrChallenge, exchange.ChallengeOver, CheckChallenge},
		{ledger.ErrNoLease, exchange.LeaseOver, CheckLease},
		{ledger.ErrRevoked, exchange.Revoked, CheckRevoked},
		{ledger.ErrExpired, exchange.Expired, CheckTerm},
		{ledger.ErrExhausted, exchange.Exhausted, CheckSeats},
		{ledger.ErrNoLicence, exchange.NotAllowed, CheckLicence},
		{ledger.ErrArchived, exchange.NotAllowed, CheckLicence},
		{ledger.ErrRolledBack, exchange.NotAllowed, CheckRollback},
		{ledger.ErrCopied, exchange.NotAllowed, CheckCopy},
	} {
		if errors.Is(err, c.err) {
			return refusal{c.code, c.check, err}
		}
	}
	var r *refusal
	if errors.As(err, &r) {
		return *r
	}
	return refusal{exchange.Unavailable, CheckServer, err}
}

// handle routes a path to f, which has a message and answers with one.
func handle[In any, P interface {
	*In
	parsed
}, Out any](s *Server, path string, limit int64, f func(context.Context, *request, P) (Out, error)) {
	s.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		begin, id := time.Now(), newID()
		req := &request{log: s.opts.Log.With("request", id, "path", path), id: id, path: path, renews: path == exchange.PathRenew || path == exchange.PathEnd}
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
			s.refused(ledger.On(context.WithoutCancel(r.Context()), host(req.peer), id), w, req, err)
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
		return refuse(exchange.Unavailable, CheckServer, "there are no credentials yet")
	}
	if r.TLS == nil || r.TLS.Version < tls.VersionTLS13 {
		return refuse(exchange.BadRequest, CheckRequest, "not over TLS 1.3")
	}
	var err error
	if req.exporter, err = r.TLS.ExportKeyingMaterial(exchange.ExporterLabel, nil, exchange.ExporterSize); err != nil {
		return refuse(exchange.BadRequest, CheckRequest, "export from the TLS connection: %w", err)
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
		return refuse(exchange.BadRequest, CheckRequest, "read: %w", err)
	}
	if err := exchange.Parse(data, into); err != nil {
		return refuse(exchange.BadRequest, CheckRequest, "%w", err)
	}
	return nil
}

func (s *Server) refused(ctx context.Context, w http.ResponseWriter, req *request, err error) {
	refusal := req.refused(err)
	code, level := refusal.Code, slog.LevelInfo
	if code == exchange.Unavailable {
		level = slog.LevelError
	}
	log := req.log
	if code == exchange.Unavailable && s.opts.Hint != nil {
		if hint := s.opts.Hint(err); hint != "" {
			log = log.With("hint", hint)
		}
	}
	log.Log(ctx, level, "refused", "code", string(code), "check", string(refusal.Check), "cause", err.Error())
	s.metrics.refused(refusal.Check)
	s.remember(ctx, req, refusal) // before the client knows the name to ask by
	wait := s.limits.punish(req, code)
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	answer(w, code.Status(), &exchange.Problem{Code: code, Message: code.Sentence(), Request: req.id})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // who has left does not hear it
}
