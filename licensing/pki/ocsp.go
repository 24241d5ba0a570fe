package pki

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// Limits of OCSP.
const (
	maxResponse    = 64 << 10
	ocspTimeout    = 10 * time.Second
	ocspSkew       = 5 * time.Minute
	maxResponseAge = 24 * time.Hour // of a response that does not say when the next one comes
)

// OCSP is a StatusSource. It refuses what it cannot find out: SoftFail lets that
// pass, but never a certificate that is revoked.
type OCSP struct {
	Stapled   [][]byte // responses that were fetched before, DER
	Responder string   // asked instead of the responders that certificates name
	SoftFail  bool
	Warn      func(error) // told what SoftFail let pass; may be nil
	Client    *http.Client
	Memory    *Memory // of what responders said; nil asks each time
	Hint      string  // what to do when nobody says; "" for ovsatool's flags
}

var _ StatusSource = OCSP{}

// Status asks the stapled responses first and then a responder. It is called with
// verified certificates only, so that no stranger chooses the responder.
func (o OCSP) Status(ctx context.Context, cert, issuer *x509.Certificate, now time.Time) error {
	err := o.status(ctx, cert, issuer, now)
	if err == nil || errors.Is(err, ErrRevoked) {
		return err
	}
	if o.SoftFail {
		if o.Warn != nil {
			o.Warn(err)
		}
		return nil
	}
	return hint.Wrap(err, "%s", cmp.Or(o.Hint, "give a response with -ocsp FILE, a responder with -ocsp-url URL, or go without by -ocsp-soft-fail"))
}

func (o OCSP) status(ctx context.Context, cert, issuer *x509.Certificate, now time.Time) error {
	var stapled error
	for _, response := range o.Stapled {
		err := checkResponse(response, cert, issuer, now)
		if err == nil || errors.Is(err, ErrRevoked) {
			return err
		}
		if stapled == nil || errors.Is(stapled, errOtherCertificate) {
			stapled = err
		}
	}
	responder := o.Responder
	if responder == "" && len(cert.OCSPServer) > 0 {
		responder = cert.OCSPServer[0]
	}
	if responder == "" {
		if stapled != nil {
			return stapled
		}
		return fmt.Errorf("OCSP status of %q: %w: it names no responder", cert.Subject, ErrStatus)
	}
	fetch := func() ([]byte, error) {
		response, err := o.fetch(ctx, responder, cert, issuer)
		if err != nil {
			err = fmt.Errorf("OCSP status of %q: %w: %w", cert.Subject, ErrStatus, err)
		}
		return response, err
	}
	if o.Memory != nil {
		return o.Memory.ask(cert, issuer, now, fetch)
	}
	response, err := fetch()
	if err != nil {
		return err
	}
	return checkResponse(response, cert, issuer, now)
}

// errOtherCertificate is how x/crypto refuses a response about something else.
const errOtherCertificate = ocsp.ParseError("no response matching the supplied certificate")

// checkResponse returns nil for a fresh response that says good, signed by the
// issuer or by a responder to which the issuer gave that task.
func checkResponse(der []byte, cert, issuer *x509.Certificate, now time.Time) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("OCSP status of %q: %w: %w", cert.Subject, ErrStatus, fmt.Errorf(format, args...))
	}
	if len(der) > maxResponse {
		return fail("a response of more than %d bytes", maxResponse)
	}
	// Without the issuer, because with it x/crypto refuses responses in which an
	// intermediate authority put its own certificate.
	r, err := ocsp.ParseResponseForCert(der, cert, nil)
	if err != nil {
		return fail("%w", err)
	}
	if err := checkResponder(r, issuer, now); err != nil {
		return fail("%w", err)
	}
	switch {
	case r.Status == ocsp.Revoked:
		return fmt.Errorf("OCSP status of %q: %w since %s", cert.Subject, ErrRevoked, r.RevokedAt.UTC().Format(time.DateOnly))
	case r.Status != ocsp.Good:
		return fail("the responder does not know it")
	case r.ThisUpdate.After(now.Add(ocspSkew)):
		return fail("the response is from the future, %s", r.ThisUpdate.UTC().Format(time.RFC3339))
	case r.NextUpdate.IsZero() && now.After(r.ThisUpdate.Add(maxResponseAge)), !r.NextUpdate.IsZero() && now.After(r.NextUpdate.Add(ocspSkew)):
		return fail("the response is too old, from %s", r.ThisUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkResponder returns nil when a response is signed by the issuer, or by whom
// the issuer certified for that. The signature of a certificate in the response
// has been verified by its parser.
func checkResponder(r *ocsp.Response, issuer *x509.Certificate, now time.Time) error {
	responder := r.Certificate
	if responder == nil || bytes.Equal(responder.Raw, issuer.Raw) {
		return r.CheckSignatureFrom(issuer)
	}
	if err := responder.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("its responder %q is not the issuer's: %w", responder.Subject, err)
	}
	if !slices.Contains(responder.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || now.Before(responder.NotBefore) || now.After(responder.NotAfter) {
		return fmt.Errorf("its responder %q may not answer for the issuer", responder.Subject)
	}
	return r.CheckSignatureFrom(responder)
}

// fetch asks a responder over HTTP. It follows no redirects.
func (o OCSP) fetch(ctx context.Context, responder string, cert, issuer *x509.Certificate) ([]byte, error) {
	u, err := url.Parse(responder)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("responder %q: want an http or https URL", responder)
	}
	body, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, ocspTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	client := http.Client{}
	if o.Client != nil {
		client = *o.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	rsp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer rsp.Body.Close()
	kind, _, _ := mime.ParseMediaType(rsp.Header.Get("Content-Type"))
	if rsp.StatusCode != http.StatusOK || kind != "application/ocsp-response" {
		return nil, fmt.Errorf("responder %q answered %s, %q", responder, rsp.Status, kind)
	}
	return io.ReadAll(io.LimitReader(rsp.Body, maxResponse+1))
}
