package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// challenge is what the server remembers between a Begin and its Finish.
type challenge struct {
	Licence     licensing.GUID `json:"licence"`
	Model       licensing.GUID `json:"model"`
	Secret      []byte         `json:"secret"` // SHA-256
	Nonce       []byte         `json:"nonce"`  // exchange.Nonce, which the exporter and the release key are in
	AKName      []byte         `json:"ak_name"`
	EK          []byte         `json:"ek"` // certificate, DER
	ReleaseName []byte         `json:"release_name"`
	Exporter    []byte         `json:"exporter"` // of the connection
}

// begin challenges a guest's TPM. What it says of itself is not believed yet.
func (s *Server) begin(ctx context.Context, req *request, in *exchange.Begin) (*exchange.Challenge, error) {
	req.of(in.Licence, in.Model)
	stored, err := s.ledger.Licence(ctx, string(in.Licence), string(in.Model))
	if err != nil {
		return nil, err
	}
	secondary, err := x509.ParseCertificates(stored.Secondary)
	if err != nil {
		return nil, fmt.Errorf("stored certificate: %w", err)
	}
	if !bytes.Equal(secondary[0].Raw, in.Customer) {
		return nil, refuse(exchange.NotAllowed, CheckPossession, "another customer's certificate")
	}
	akName, err := quote.AKName(in.AK)
	if err != nil {
		return nil, refuse(exchange.NotAllowed, CheckTPM, "%w", err)
	}
	ek, err := quote.EKCertKey(in.EKs[0])
	if err != nil {
		return nil, refuse(exchange.NotAllowed, CheckTPM, "%w", err)
	}
	secret, nonce := make([]byte, exchange.SecretSize), make([]byte, exchange.NonceSize)
	rand.Read(secret)
	rand.Read(nonce)
	credential, encrypted, err := quote.MakeCredential(ek, akName, secret)
	if err != nil {
		return nil, refuse(exchange.NotAllowed, CheckTPM, "%w", err)
	}
	digest := sha256.Sum256(secret)
	releaseName := quote.ReleaseName(in.ReleaseKey)
	data, err := json.Marshal(challenge{
		in.Licence, in.Model, digest[:], exchange.Nonce(nonce, req.exporter, releaseName), akName, in.EKs[0], releaseName, req.exporter,
	})
	if err != nil {
		return nil, err
	}
	id, expires := newID(), req.now.Add(s.opts.Challenge)
	if err := s.ledger.Offer(ctx, id, data, expires, req.now); err != nil {
		return nil, err
	}
	return &exchange.Challenge{
		ID: id, Nonce: nonce, Credential: credential, EncryptedSecret: encrypted, Expires: expires.UTC(),
	}, nil
}

// of notes which licence a request is about.
func (req *request) of(licence, model licensing.GUID) {
	req.log = req.log.With("licence", licence, "model", model)
	req.about.Licence, req.about.Model = licence, model
}

// licence is a stored licence that its signer and its customer make good today.
type licence struct {
	licensing.Licence
	secondary *x509.Certificate
	customer  string // how revocations name the customer
	resealed  []byte // the server's half, when it was wrapped anew
}

// name is the customer's, as his certificate has it.
func (l licence) name() string {
	cert, err := l.CustomerCertificate()
	if err != nil {
		return ""
	}
	return cert.Subject.String()
}

// licence reads a licence again. Whom its ISV and its customer are known by may
// have changed since it was stored.
func (s *Server) licence(ctx context.Context, req *request, guid, model licensing.GUID) (licence, error) {
	stored, err := s.ledger.Licence(ctx, string(guid), string(model))
	if err != nil {
		return licence{}, err
	}
	signed, err := s.signed(stored.Document)
	if err == nil {
		_, err = req.ISVs.Verify(ctx, signed.Chain)
	}
	if err != nil {
		return licence{}, disbelieve(CheckISV, "licence's signer", err)
	}
	l := licence{Licence: signed.Document, resealed: stored.Half}
	primary, err := req.customer(ctx, stored.Primary)
	if err != nil {
		return licence{}, disbelieve(CheckCustomer, "customer's primary certificate", err)
	}
	if l.secondary, err = req.customer(ctx, stored.Secondary); err != nil {
		return licence{}, disbelieve(CheckCustomer, "customer's secondary certificate", err)
	}
	named, err := l.CustomerCertificate()
	if err != nil {
		return licence{}, err
	}
	if l.LicenceGUID != guid || l.ModelGUID != model || !bytes.Equal(licensing.PinOf(named), licensing.PinOf(primary)) {
		return licence{}, errors.New("the stored licence is another one")
	}
	l.customer = hex.EncodeToString(licensing.PinOf(primary))
	return l, nil
}

// disbelieve refuses a party's certificate; for now, where nobody can say whether it
// was revoked.
func disbelieve(check Check, whose string, err error) error {
	code := exchange.NotAllowed
	if errors.Is(err, pki.ErrStatus) {
		code = exchange.Unavailable
	}
	return refuse(code, check, "%s: %w", whose, err)
}

// signed verifies a licence's signature, once: the same bytes stay signed. Whether
// the signer is believed is asked each time.
func (s *Server) signed(document []byte) (*licensing.Signed[licensing.Licence], error) {
	digest := sha256.Sum256(document)
	if signed, ok := s.verified.Get(digest); ok {
		return signed, nil
	}
	signed, err := licensing.Verify[licensing.Licence](document)
	if err == nil {
		s.verified.Add(digest, signed)
	}
	return signed, err
}

// customer is the first of the certificates in der, which the others lead to
// whom the server trusts.
func (req *request) customer(ctx context.Context, der []byte) (*x509.Certificate, error) {
	chain, err := x509.ParseCertificates(der)
	if err != nil {
		return nil, err
	}
	if _, err := req.Customers.Verify(ctx, chain); err != nil {
		return nil, err
	}
	return chain[0], nil
}
