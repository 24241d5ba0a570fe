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
		return &request{Credentials: s.credentials.Load(), now: time.Now(), exporter: exporter, peer: "192.0.2.1:1", log: s.opts.Log}
	}
	challenge, err := s.begin(ctx, req(), &begin)
	if err != nil {
		return nil, err
	}
	finish.ID = challenge.ID
	return s.finish(ctx, req(), &finish)
}

// Renew is the renewal of a lease by whom it was given to, without a connection.
func (s *Server) Renew(ctx context.Context, lease, guest string) (*exchange.Renewed, error) {
	c, exporter := s.credentials.Load(), make([]byte, 32)
	key, err := renewalKey(c.renewal[0], lease, guest)
	if err != nil {
		return nil, err
	}
	return s.renew(ctx, &request{Credentials: c, now: time.Now(), exporter: exporter, peer: "192.0.2.1:1", log: s.opts.Log}, &exchange.Renew{
		Lease: lease, Guest: guest, MAC: exchange.RenewalMAC(key, exchange.PathRenew, lease, exporter),
	})
}
