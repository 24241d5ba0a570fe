package client

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
)

// session is one connection to a server. What is asked over it is bound to it.
type session struct {
	server   licensing.Server
	conn     *tls.Conn
	http     *http.Client
	exporter []byte
	pin      licensing.Pin // of the certificate that the server showed
}

const requestTimeout = 30 * time.Second

// errConnection is that of a request for which another connection would be
// needed.
var errConnection = errors.New("the connection was closed")

func dial(ctx context.Context, server licensing.Server, now func() time.Time) (*session, error) {
	s := &session{server: server}
	raw, err := (&net.Dialer{Timeout: requestTimeout}).DialContext(ctx, "tcp", server.Address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(server.Address)
	if err != nil {
		raw.Close()
		return nil, err
	}
	s.conn = tls.Client(raw, &tls.Config{
		ServerName: host, MinVersion: tls.VersionTLS13, Time: now,
		// The licence's vendor says which keys its servers have; no authority
		// and no name could say it better. VerifyConnection is always called.
		InsecureSkipVerify: true,
		VerifyConnection:   func(cs tls.ConnectionState) error { return s.verify(cs, now()) },
	})
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := s.conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	state := s.conn.ConnectionState()
	if s.exporter, err = state.ExportKeyingMaterial(exchange.ExporterLabel, nil, exchange.ExporterSize); err != nil {
		s.close()
		return nil, err
	}
	unused := make(chan net.Conn, 1)
	unused <- s.conn
	s.http = &http.Client{
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-unused:
				return c, nil
			default:
				return nil, errConnection
			}
		}},
	}
	return s, nil
}

// verify insists on a key that the licence pins, in a certificate of these days.
func (s *session) verify(cs tls.ConnectionState, now time.Time) error {
	cert := cs.PeerCertificates[0]
	s.pin = licensing.PinOf(cert)
	if !hmac.Equal(s.pin, s.server.Pin) && !hmac.Equal(s.pin, s.server.FuturePin) {
		return fmt.Errorf("%w: %s", ErrPin, s.pin)
	}
	return licensing.CheckCertificateAge(cert, now)
}

func (s *session) close() {
	if s.http != nil {
		s.http.CloseIdleConnections()
	}
	s.conn.Close()
}

// do asks the server. Its refusals are *exchange.Problem.
func (s *session) do(ctx context.Context, path string, in any, out exchange.Message) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.server.Address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.GetBody = nil // nothing is sent twice
	rsp, err := s.http.Do(r)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(rsp.Body, exchange.MaxAnswer+1))
	if err != nil {
		return err
	}
	if len(data) > exchange.MaxAnswer {
		return fmt.Errorf("an answer of more than %d bytes", exchange.MaxAnswer)
	}
	if rsp.StatusCode == http.StatusOK {
		return exchange.Parse(data, out)
	}
	var problem exchange.Problem
	if err := exchange.Parse(data, &problem); err != nil {
		return fmt.Errorf("status %d: %w", rsp.StatusCode, err)
	}
	return &problem
}
