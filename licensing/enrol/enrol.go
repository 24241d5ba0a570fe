// Package enrol certifies the attestation keys of hosts, so that the records in
// which they vouch for virtual TPMs are believed.
//
// A host shows the certificate of its TPM's endorsement key, which the TPM's
// vendor signed and which is public, and an attestation key. The service encrypts
// a secret that only a TPM with both keys can decrypt; the host that answers with
// it gets a certificate for its attestation key. See [Service] and [Client].
package enrol

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// ErrRefused is that a host did not prove what it has to. What it is told is no
// more than that.
var ErrRefused = errors.New("refused")

// ChallengeTime is how long a host has to answer.
const ChallengeTime = time.Minute

const secretSize = 32

// Ledger remembers challenges, and what was revoked.
type Ledger interface {
	Offer(ctx context.Context, id string, data []byte, expires, now time.Time) error
	Take(ctx context.Context, id string, now time.Time) ([]byte, error) // ledger.ErrChallenge
	Enrol(ctx context.Context, hostID, akName string, now time.Time) error
}

var _ Ledger = (*ledger.Ledger)(nil)

// Options are what a Service needs; all of them but Chain and Now.
type Options struct {
	CA     *x509.Certificate   // the attestation authority, which verifiers trust by itself
	Key    crypto.Signer       // of CA, P-384
	Chain  []*x509.Certificate // from CA's issuer upwards, to be told to hosts
	Roots  func(context.Context) ([]*x509.Certificate, error)
	Policy Policy
	Ledger Ledger
	Now    func() time.Time // nil: time.Now
	// Admit lets a request be read, or says that it came too early. enter lets it in
	// when it has been read, or says that there are too many; done is told whether it
	// was refused then. nil lets all in.
	Admit func(*http.Request) (enter func() (done func(refused bool), err error), err error)
}

// Service enrols hosts. It is safe for concurrent use.
type Service struct{ opts Options }

// New checks the options and returns a service.
func New(opts Options) (*Service, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Admit == nil {
		opts.Admit = func(*http.Request) (func() (func(bool), error), error) {
			return func() (func(bool), error) { return func(bool) {}, nil }, nil
		}
	}
	if opts.CA == nil || opts.Key == nil || opts.Roots == nil || opts.Policy == nil || opts.Ledger == nil {
		return nil, errors.New("enrolment service: an option is missing")
	}
	key, ok := opts.Key.Public().(*ecdsa.PublicKey)
	switch {
	case !ok || key.Curve != elliptic.P384():
		return nil, errors.New("enrolment service: the authority's key is not on P-384")
	case !key.Equal(opts.CA.PublicKey):
		return nil, errors.New("enrolment service: the authority's certificate is of another key")
	case !opts.CA.IsCA || opts.CA.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("enrolment service: the certificate is not an authority's")
	}
	return &Service{opts}, nil
}

// pending is what the service remembers of a challenge. Of the secret it is the
// SHA-256: who reads the ledger cannot answer.
type pending struct {
	Secret    []byte   `json:"secret_sha256"`
	HostID    string   `json:"host_id"`
	AK        []byte   `json:"ak"`
	EK        []byte   `json:"ek"` // certificate, DER
	Simulated bool     `json:"simulated"`
	VMs       []string `json:"vms"` // asked for
}

// challengeID keeps a ledger's challenges of other kinds from being answered here.
func challengeID(id string) string { return "host-enrolment:" + id }

// Begin challenges a host. The errors of a decision are ErrRefused.
func (s *Service) Begin(ctx context.Context, r Request) (Challenge, error) {
	now := s.opts.Now()
	if err := r.check(); err != nil {
		return Challenge{}, fmt.Errorf("begin enrolment: %w: %w", ErrRefused, err)
	}
	ek, akName, err := s.keys(ctx, r.Enrolment, now)
	if err != nil {
		return Challenge{}, fmt.Errorf("begin enrolment of %q: %w", r.Enrolment.HostID, err)
	}
	if _, err := s.allowed(ctx, Host{r.Enrolment.HostID, ek, r.Enrolment.Simulated}, r.VMs); err != nil {
		return Challenge{}, fmt.Errorf("begin enrolment of %q: %w", r.Enrolment.HostID, err)
	}
	c, err := s.challenge(ctx, r, ek, akName, now)
	if err != nil {
		return Challenge{}, fmt.Errorf("begin enrolment of %q: %w", r.Enrolment.HostID, err)
	}
	return c, nil
}

// keys believes nothing that a host says about itself but its two keys, and that
// only as far as its vendor vouches for the one and the other is of the kind that
// signs what its TPM says.
func (s *Service) keys(ctx context.Context, e Enrolment, now time.Time) (ek *x509.Certificate, akName []byte, err error) {
	roots, err := s.opts.Roots(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read the vendors' roots: %w", err)
	}
	if ek, err = quote.CheckEKChain(e.EKChain, roots, now); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if akName, err = quote.AKName(e.AK); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	ekName, err := quote.EKName(ek.PublicKey)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if quote.HostID(ekName, akName) != e.HostID {
		return nil, nil, fmt.Errorf("%w: the host's id is not that of its EK", ErrRefused)
	}
	return ek, akName, nil
}

func (s *Service) allowed(ctx context.Context, h Host, asked []string) ([]string, error) {
	limit, err := s.opts.Policy.Allow(ctx, h)
	if err != nil {
		return nil, refusedIf(ErrNotAllowed, err)
	}
	vms, err := grant(asked, limit)
	return vms, refusedIf(ErrNotAllowed, err)
}

// refusedIf makes err a refusal when it is a decision, and not a breakdown.
func refusedIf(decision, err error) error {
	if errors.Is(err, decision) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

func (s *Service) challenge(ctx context.Context, r Request, ek *x509.Certificate, akName []byte, now time.Time) (Challenge, error) {
	secret, id := make([]byte, secretSize), make([]byte, 16)
	rand.Read(secret)
	rand.Read(id)
	defer clear(secret)
	credential, encrypted, err := quote.MakeCredential(ek.PublicKey, akName, secret)
	if err != nil {
		return Challenge{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	sum := sha256.Sum256(secret)
	data, err := json.Marshal(pending{sum[:], r.Enrolment.HostID, r.Enrolment.AK, ek.Raw, r.Enrolment.Simulated, r.VMs})
	if err != nil {
		return Challenge{}, err
	}
	c := Challenge{ID: hex.EncodeToString(id), Credential: credential, EncryptedSecret: encrypted, Expires: now.UTC().Add(ChallengeTime).Truncate(time.Second)}
	return c, s.opts.Ledger.Offer(ctx, challengeID(c.ID), data, c.Expires, now)
}

// Issued is a certificate that was given out, and to whom.
type Issued struct {
	Certificate
	HostID, AKName string
	VMs            []string
	NotAfter       time.Time
}

// Finish certifies the attestation key of a host that answered. An answer spends
// its challenge, whether it is right or not. The errors of a decision are
// ErrRefused.
func (s *Service) Finish(ctx context.Context, a Answer) (Issued, error) {
	now := s.opts.Now()
	data, err := s.opts.Ledger.Take(ctx, challengeID(a.ID), now)
	if err != nil {
		return Issued{}, fmt.Errorf("finish enrolment: %w", refusedIf(ledger.ErrChallenge, err))
	}
	var p pending
	if err := json.Unmarshal(data, &p); err != nil {
		return Issued{}, fmt.Errorf("finish enrolment: read the challenge: %w", err)
	}
	issued, err := s.finish(ctx, p, a.Secret, now)
	if err != nil {
		return Issued{}, fmt.Errorf("finish enrolment of %q: %w", p.HostID, err)
	}
	return issued, nil
}

func (s *Service) finish(ctx context.Context, p pending, secret Secret, now time.Time) (Issued, error) {
	sum := sha256.Sum256(secret)
	if subtle.ConstantTimeCompare(sum[:], p.Secret) != 1 {
		return Issued{}, fmt.Errorf("%w: another secret than the challenge's", ErrRefused)
	}
	ek, err := x509.ParseCertificate(p.EK)
	if err != nil {
		return Issued{}, err
	}
	// The administrator may have thought better of it since Begin.
	vms, err := s.allowed(ctx, Host{p.HostID, ek, p.Simulated}, p.VMs)
	if err != nil {
		return Issued{}, err
	}
	akName, err := quote.AKName(p.AK)
	if err != nil {
		return Issued{}, err
	}
	cert, err := s.issue(p.AK, p.HostID, vms, now)
	if err != nil {
		return Issued{}, err
	}
	// The last step, so that what the log says was given out was.
	if err := s.opts.Ledger.Enrol(ctx, p.HostID, hex.EncodeToString(akName), now); err != nil {
		return Issued{}, refusedIf(ledger.ErrRevoked, err)
	}
	i := Issued{Certificate{cert.Raw, [][]byte{s.opts.CA.Raw}}, p.HostID, hex.EncodeToString(akName), vms, cert.NotAfter}
	for _, c := range s.opts.Chain {
		i.Issuers = append(i.Issuers, c.Raw)
	}
	return i, nil
}
