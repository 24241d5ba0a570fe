package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// errLocal is what no server can help with.
var errLocal = errors.New("the guest's TPM")

// proof is one attempt with one server.
type proof struct {
	licence  licensing.Licence
	customer Customer
	options  Options
	half     licensing.Key // the customer's
}

func (p *proof) run(ctx context.Context, server licensing.Server) (*Lease, error) {
	self, err := guest.Identify(ctx, p.options.TPM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLocal, err)
	}
	key, err := guest.NewReleaseKey(ctx, p.options.TPM, quote.DefaultGuestPCRs())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLocal, err)
	}
	defer key.Close()
	s, err := dial(ctx, server, p.options.Now)
	if err != nil {
		return nil, err
	}
	lease, err := p.exchange(ctx, s, self, key)
	if err != nil {
		s.close()
		return nil, err
	}
	return lease, nil
}

func (p *proof) exchange(ctx context.Context, s *session, self guest.Identity, key *guest.ReleaseKey) (*Lease, error) {
	var challenge exchange.Challenge
	if err := s.do(ctx, exchange.PathBegin, exchange.Begin{
		Licence: p.licence.LicenceGUID, Model: p.licence.ModelGUID, Customer: p.customer.Certificate.Raw,
		AK: self.AK, EKs: self.EKs, ReleaseKey: key.Public(),
	}, &challenge); err != nil {
		return nil, err
	}
	nonce := exchange.Nonce(challenge.Nonce, s.exporter, key.Name())
	finish, err := p.answer(ctx, challenge, nonce, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLocal, err)
	}
	var grant exchange.Grant
	if err := s.do(ctx, exchange.PathFinish, finish, &grant); err != nil {
		return nil, err
	}
	return p.open(ctx, s, self, key, nonce, grant)
}

// answer has the TPM and the customer's key do what the challenge asks for.
func (p *proof) answer(ctx context.Context, c exchange.Challenge, nonce []byte, key *guest.ReleaseKey) (exchange.Finish, error) {
	secret, err := guest.Activate(ctx, p.options.TPM, c.Credential, c.EncryptedSecret)
	if err != nil {
		return exchange.Finish{}, err
	}
	certification, err := key.Certify(ctx, nonce)
	if err != nil {
		return exchange.Finish{}, err
	}
	evidence, err := guest.Make(ctx, p.options.TPM, nonce, p.options.EventLog, p.options.Host)
	if err != nil {
		return exchange.Finish{}, err
	}
	document, err := evidence.Marshal()
	if err != nil {
		return exchange.Finish{}, err
	}
	possession, err := licensing.SignBytes(p.customer.Secondary, licensing.PurposePossession, bytes.NewReader(nonce))
	if err != nil {
		return exchange.Finish{}, err
	}
	return exchange.Finish{ID: c.ID, Secret: secret, Evidence: document, Certification: certification, Possession: possession}, nil
}

// open takes the server's half out of the grant and makes the model's key of it.
func (p *proof) open(ctx context.Context, s *session, self guest.Identity, key *guest.ReleaseKey, nonce []byte, grant exchange.Grant) (*Lease, error) {
	ek, err := quote.EKCertKey(self.EKs[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLocal, err)
	}
	name, err := quote.EKName(ek)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLocal, err)
	}
	l := &Lease{session: s, server: s.server, licence: p.licence, options: p.options, guest: hex.EncodeToString(name)}
	if l.document, err = l.verify(grant.Lease); err != nil {
		return nil, err
	}
	plain, err := key.Open(ctx, exchange.ReleaseInfo(nonce), grant.Sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLocal, err)
	}
	half, renewal, err := takeHalf(plain)
	if err != nil {
		return nil, err
	}
	defer half.Wipe()
	l.renewal = renewal
	l.key = licensing.Join(p.half, half)
	return l, nil
}

// takeHalf takes apart what a grant seals, and wipes it: the server's half of the key,
// and the key that renews the lease.
func takeHalf(plain []byte) (half, renewal licensing.Key, err error) {
	defer clear(plain)
	if len(plain) != licensing.KeySize+exchange.RenewalSize {
		return licensing.Key{}, licensing.Key{}, fmt.Errorf("%w: a half of %d bytes", ErrLease, len(plain))
	}
	if renewal, err = licensing.TakeKey(plain[licensing.KeySize:]); err != nil {
		return licensing.Key{}, licensing.Key{}, err
	}
	half, err = licensing.TakeKey(plain[:licensing.KeySize])
	return half, renewal, err
}
