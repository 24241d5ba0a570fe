package pki

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// responder answers with what is put into it, and counts.
type responder struct {
	*httptest.Server
	mu     sync.Mutex
	answer []byte // nil: 503
	asked  int
}

func newResponder(t *testing.T) *responder {
	r := &responder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked++
		if r.answer == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		w.Write(r.answer)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *responder) put(answer []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer, r.asked = answer, 0
}

// The last good response serves while its responder does not answer, until that
// response's own end; one that says revoked takes it away.
func TestMemoryOfResponses(t *testing.T) {
	ca := issue(t, nil, "ca", asCA)
	leaf := issue(t, ca, "leaf", nil)
	r := newResponder(t)
	memory, err := NewMemory(8)
	if err != nil {
		t.Fatal(err)
	}
	status := OCSP{Responder: r.URL, Memory: memory}
	ask := func(after time.Duration) error { return status.Status(t.Context(), leaf.cert, ca.cert, now.Add(after)) }
	good := respond(t, ca, ca, leaf, func(o *ocsp.Response) {
		o.ThisUpdate, o.NextUpdate = now, now.Add(time.Hour)
	})
	revoked := respond(t, ca, ca, leaf, func(o *ocsp.Response) {
		o.Status, o.RevokedAt, o.ThisUpdate, o.NextUpdate = ocsp.Revoked, now, now, now.Add(2*time.Hour)
	})

	if err := ask(0); !errors.Is(err, ErrStatus) {
		t.Errorf("nobody has ever answered: %v", err)
	}
	r.put(good)
	if err := ask(time.Second); !errors.Is(err, ErrStatus) || r.asked != 0 {
		t.Errorf("a responder that was down a second ago: %v, asked %d times", err, r.asked)
	}
	for _, at := range []time.Duration{11 * time.Second, 12 * time.Second, time.Minute} {
		if err := ask(at); err != nil || r.asked != 1 {
			t.Errorf("after %s: %v, asked %d times", at, err, r.asked)
		}
	}
	r.put(nil)
	for _, at := range []time.Duration{2 * time.Minute, 30 * time.Minute, time.Hour} {
		if err := ask(at); err != nil {
			t.Errorf("the responder is away for %s: %v", at, err)
		}
	}
	if r.asked != 3 {
		t.Errorf("asked %d times, want 3", r.asked)
	}
	if err := ask(time.Hour + ocspSkew + time.Minute); !errors.Is(err, ErrStatus) {
		t.Errorf("after the response's end: %v", err)
	}

	r.put([]byte("garbage"))
	if err := ask(40 * time.Minute); err != nil { // a clock that went back
		t.Errorf("the responder says nothing that is a response: %v", err)
	}
	r.put(revoked)
	if err := ask(42 * time.Minute); !errors.Is(err, ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	r.put(nil)
	for _, at := range []time.Duration{42*time.Minute + time.Second, 50 * time.Minute} {
		if err := ask(at); err == nil {
			t.Errorf("good again after %s, because the responder is away", at)
		}
	}
	// Another certificate is another question.
	other := issue(t, ca, "other", nil)
	if err := status.Status(t.Context(), other.cert, ca.cert, now); !errors.Is(err, ErrStatus) {
		t.Errorf("another certificate: %v", err)
	}
}
