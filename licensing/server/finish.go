package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// finish judges a proof and, when all of it is good, claims a lease and releases
// the server's half of the key. What is cheap comes first, and whatever is wrong,
// the challenge is spent.
func (s *Server) finish(ctx context.Context, req *request, in *exchange.Finish) (*exchange.Grant, error) {
	c, err := s.challenged(ctx, req, in)
	if err != nil {
		return nil, err
	}
	req.of(c.Licence, c.Model)
	if err := s.limits.take(req, "ek "+string(c.EK), s.limits.PerEK); err != nil {
		return nil, err
	}
	lic, err := s.licence(ctx, req, c.Licence, c.Model)
	if err != nil {
		return nil, err
	}
	if err := licensing.VerifyBytes(lic.secondary, licensing.PurposePossession, bytes.NewReader(c.Nonce), in.Possession); err != nil {
		return nil, refuse(exchange.NotAllowed, CheckPossession, "customer's possession: %w", err)
	}
	req.about.proven = true
	if err := s.limits.take(req, "licence "+string(c.Licence), s.limits.PerLicence); err != nil {
		return nil, err
	}
	p, err := req.prove(c, in, s.opts.HostFresh)
	if err == nil {
		err = p.young(req.now, s.opts.RecordAge)
	}
	if err != nil {
		return nil, s.unproven(ctx, req, c, lic, "", err)
	}
	req.log = req.log.With("guest", p.guest, "host", p.Claims.HostID, "vm", p.Claims.VMUUID)
	req.about.Guest, req.about.Host, req.about.VM = p.guest, p.Claims.HostID, p.Claims.VMUUID
	req.about.State = &State{p.Evidence.PCRs, p.host.pcrs, p.Evidence.EventLog}
	return s.release(ctx, req, c, lic, p)
}

// unproven refuses what a customer's guest showed, and has the audit log know.
func (s *Server) unproven(ctx context.Context, req *request, c challenge, lic licence, guest string, cause error) error {
	refusal := cause
	if checkOf(cause) == CheckServer { // what does not parse, or is not certified
		refusal = refuse(exchange.NotAllowed, CheckEvidence, "%w", cause)
	}
	f := folded{since: req.now, by: host(req.peer), request: req.id, reason: cause.Error(), claim: ledger.Claim{
		GUID: string(c.Licence), Model: string(c.Model), Guest: guest, Customer: lic.name(),
	}}
	count := s.refusals.count(foldKey{f.claim.GUID, f.claim.Model, guest, checkOf(refusal), stepOf(refusal)}, f)
	if count == 0 {
		return refusal
	}
	if err := s.ledger.Refuse(ctx, f.claim, f.reason, count, req.now); err != nil {
		return errors.Join(refusal, err)
	}
	return refusal
}

// challenged takes the challenge that a Finish answers, and refuses an answer
// from another connection or for another release key.
func (s *Server) challenged(ctx context.Context, req *request, in *exchange.Finish) (challenge, error) {
	data, err := s.ledger.Take(ctx, in.ID, req.now)
	if err != nil {
		return challenge{}, err
	}
	var c challenge
	if err := json.Unmarshal(data, &c); err != nil {
		return challenge{}, fmt.Errorf("stored challenge: %w", err)
	}
	digest := sha256.Sum256(in.Secret)
	if subtle.ConstantTimeCompare(digest[:], c.Secret) != 1 {
		return challenge{}, refuse(exchange.NotAllowed, CheckTPM, "the challenge's secret is wrong: its keys are not in one TPM")
	}
	if !bytes.Equal(req.exporter, c.Exporter) {
		return challenge{}, refuse(exchange.ChallengeOver, CheckChallenge, "another connection than the challenge's")
	}
	return c, nil
}

// release gives a proven guest its half under the first of the licence's TCBs
// that it is in and that was not revoked.
func (s *Server) release(ctx context.Context, req *request, c challenge, lic licence, p proof) (*exchange.Grant, error) {
	half, err := req.half(lic)
	if err != nil {
		return nil, err
	}
	defer half.Wipe()
	lease, err := s.claim(ctx, req, lic, p)
	if errors.Is(err, errState) {
		return nil, s.unproven(ctx, req, c, lic, p.guest, err)
	}
	if err != nil {
		return nil, err
	}
	renewal, err := renewalKey(req.renewal[0], lease.ID, lease.Guest)
	if err != nil {
		return nil, err
	}
	defer clear(renewal)
	plain := append(bytes.Clone(half.Bytes()), renewal...)
	defer clear(plain)
	sealed, err := quote.SealToRelease(p.key, exchange.ReleaseInfo(c.Nonce), plain)
	if err != nil {
		return nil, err
	}
	signed, err := s.sign(req, lease)
	if err != nil {
		return nil, err
	}
	req.log.Info("key released", "lease", lease.ID, "expires", lease.Expires)
	return &exchange.Grant{Sealed: sealed, Lease: signed}, nil
}

// half opens the server's half with whichever of its keys it is for.
func (req *request) half(lic licence) (licensing.Key, error) {
	for _, key := range req.Release {
		if half, err := lic.OpenServerHalf(key); err == nil {
			return half, nil
		}
		if half, err := lic.OpenResealed(lic.resealed, key); err == nil {
			return half, nil
		}
	}
	return licensing.Key{}, errors.New("the licence has no half for this server's key-release keys")
}

var errState = refuse(exchange.NotAllowed, CheckState, "the state of guest and host is none of the licence's TCBs")

func (s *Server) claim(ctx context.Context, req *request, lic licence, p proof) (ledger.Lease, error) {
	refusal := errState
	certs, err := p.certs()
	if err != nil {
		return ledger.Lease{}, err
	}
	for _, tcb := range lic.TCBs {
		if mismatch := tcb.Match(p.Evidence.PCRs, p.host.pcrs); mismatch != nil {
			req.log.Info("not in this TCB", "tcb", tcb.Name, "cause", mismatch.Error())
			continue
		}
		id, err := tcb.ID()
		if err != nil {
			return ledger.Lease{}, err
		}
		lease, err := s.ledger.Claim(ctx, ledger.Claim{
			GUID: string(lic.LicenceGUID), Model: string(lic.ModelGUID), Guest: p.guest, Customer: lic.name(),
			VM: p.Claims.VMUUID, Life: hex.EncodeToString(p.Life), Lineage: p.Claims.Lineage,
			Clock: ledger.Clock{Resets: p.GuestClock.ResetCount, Restarts: p.GuestClock.RestartCount, Millis: p.GuestClock.Millis},
			Host:  ledger.HostBoot{ID: p.Claims.HostID, AK: hex.EncodeToString(p.hostAK), Resets: p.host.clock.ResetCount, Certs: certs},
			Subjects: []ledger.Subject{
				{Kind: ledger.KindCustomer, ID: lic.customer},
				{Kind: ledger.KindHost, ID: p.Claims.HostID},
				{Kind: ledger.KindAK, ID: hex.EncodeToString(p.hostAK)},
				{Kind: ledger.KindTCB, ID: id},
				{Kind: ledger.KindGuest, ID: p.guest},
			},
			Expires: req.now.Add(s.opts.Lease),
		}, req.now)
		if err == nil {
			s.keepLog(ctx, req, id, p.Evidence.EventLog)
		}
		if !errors.Is(err, ledger.ErrRevoked) {
			return lease, err
		}
		refusal = err
	}
	return ledger.Lease{}, refusal
}
