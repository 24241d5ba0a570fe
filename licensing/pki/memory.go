package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// How often a Memory lets a responder be asked about one certificate.
const (
	askEvery = time.Minute
	askAgain = 10 * time.Second // after it has not answered
)

// Memory remembers OCSP responses, for a server that asks about the same few
// certificates all the time. A responder is asked once a minute; while it does not
// answer, its last good response serves until that response's own end. What was
// revoked is never remembered as good. It is safe for concurrent use.
type Memory struct {
	known *lru.Cache[[sha256.Size]byte, remembered]
}

// remembered is the last that is known of a certificate.
type remembered struct {
	good  []byte    // a response; nil when there was none, or it was revoked since
	err   error     // of the last time that the responder was asked
	again time.Time // when it may be asked again
}

// NewMemory returns a memory for n certificates, which has to be above zero.
func NewMemory(n int) (*Memory, error) {
	known, err := lru.New[[sha256.Size]byte, remembered](n)
	if err != nil {
		return nil, fmt.Errorf("remember OCSP responses: %w", err)
	}
	return &Memory{known}, nil
}

// ask is fetch and checkResponse, as often as a memory lets it.
func (m *Memory) ask(cert, issuer *x509.Certificate, now time.Time, fetch func() ([]byte, error)) error {
	id := sha256.Sum256(append(append([]byte{}, issuer.Raw...), cert.Raw...))
	last, _ := m.known.Get(id)
	if now.Before(last.again) && now.After(last.again.Add(-2*askEvery)) { // a clock that jumps asks anew
		return last.verdict(cert, issuer, now)
	}
	response, err := fetch()
	if err == nil {
		err = checkResponse(response, cert, issuer, now)
	}
	switch {
	case err == nil:
		last = remembered{good: response, again: now.Add(askEvery)}
	case errors.Is(err, ErrRevoked):
		last = remembered{err: err, again: now.Add(askEvery)}
	default:
		last.err, last.again = err, now.Add(askAgain)
	}
	m.known.Add(id, last)
	return last.verdict(cert, issuer, now)
}

// verdict is that of the last good response while it lasts, else that of the last
// attempt.
func (r remembered) verdict(cert, issuer *x509.Certificate, now time.Time) error {
	if r.good == nil {
		return r.err
	}
	err := checkResponse(r.good, cert, issuer, now)
	if err != nil && r.err != nil {
		return fmt.Errorf("%w; the last good response: %w", r.err, err)
	}
	return err
}
