package licensing

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Months are counted in UTC, wherever the machine is: they may be shorter where it is
// another month already.
func TestCertificateEndsInUTC(t *testing.T) {
	here := time.Local
	t.Cleanup(func() { time.Local = here })
	notBefore := time.Date(2026, 8, 31, 23, 0, 0, 0, time.UTC)
	want := time.Date(2028, 3, 2, 23, 0, 0, 0, time.UTC) // there is no 31 February
	for _, hours := range []int{0, 14, -12} {
		time.Local = time.FixedZone("here", hours*3600)
		for _, zone := range []*time.Location{time.UTC, time.Local} {
			cert := &x509.Certificate{NotBefore: notBefore.In(zone), NotAfter: notBefore.AddDate(10, 0, 0)}
			if end := CertificateEnd(cert); !end.Equal(want) {
				t.Errorf("%d hours from UTC: it ends %s, want %s", hours, end, want)
			}
		}
	}
}

// Digests are bytes, and not text that ends with a zero, or has no case, or no spaces
// at its end.
func TestDigestsAreNoText(t *testing.T) {
	digest := bytes.Repeat([]byte{'a'}, 32)
	digest[0], digest[30], digest[31] = 0, ' ', 0
	registers := Registers{Mask: 1, PCRs: []quote.PCR{{Index: 0, Digest: digest}}}
	if err := registers.Match([]quote.PCR{{Index: 0, Digest: bytes.Clone(digest)}}); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"another byte after a zero": func(b []byte) []byte { b[1] = 'b'; return b },
		"another case":              func(b []byte) []byte { b[1] = 'A'; return b },
		"another end":               func(b []byte) []byte { b[30], b[31] = 0, ' '; return b },
		"a shorter one":             func(b []byte) []byte { return b[:31] },
		"a longer one":              func(b []byte) []byte { return append(b, 0) },
		"none":                      func([]byte) []byte { return nil },
	} {
		if registers.Match([]quote.PCR{{Index: 0, Digest: change(bytes.Clone(digest))}}) == nil {
			t.Errorf("%s: it matches", name)
		}
	}
}
