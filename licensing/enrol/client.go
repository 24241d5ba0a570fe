package enrol

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
)

// Errors of a client.
var (
	ErrURL      = errors.New("not the https:// address of a service")
	ErrIdentity = errors.New("the server is not the one that was asked for")
	ErrService  = errors.New("it is not an enrolment service") // or not yet: it has no authority
)

// Trust says which server a client talks to: one whose certificate leads to an
// authority, or one with a key. The system's authorities are never among them.
type Trust struct {
	Authorities []*x509.Certificate
	Pin         licensing.Pin // SHA-256 of the server certificate's SubjectPublicKeyInfo
}

// config refuses a Trust that trusts nobody.
func (t Trust) config(now func() time.Time) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13, Time: now}
	switch {
	case len(t.Authorities) > 0 && len(t.Pin) > 0:
		return nil, errors.New("an authority and a pin: want one of them")
	case len(t.Authorities) > 0:
		c.RootCAs = x509.NewCertPool()
		for _, a := range t.Authorities {
			c.RootCAs.AddCert(a)
		}
		return c, nil
	case len(t.Pin) > 0:
		// The key is the identity: neither names nor authorities count, and
		// VerifyConnection runs for resumed connections, too.
		c.InsecureSkipVerify = true //nolint:gosec // see VerifyConnection
		c.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || subtle.ConstantTimeCompare(licensing.PinOf(s.PeerCertificates[0]), t.Pin) != 1 {
				return fmt.Errorf("%w: its key has another SHA-256", ErrIdentity)
			}
			return nil
		}
		return c, nil
	}
	return nil, errors.New("neither an authority nor a pin of the server")
}

// Client talks to a service.
type Client struct {
	base *url.URL
	http *http.Client
}

// requestTime is how long one request may take.
const requestTime = 30 * time.Second

// NewClient returns a client of the service at https://HOST[:PORT].
func NewClient(address string, trust Trust) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w: %q", ErrURL, address)
	}
	config, err := trust.config(time.Now)
	if err != nil {
		return nil, err
	}
	return &Client{&url.URL{Scheme: u.Scheme, Host: u.Host}, &http.Client{
		Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true},
		Timeout:   requestTime,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the server sends elsewhere")
		},
	}}, nil
}

// Begin asks for a challenge. A service that says no is a Refusal.
func (c *Client) Begin(ctx context.Context, r Request) (Challenge, error) {
	var challenge Challenge
	if err := c.post(ctx, BeginPath, r, &challenge); err != nil {
		return Challenge{}, fmt.Errorf("begin enrolment: %w", err)
	}
	return challenge, nil
}

// Finish answers a challenge.
func (c *Client) Finish(ctx context.Context, a Answer) (Certificate, error) {
	var cert Certificate
	if err := c.post(ctx, FinishPath, a, &cert); err != nil {
		return Certificate{}, fmt.Errorf("finish enrolment: %w", err)
	}
	if len(cert.Certificate) == 0 || len(cert.Issuers) == 0 {
		return Certificate{}, errors.New("finish enrolment: the answer has no certificate")
	}
	return cert, nil
}

func (c *Client) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	defer clear(body)
	if len(body) > MaxRequest {
		return fmt.Errorf("a request of %d bytes, over the limit of %d", len(body), MaxRequest)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	rsp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(rsp.Body, MaxResponse+1))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if rsp.StatusCode == http.StatusOK {
		if err := unmarshal(answer, out, MaxResponse); err != nil {
			return fmt.Errorf("parse answer: %w", err)
		}
		return nil
	}
	var refused Refusal
	if err := unmarshal(answer, &refused, MaxResponse); err != nil || refused.Code == "" {
		return fmt.Errorf("the server answers %s: %w", rsp.Status, ErrService)
	}
	return refused
}
