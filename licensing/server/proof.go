package server

import (
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// proof is a guest's evidence, verified.
type proof struct {
	quote.Result
	guest  string // hex of its endorsement key's TPM name
	hostAK []byte // TPM name
	key    *ecdh.PublicKey
	host   hostState
}

// hostState is what a host is in, by its word for this proof, or by its record
// where no such word is demanded and none was given.
type hostState struct {
	pcrs  []quote.PCR
	clock quote.Clock
}

// prove verifies that the guest which answered the challenge runs in a VM that an
// enrolled host vouches for, and that the release key is in its TPM, under the
// state that it quotes.
func (req *request) prove(c challenge, in *exchange.Finish, fresh HostFresh) (proof, error) {
	vm, err := claimedVM(in.Evidence)
	if err != nil {
		return proof{}, err
	}
	p := proof{Result: quote.VerifyEvidence(in.Evidence, c.Nonce, quote.EvidencePolicy{
		Record: quote.Policy{
			Trust: req.Vendors, AKIssuers: req.Attestation, VM: vm, Now: req.now, Chains: req.chains,
		},
		Activated: &quote.Activation{AKName: c.AKName, EKCert: c.EK}, RequireHost: fresh == HostRequired,
	})}
	if err := failedStep(p.Result); err != nil {
		return proof{}, err
	}
	if p.AKCert == nil || p.Clock == nil || p.GuestClock == nil || p.Step(quote.StepActivation).Status != quote.Passed {
		return proof{}, errors.New("evidence: the host is not enrolled, or the guest was not challenged")
	}
	p.host = hostState{p.Record.PCRs, *p.Clock}
	if p.HostClock != nil {
		p.host = hostState{p.Evidence.Host.PCRs, *p.HostClock}
	}
	if string(quote.ReleaseName(in.Certification.Public)) != string(c.ReleaseName) {
		return proof{}, errors.New("another release key than the challenge's")
	}
	policy, err := quote.PolicyPCRDigest(p.Evidence.PCRs)
	if err != nil {
		return proof{}, err
	}
	if p.key, err = quote.VerifyCertify(in.Certification, p.Evidence.AK, c.Nonce, policy); err != nil {
		return proof{}, err
	}
	if p.hostAK, err = quote.AKName(p.Record.AK); err != nil {
		return proof{}, err
	}
	ek, err := quote.EKCertKey(c.EK)
	if err != nil {
		return proof{}, err
	}
	name, err := quote.EKName(ek)
	if err != nil {
		return proof{}, err
	}
	p.guest = hex.EncodeToString(name)
	return p, nil
}

// stepError is a step of the evidence's verification that failed.
type stepError struct {
	step  string
	cause error
}

func (e *stepError) Error() string { return "evidence: " + e.cause.Error() }

// stepOf is the step that failed, if an error is about one.
func stepOf(err error) string {
	var failed *stepError
	if errors.As(err, &failed) {
		return failed.step
	}
	return ""
}

// failedStep refuses evidence by the first step that failed.
func failedStep(r quote.Result) error {
	err := r.Err()
	if err == nil {
		return nil
	}
	failed := &stepError{cause: err}
	for _, s := range r.Steps {
		if s.Status == quote.Failed {
			failed.step = s.Name
			break
		}
	}
	check := CheckEvidence
	switch strings.TrimPrefix(failed.step, quote.PrefixOfRecord) {
	case quote.StepEnrolled, quote.StepHostEK, quote.StepVMAllowed:
		check = CheckHost
	}
	return &refusal{exchange.NotAllowed, check, failed}
}

// young refuses a host's record that is older than age, unless that is 0. The host
// says when it made it, and has signed that.
func (p proof) young(now time.Time, age time.Duration) error {
	if age == 0 {
		return nil
	}
	made, err := time.Parse(time.RFC3339, p.Claims.Time)
	if err != nil {
		return fmt.Errorf("the host's record: %w", err)
	}
	if old := now.Sub(made); old > age {
		return refuse(exchange.NotAllowed, CheckAge, "the host's record is %s old, and may be %s: start the guest again", old.Round(time.Second), age)
	}
	return nil
}

// claimedVM is the VM that the record in evidence is about. Any VM of an enrolled
// host will do, as far as the host's certificate allows it: the record says which
// endorsement keys it has, and the guest has proven one of them.
func claimedVM(evidence []byte) (string, error) {
	e, err := quote.ParseEvidence(evidence)
	if err != nil {
		return "", fmt.Errorf("evidence: %w", err)
	}
	record, err := quote.ParseRecord(e.Record)
	if err != nil {
		return "", fmt.Errorf("record: %w", err)
	}
	claims, err := quote.ParseClaims(record.Claims)
	if err != nil {
		return "", fmt.Errorf("claims: %w", err)
	}
	return claims.VMUUID, nil
}
