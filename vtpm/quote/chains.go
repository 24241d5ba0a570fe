package quote

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Chains remembers certificates whose chain was verified, for whoever verifies
// many records of few hosts: most of that work is the hosts' certificates. It
// forgets what was not asked for the longest. What it knows holds for the same
// bytes, roots and purpose, while every certificate on the way is valid; it
// never remembers a refusal. It is safe for concurrent use.
type Chains struct {
	known *lru.Cache[[sha256.Size]byte, validity]
}

// validity is when all certificates of a chain are valid.
type validity struct{ from, to time.Time }

// NewChains returns a memory for n chains, which has to be above zero.
func NewChains(n int) (*Chains, error) {
	known, err := lru.New[[sha256.Size]byte, validity](n)
	if err != nil {
		return nil, fmt.Errorf("remember chains: %w", err)
	}
	return &Chains{known}, nil
}

// verify is verifyChain, once. A nil memory verifies each time.
func (c *Chains) verify(leaf *x509.Certificate, extra, roots []*x509.Certificate, purpose asn1.ObjectIdentifier, now time.Time) error {
	if c == nil {
		_, err := verifyChain(leaf, extra, roots, purpose, now)
		return err
	}
	id := chainID(leaf, extra, roots, purpose)
	if v, ok := c.known.Get(id); ok && !now.Before(v.from) && !now.After(v.to) {
		return nil
	}
	path, err := verifyChain(leaf, extra, roots, purpose, now)
	if err != nil {
		return err
	}
	v := validity{leaf.NotBefore, leaf.NotAfter}
	for _, cert := range path[1:] {
		if cert.NotBefore.After(v.from) {
			v.from = cert.NotBefore
		}
		if cert.NotAfter.Before(v.to) {
			v.to = cert.NotAfter
		}
	}
	c.known.Add(id, v)
	return nil
}

// chainID is a digest of all that a verdict depends on but the time. Lengths
// keep one part from running into the next.
func chainID(leaf *x509.Certificate, extra, roots []*x509.Certificate, purpose asn1.ObjectIdentifier) (id [sha256.Size]byte) {
	h := sha256.New()
	part := func(data []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(data))))
		h.Write(data)
	}
	part([]byte(purpose.String()))
	part(leaf.Raw)
	for _, certs := range [][]*x509.Certificate{extra, roots} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(certs))))
		for _, cert := range certs {
			part(cert.Raw)
		}
	}
	h.Sum(id[:0])
	return id
}
