package licensing

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// How long things are used at most, whatever else they say about themselves.
const (
	CertificateMonths = 18 // from a certificate's notBefore
	ModelYears        = 5  // from a master licence's creation
)

// Why a certificate, model or licence is refused.
var (
	ErrNotYetValid = errors.New("not valid yet")
	ErrExpired     = errors.New("expired")
	ErrTooLong     = errors.New("the licence would last too long")
)

// CertificateEnd is when a certificate ends: at its notAfter, or CertificateMonths
// after its notBefore if that is earlier.
func CertificateEnd(c *x509.Certificate) time.Time {
	end := c.NotBefore.UTC().AddDate(0, CertificateMonths, 0)
	if c.NotAfter.Before(end) {
		return c.NotAfter.UTC()
	}
	return end
}

// CheckCertificateAge returns nil when now is within a certificate's life.
func CheckCertificateAge(c *x509.Certificate, now time.Time) error {
	if now.Before(c.NotBefore) {
		return fmt.Errorf("certificate %q: %w: it begins %s", c.Subject, ErrNotYetValid, c.NotBefore.UTC().Format(time.RFC3339))
	}
	if end := CertificateEnd(c); now.After(end) {
		return fmt.Errorf("certificate %q: %w: it ended %s (certificates are used for %d months at most)",
			c.Subject, ErrExpired, end.Format(time.RFC3339), CertificateMonths)
	}
	return nil
}

// End is when no time-limited licence for the model can be sold any more.
func (m MasterLicence) End() time.Time { return m.Created.AddDate(ModelYears, 0, 0) }

// Fits returns nil when a licence with these terms, sold now, ends before the
// model and both certificates do. Only a TimeLimit has an end. The error says how
// many days would fit.
func (t Terms) Fits(now time.Time, m MasterLicence, isv, customer *x509.Certificate) error {
	if t.Type != TimeLimit {
		return nil
	}
	now = instant(now)
	ends := []struct {
		what string
		end  time.Time
	}{
		{fmt.Sprintf("the model ends (%d years after it was protected)", ModelYears), m.End()},
		{"the ISV's certificate ends", CertificateEnd(isv)},
		{"the customer's certificate ends", CertificateEnd(customer)},
	}
	first := ends[0]
	for _, e := range ends[1:] {
		if e.end.Before(first.end) {
			first = e
		}
	}
	if !now.AddDate(0, 0, t.Days).After(first.end) {
		return nil
	}
	if fit := daysBetween(now, first.end); fit > 0 {
		return fmt.Errorf("%w: %d days end after %s on %s; %d days would fit",
			ErrTooLong, t.Days, first.what, first.end.Format(time.DateOnly), fit)
	}
	return fmt.Errorf("%w: %s on %s; no time limit would fit", ErrTooLong, first.what, first.end.Format(time.DateOnly))
}

// daysBetween is how many whole days, in UTC, lie between.
func daysBetween(from, to time.Time) int { return int(to.Sub(from) / (24 * time.Hour)) }
