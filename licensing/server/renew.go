package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// renew makes a lease last longer.
func (s *Server) renew(ctx context.Context, req *request, in *exchange.Renew) (*exchange.Renewed, error) {
	key, err := req.authenticate(exchange.PathRenew, in)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if err := s.trusted(ctx, req, in.Lease, in.Guest); err != nil {
		return nil, err
	}
	lease, err := s.ledger.Renew(ctx, in.Lease, in.Guest, s.opts.Lease, s.opts.ProofEvery, req.now)
	if err != nil {
		return nil, err
	}
	expires := second(lease.Expires)
	if !req.now.Before(expires) { // as guests are told it
		return nil, fmt.Errorf("%w: less than a second is left of it", ledger.ErrNoLease)
	}
	return &exchange.Renewed{Expires: expires, MAC: exchange.RenewedMAC(key, in.Lease, req.exporter, expires)}, nil
}

// end takes a lease back.
func (s *Server) end(ctx context.Context, req *request, in *exchange.Renew) (*exchange.Nothing, error) {
	key, err := req.authenticate(exchange.PathEnd, in)
	if err != nil {
		return nil, err
	}
	clear(key)
	err = s.ledger.End(ctx, in.Lease, in.Guest, req.now)
	if err != nil && !errors.Is(err, ledger.ErrNoLease) { // one that is over has ended
		return nil, err
	}
	return &exchange.Nothing{}, nil
}

// authenticate insists that a request is by whom the lease was given to, and
// returns the key that renews it, which is the caller's to wipe. The server's keys
// before the present one count, too: leases live on while they are replaced.
func (req *request) authenticate(path string, in *exchange.Renew) ([]byte, error) {
	req.log = req.log.With("lease", in.Lease, "guest", in.Guest)
	req.about.Lease, req.about.Guest = in.Lease, in.Guest
	for _, secret := range req.renewal {
		key, err := renewalKey(secret, in.Lease, in.Guest)
		if err != nil {
			return nil, err
		}
		if hmac.Equal(exchange.RenewalMAC(key, path, in.Lease, req.exporter), in.MAC) {
			req.about.proven = true
			return key, nil
		}
		clear(key)
	}
	return nil, refuse(exchange.LeaseOver, CheckLease, "the MAC is wrong")
}

// second is a time as guests are told it.
func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// renewalSecret is what the keys that renew leases are made from. It is made from
// a key-release key, so that all servers which have that know it, and a thief of
// the database does not.
func renewalSecret(release *ecdsa.PrivateKey) ([]byte, error) {
	d, err := release.Bytes() // not ours to wipe: it may be the key itself
	if err != nil {
		return nil, fmt.Errorf("renewal secret: %w", err)
	}
	return hkdf.Extract(sha256.New, d, nil)
}

// renewalKey authenticates who was given a lease. It is the caller's to wipe.
func renewalKey(secret []byte, lease, guest string) ([]byte, error) {
	key, err := hkdf.Expand(sha256.New, secret, "ovsa-lease-renewal/v1\x00"+lease+"\x00"+guest, exchange.RenewalSize)
	if err != nil {
		return nil, fmt.Errorf("renewal key: %w", err)
	}
	return key, nil
}

// sign makes the document of a lease.
func (s *Server) sign(req *request, l ledger.Lease) ([]byte, error) {
	doc := licensing.Lease{
		ID: l.ID, LicenceGUID: licensing.GUID(l.GUID), ModelGUID: licensing.GUID(l.Model), Guest: l.Guest,
		Issued: second(l.Issued), Expires: second(l.Expires), RenewUntil: second(l.Issued.Add(s.opts.ProofEvery)),
	}
	if !doc.Issued.Before(doc.Expires) {
		return nil, fmt.Errorf("%w in less than a second", ledger.ErrExpired)
	}
	if doc.RenewUntil.Before(doc.Expires) {
		doc.RenewUntil = doc.Expires
	}
	return licensing.Sign(doc, req.Signer, []*x509.Certificate{req.Certificate})
}
