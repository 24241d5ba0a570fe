package server

import (
	"context"
	"time"

	"github.com/ovsactl/ovsactl/licensing/exchange"
)

// Prove is Begin and Finish on a connection with this exported secret, without
// the connection.
func (s *Server) Prove(ctx context.Context, exporter []byte, begin exchange.Begin, finish exchange.Finish) (*exchange.Grant, error) {
	req := func() *request {
		return &request{Credentials: s.credentials.Load(), now: time.Now(), exporter: exporter, peer: "192.0.2.1", log: s.opts.Log}
	}
	challenge, err := s.begin(ctx, req(), &begin)
	if err != nil {
		return nil, err
	}
	finish.ID = challenge.ID
	return s.finish(ctx, req(), &finish)
}

// Renew is what renews a lease on a connection with this exported secret.
func (s *Server) Renew(ctx context.Context, exporter []byte, in exchange.Renew) (*exchange.Renewed, error) {
	return s.renew(ctx, &request{Credentials: s.credentials.Load(), now: time.Now(), exporter: exporter, peer: "192.0.2.1", log: s.opts.Log}, &in)
}
