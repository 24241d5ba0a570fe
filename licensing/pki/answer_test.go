package pki

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What an OCSP responder answers is one thing, and what else answers at its address
// with a good response in it is another.
func TestAnswersAroundAResponse(t *testing.T) {
	ca := issue(t, nil, "ca", asCA)
	leaf := issue(t, ca, "leaf", nil)
	for name, tt := range map[string]struct {
		status int
		kind   string
		want   error
	}{
		"a response":      {http.StatusOK, "application/ocsp-response", nil},
		"with parameters": {http.StatusOK, "application/ocsp-response; x=y", nil},
		"an error":        {http.StatusInternalServerError, "application/ocsp-response", ErrStatus},
		"not found":       {http.StatusNotFound, "application/ocsp-response", ErrStatus},
		"a redirect":      {http.StatusFound, "application/ocsp-response", ErrStatus},
		"a page":          {http.StatusOK, "text/html", ErrStatus},
		"of no kind":      {http.StatusOK, "", ErrStatus},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", tt.kind)
			if w.Header().Set("Location", "/elsewhere"); r.URL.Path != "/elsewhere" {
				w.WriteHeader(tt.status)
			}
			w.Write(respond(t, ca, ca, leaf, nil))
		}))
		if err := (OCSP{Responder: server.URL}).Status(t.Context(), leaf.cert, ca.cert, now); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		server.Close()
	}
	for _, u := range []string{"file:///etc/passwd", "ldap://x", "http://", "::"} {
		err := (OCSP{Responder: u}).Status(t.Context(), leaf.cert, ca.cert, now)
		if !errors.Is(err, ErrStatus) || !strings.Contains(err.Error(), "want an http or https URL") {
			t.Errorf("%q: %v", u, err)
		}
	}
}
