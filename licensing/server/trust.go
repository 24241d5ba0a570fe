package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// trustFor is how long a verdict on a licence's parties serves for renewals. Their
// stores are directories, which are read for each verdict.
const trustFor = 5 * time.Second

// maxHoldings is how many leases are remembered; the others are looked up again.
const maxHoldings = 1 << 16

// holding is what a lease was given for.
type holding struct {
	ledger.Key
	host quote.HostCerts
}

// hostCerts is how a host's certificates are stored.
type hostCerts struct {
	AK []byte   `json:"ak"`
	EK [][]byte `json:"ek"`
}

// certs are those by which the host of a proof is believed.
func (p proof) certs() ([]byte, error) {
	return json.Marshal(hostCerts{AK: p.Record.AKCert, EK: p.Record.EKChain})
}

// trusted refuses a lease to whom it would not be given any more: an ISV, a
// customer, the maker of the host's TPM or who enrolled the host has lost the
// server's trust since, or the certificates are over. The lease then ends at once.
// What nobody can say now is no such refusal.
func (s *Server) trusted(ctx context.Context, req *request, lease, guest string) error {
	h, err := s.holding(ctx, lease)
	if err != nil {
		return err
	}
	req.about.Licence, req.about.Model = licensing.GUID(h.GUID), licensing.GUID(h.Model)
	err = h.host.Check(quote.Policy{Trust: req.Vendors, AKIssuers: req.Attestation, Now: req.now, Chains: req.chains})
	if err != nil {
		err = refuse(exchange.Revoked, CheckHost, "host: %w", err)
	} else {
		err = s.believed(ctx, req, h.Key)
	}
	if codeOf(err) == exchange.Revoked {
		if endErr := s.ledger.End(ctx, lease, guest, req.now); endErr != nil && !errors.Is(endErr, ledger.ErrNoLease) {
			return errors.Join(err, endErr)
		}
	}
	return err
}

// holding is what a lease was given for. One about whose host nothing is known was
// given by an older version: it takes another proof to go on.
func (s *Server) holding(ctx context.Context, lease string) (holding, error) {
	if h, ok := s.holdings.Get(lease); ok {
		return h, nil
	}
	stored, err := s.ledger.Holding(ctx, lease)
	if err != nil {
		return holding{}, err
	}
	if stored.Certs == nil {
		return holding{}, fmt.Errorf("%w: nothing is known of its host", ledger.ErrNoLease)
	}
	var certs hostCerts
	if err := json.Unmarshal(stored.Certs, &certs); err != nil {
		return holding{}, fmt.Errorf("stored certificates of a host: %w", err)
	}
	h := holding{Key: stored.Key}
	if h.host, err = quote.ParseHostCerts(certs.AK, certs.EK); err != nil {
		return holding{}, fmt.Errorf("stored certificates of a host: %w", err)
	}
	s.holdings.Add(lease, h)
	return h, nil
}

// believed asks whether a licence's parties are believed now, once in a while.
func (s *Server) believed(ctx context.Context, req *request, key ledger.Key) error {
	if until, ok := req.believed.Get(key); ok && req.now.Before(until) {
		return nil
	}
	_, err := s.licence(ctx, req, licensing.GUID(key.GUID), licensing.GUID(key.Model))
	if errors.Is(err, ledger.ErrNoLicence) || errors.Is(err, ledger.ErrArchived) {
		return nil // then there is no lease to renew either
	}
	var r *refusal
	if errors.As(err, &r) && r.code == exchange.NotAllowed {
		return refuse(exchange.Revoked, r.check, "%w", err)
	}
	if err == nil {
		req.believed.Add(key, req.now.Add(trustFor))
	}
	return err
}
