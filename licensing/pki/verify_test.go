package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/ovsactl/ovsactl/licensing"
)

// allGood is a StatusSource for tests of everything else.
type allGood struct{}

func (allGood) Status(context.Context, *x509.Certificate, *x509.Certificate, time.Time) error {
	return nil
}

func verifier(s Store, status StatusSource) Verifier {
	return Verifier{Store: s, Now: func() time.Time { return now }, Status: status}
}

func TestVerify(t *testing.T) {
	root := issue(t, nil, "root", asCA)
	between := issue(t, root, "between", asCA)
	leaf := issue(t, between, "leaf", nil)
	self := issue(t, nil, "self", nil)
	stranger := issue(t, nil, "root", asCA) // the same name
	byLeaf := issue(t, leaf, "by a leaf", nil)
	old := issue(t, root, "old", func(c *x509.Certificate) { c.NotBefore = now.AddDate(0, -18, -1); c.NotAfter = now.AddDate(9, 0, 0) })
	early := issue(t, root, "early", func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) })
	encipher := issue(t, root, "encipher", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })
	selfCA := issue(t, nil, "self CA", asCA)

	tests := map[string]struct {
		store []*node
		chain []*node
		want  error
	}{
		"issued":                       {[]*node{root}, []*node{leaf, between}, nil},
		"issued, with its root":        {[]*node{root}, []*node{leaf, root, between}, nil},
		"self-signed, in the store":    {[]*node{self}, []*node{self}, nil},
		"self-signed, not in it (W26)": {[]*node{root}, []*node{self}, ErrUntrusted},
		"nothing is in the store":      {nil, []*node{leaf, between, root}, ErrUntrusted},
		"no issuer between":            {[]*node{root}, []*node{leaf}, ErrUntrusted},
		"a root of the same name":      {[]*node{stranger}, []*node{leaf, between}, ErrUntrusted},
		"issued by no authority (W29)": {[]*node{root}, []*node{byLeaf, leaf, between}, ErrUntrusted},
		"a self-signed party issues":   {[]*node{self}, []*node{issue(t, self, "x", nil), self}, ErrUntrusted},
		"older than 18 months":         {[]*node{root}, []*node{old}, licensing.ErrExpired},
		"not yet valid":                {[]*node{root}, []*node{early}, licensing.ErrNotYetValid},
		"not for signatures":           {[]*node{root}, []*node{encipher}, ErrUntrusted},
		"an authority of its own":      {[]*node{root}, []*node{selfCA}, ErrUntrusted},
		"none":                         {[]*node{root}, nil, ErrUntrusted},
	}
	for name, tt := range tests {
		var chain []*x509.Certificate
		for _, n := range tt.chain {
			chain = append(chain, n.cert)
		}
		got, err := verifier(storeOf(t, tt.store...), allGood{}).Verify(t.Context(), chain)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if tt.want == nil && (len(got) == 0 || got[0] != chain[0]) {
			t.Errorf("%s: path %v", name, got)
		}
	}
}

func TestStore(t *testing.T) {
	root, self := issue(t, nil, "root", asCA), issue(t, nil, "self", nil)
	leaf := issue(t, root, "leaf", nil)
	s := storeOf(t, root, self, root)
	if anchors, err := s.List(); err != nil || len(anchors) != 2 {
		t.Fatalf("%d anchors, %v; want 2", len(anchors), err)
	}
	if _, err := s.Add(leaf.cert); err == nil {
		t.Error("added a certificate that proves nothing")
	}
	for _, id := range []string{"", "12", strings.Repeat("0", 64), "../../etc/passwd"} {
		if _, err := s.Remove(id); err == nil {
			t.Errorf("removed %q", id)
		}
	}
	if a, err := s.Remove(strings.ToUpper(Fingerprint(root.cert)[:12])); err != nil || !a.Certificate.Equal(root.cert) {
		t.Errorf("remove: %v", err)
	}
	if anchors, err := s.List(); err != nil || len(anchors) != 1 {
		t.Errorf("%d anchors, %v; want 1", len(anchors), err)
	}
	if err := os.WriteFile(s.dir+"/broken.crt", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(); !errors.Is(err, ErrFile) {
		t.Errorf("a broken file: %v, want ErrFile", err)
	}
	os.Remove(s.dir + "/broken.crt")
	open := s.dir + "/open.crt"
	if err := os.WriteFile(open, EncodePEM(root.cert), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(); err == nil || !strings.Contains(err.Error(), "others may write") {
		t.Errorf("a file that all may write: %v", err)
	}
	os.Remove(open)
	if err := os.Chmod(s.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(); err == nil || !strings.Contains(err.Error(), "others may write") {
		t.Errorf("a store that all may write: %v", err)
	}
	if anchors, err := NewStore("/nowhere/trust").List(); err != nil || anchors != nil {
		t.Errorf("no store: %v, %v", anchors, err)
	}
}

// respond makes an OCSP response, signed by a responder that issuer may have named.
func respond(t testing.TB, issuer, by, leaf *node, change func(*ocsp.Response)) []byte {
	t.Helper()
	r := ocsp.Response{Status: ocsp.Good, SerialNumber: leaf.cert.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
	if by != issuer {
		r.Certificate = by.cert
	}
	if change != nil {
		change(&r)
	}
	der, err := ocsp.CreateResponse(issuer.cert, by.cert, r, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestOCSP is W28: only a fresh "good" of somebody who may say so is one.
func TestOCSP(t *testing.T) {
	ca, other := issue(t, issue(t, nil, "root", asCA), "ca", asCA), issue(t, nil, "other", asCA)
	leaf, sibling := issue(t, ca, "leaf", nil), issue(t, ca, "sibling", nil)
	ocspUse := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }
	delegate := issue(t, ca, "delegate", ocspUse)
	ended := issue(t, ca, "ended", func(c *x509.Certificate) { ocspUse(c); c.NotAfter = now.Add(-time.Minute) })
	foreign := issue(t, other, "foreign", ocspUse)

	tests := map[string]struct {
		response []byte
		want     error
	}{
		"good":                       {respond(t, ca, ca, leaf, nil), nil},
		"good, by a delegate":        {respond(t, ca, delegate, leaf, nil), nil},
		"good, with the CA's own":    {respond(t, ca, ca, leaf, func(r *ocsp.Response) { r.Certificate = ca.cert }), nil},
		"the CA's own, not its key":  {respond(t, ca, sibling, leaf, func(r *ocsp.Response) { r.Certificate = ca.cert }), ErrStatus},
		"revoked":                    {respond(t, ca, ca, leaf, func(r *ocsp.Response) { r.Status = ocsp.Revoked; r.RevokedAt = now }), ErrRevoked},
		"revoked, an old response":   {respond(t, ca, ca, leaf, func(r *ocsp.Response) { r.Status = ocsp.Revoked; r.NextUpdate = r.ThisUpdate }), ErrRevoked},
		"unknown":                    {respond(t, ca, ca, leaf, func(r *ocsp.Response) { r.Status = ocsp.Unknown }), ErrStatus},
		"stale":                      {respond(t, ca, ca, leaf, func(r *ocsp.Response) { r.NextUpdate = now.Add(-time.Hour) }), ErrStatus},
		"without an end, a day old":  {respond(t, ca, ca, leaf, func(r *ocsp.Response) { r.NextUpdate = time.Time{}; r.ThisUpdate = now.AddDate(0, 0, -2) }), ErrStatus},
		"from the future":            {respond(t, ca, ca, leaf, func(r *ocsp.Response) { r.ThisUpdate = now.Add(time.Hour) }), ErrStatus},
		"another certificate's":      {respond(t, ca, ca, sibling, nil), ErrStatus},
		"another authority's":        {respond(t, other, other, leaf, nil), ErrStatus},
		"by a customer of the CA":    {respond(t, ca, sibling, leaf, nil), ErrStatus},
		"by a delegate that ended":   {respond(t, ca, ended, leaf, nil), ErrStatus},
		"by another CA's delegate":   {respond(t, ca, foreign, leaf, nil), ErrStatus},
		"nonsense":                   {[]byte("good"), ErrStatus},
		"too large":                  {make([]byte, maxResponse+1), ErrStatus},
		"the responder's try-later":  {ocsp.TryLaterErrorResponse, ErrStatus},
		"the responder's no request": {ocsp.UnauthorizedErrorResponse, ErrStatus},
	}
	for name, tt := range tests {
		o := OCSP{Stapled: [][]byte{tt.response}}
		if err := o.Status(t.Context(), leaf.cert, ca.cert, now); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		o.SoftFail = true
		if err := o.Status(t.Context(), leaf.cert, ca.cert, now); (err == nil) == errors.Is(tt.want, ErrRevoked) {
			t.Errorf("%s, with soft-fail: %v", name, err)
		}
	}
	if err := (OCSP{}).Status(t.Context(), leaf.cert, ca.cert, now); !errors.Is(err, ErrStatus) {
		t.Errorf("no response at all: %v, want ErrStatus", err)
	}
}

func TestOCSPResponder(t *testing.T) {
	ca := issue(t, nil, "ca", asCA)
	leaf := issue(t, ca, "leaf", nil)
	answer := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		req, err := ocsp.ParseRequest(body)
		if err != nil || req.SerialNumber.Cmp(leaf.cert.SerialNumber) != 0 {
			t.Errorf("request: %v", err)
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		w.Write(respond(t, ca, ca, leaf, nil))
	}
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    error
	}{
		"good":     {answer, nil},
		"an error": {func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 500) }, ErrStatus},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		}, ErrStatus},
		"a web page": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") }, ErrStatus},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/ocsp-response")
			w.Write(make([]byte, 1<<20))
		}, ErrStatus},
	} {
		server := httptest.NewServer(tt.handler)
		named := *leaf.cert
		named.OCSPServer = []string{server.URL}
		if err := (OCSP{}).Status(t.Context(), &named, ca.cert, now); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		server.Close()
	}
	for _, u := range []string{"file:///etc/passwd", "ldap://x", "http://", "::"} {
		if err := (OCSP{Responder: u}).Status(t.Context(), leaf.cert, ca.cert, now); !errors.Is(err, ErrStatus) {
			t.Errorf("%q: %v, want ErrStatus", u, err)
		}
	}
}

// TestStrangersChooseNoResponder is W27: whoever is not trusted makes us ask nobody.
func TestStrangersChooseNoResponder(t *testing.T) {
	asked := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer server.Close()
	ca := issue(t, nil, "ca", asCA)
	leaf := issue(t, ca, "leaf", func(c *x509.Certificate) {
		c.OCSPServer, c.IssuingCertificateURL = []string{server.URL}, []string{server.URL}
	})
	_, err := verifier(storeOf(t, issue(t, nil, "root", asCA)), OCSP{}).Verify(t.Context(), []*x509.Certificate{leaf.cert, ca.cert})
	if !errors.Is(err, ErrUntrusted) || asked {
		t.Errorf("%v, asked %v", err, asked)
	}
}

func TestRevokedIssuer(t *testing.T) {
	root := issue(t, nil, "root", asCA)
	between := issue(t, root, "between", asCA)
	leaf := issue(t, between, "leaf", nil)
	o := OCSP{SoftFail: true, Stapled: [][]byte{
		respond(t, between, between, leaf, nil),
		respond(t, root, root, between, func(r *ocsp.Response) { r.Status = ocsp.Revoked }),
	}}
	_, err := verifier(storeOf(t, root), o).Verify(t.Context(), []*x509.Certificate{leaf.cert, between.cert})
	if !errors.Is(err, ErrRevoked) {
		t.Errorf("%v, want ErrRevoked", err)
	}
}
