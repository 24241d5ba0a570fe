package quote

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// HostLabel separates the hash that a host signs for one proof from every other
// use of its attestation key.
const HostLabel = "ovsa-host-quote/v1\x00"

// Limits on what a guest and its host say to each other, in bytes.
const (
	MaxHostRequest = 1 << 10
	MaxHostAnswer  = 8 << 10
)

// HostQuote is a host's word for one proof: a quote of its TPM by the key of its
// record. Whoever has only a copy of a vTPM and the record in it cannot get one.
type HostQuote struct {
	Attest    []byte `json:"attest"`    // TPMS_ATTEST, no size prefix
	Signature []byte `json:"signature"` // TPMT_SIGNATURE
	PCRs      []PCR  `json:"pcrs"`      // SHA-256 bank, ascending index
}

// HostExtraData is the qualifying data of a HostQuote: SHA-256 of HostLabel, then
// the nonce of the proof, the UUID of the virtual machine that asks in lower case,
// the digest of the record that the host wrote for it last, and the TPM name of
// the guest's attestation key, each after its length as 4 bytes big-endian.
func HostExtraData(nonce []byte, vm string, record [32]byte, ak []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(HostLabel))
	for _, field := range [][]byte{nonce, []byte(vm), record[:], ak} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(field))))
		h.Write(field)
	}
	return [32]byte(h.Sum(nil))
}

// HostRequest is what a guest asks its host. Which virtual machine asks the host
// knows by itself.
type HostRequest struct {
	Version int    `json:"version"` // 1
	Nonce   []byte `json:"nonce"`   // of the proof
	AK      []byte `json:"ak"`      // TPM name of the guest's attestation key
}

// HostAnswer is what the host says to that: a quote, or why there is none.
type HostAnswer struct {
	Version int        `json:"version"` // 1
	Nonce   []byte     `json:"nonce"`   // the request's
	Quote   *HostQuote `json:"quote,omitempty"`
	Problem Problem    `json:"problem,omitempty"`
}

// Problem is why a host does not quote.
type Problem string

const (
	ProblemRequest Problem = "bad_request" // not a HostRequest
	ProblemRate    Problem = "slow_down"   // this guest asks too often
	ProblemHost    Problem = "unavailable" // the host's log says why
)

// Marshal returns the one encoding of r, without the newline that ends it on the
// port.
func (r HostRequest) Marshal() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("encode host request: %w", err)
	}
	return marshal(r, MaxHostRequest)
}

// ParseHostRequest parses what HostRequest.Marshal made, as strictly as
// ParseRecord.
func ParseHostRequest(b []byte) (HostRequest, error) {
	var r HostRequest
	err := unmarshal(b, &r, MaxHostRequest)
	if err == nil {
		err = r.check()
	}
	if err != nil {
		return HostRequest{}, fmt.Errorf("parse host request: %w", err)
	}
	return r, nil
}

func (r HostRequest) check() error {
	switch {
	case r.Version != 1:
		return fmt.Errorf("version %d, want 1", r.Version)
	case len(r.Nonce) < MinNonce || len(r.Nonce) > MaxNonce:
		return fmt.Errorf("a nonce of %d bytes, want %d to %d", len(r.Nonce), MinNonce, MaxNonce)
	case len(r.AK) != 2+sha256.Size || r.AK[0] != 0 || r.AK[1] != algSHA256:
		return errors.New("the attestation key's name is not one with SHA-256")
	}
	return nil
}

// Marshal returns the one encoding of a, without the newline that ends it on the
// port.
func (a HostAnswer) Marshal() ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("encode host answer: %w", err)
	}
	return marshal(a, MaxHostAnswer)
}

// ParseHostAnswer parses what HostAnswer.Marshal made, as strictly as ParseRecord.
func ParseHostAnswer(b []byte) (HostAnswer, error) {
	var a HostAnswer
	err := unmarshal(b, &a, MaxHostAnswer)
	if err == nil {
		err = a.check()
	}
	if err != nil {
		return HostAnswer{}, fmt.Errorf("parse host answer: %w", err)
	}
	return a, nil
}

func (a HostAnswer) check() error {
	switch {
	case a.Version != 1:
		return fmt.Errorf("version %d, want 1", a.Version)
	case (a.Quote == nil) == (a.Problem == ""):
		return errors.New("neither a quote nor a problem, or both")
	case len(a.Problem) > 64:
		return errors.New("the problem has over 64 bytes")
	case len(a.Nonce) > MaxNonce:
		return fmt.Errorf("a nonce of %d bytes", len(a.Nonce))
	}
	return nil
}

// hostVerifier verifies the host's word in evidence, by the key and for the
// machine of the record, which was verified before.
type hostVerifier struct {
	*guestVerifier
	record Result
	quote  attest
	key    public
}

// verifyHost verifies the host's word, or says that there is none.
func (v *guestVerifier) verifyHost(record Result) []Step {
	h := &hostVerifier{guestVerifier: v, record: record}
	if v.evidence.Host == nil {
		first := Step{StepHostNow, Skipped, "the evidence has none"}
		if v.policy.RequireHost {
			first = Step{StepHostNow, Failed, "the evidence has none: this guest has no host behind it that answers"}
		}
		return append([]Step{first}, skipped(h.checks()[1:], StepHostNow+" is not there")...)
	}
	steps := runChecks(h.checks())
	if steps[0].Status == Passed {
		v.hostClock = &h.quote.clock
	}
	return steps
}

func (h *hostVerifier) checks() []check {
	return []check{
		{StepHostNow, true, h.parse},
		{StepHostNowSign, true, h.checkSignature},
		{StepHostNowExtra, true, h.checkExtraData},
		{StepHostNowPCRs, true, h.checkPCRs},
		{StepHostNowMeasured, false, func() error { return checkMeasured(h.evidence.Host.PCRs) }},
		{StepHostNowClock, false, h.checkClock},
	}
}

func (h *hostVerifier) parse() (err error) {
	if h.record.Record == nil || h.record.Clock == nil {
		return errors.New("not to be judged without the host's record")
	}
	if h.key, err = parsePublic(h.record.Record.AK); err != nil {
		return fmt.Errorf("parse the record's key: %w", err)
	}
	if err := h.key.checkAK(); err != nil {
		return err
	}
	if h.quote, err = parseAttest(h.evidence.Host.Attest, typeQuote); err != nil {
		return err
	}
	return h.quote.check()
}

func (h *hostVerifier) checkSignature() error {
	return verifySignature(h.key, h.evidence.Host.Signature, h.evidence.Host.Attest)
}

func (h *hostVerifier) checkExtraData() error {
	want := HostExtraData(h.nonce, h.record.Claims.VMUUID, Digest(h.evidence.Record), objectName(h.evidence.AK))
	if subtle.ConstantTimeCompare(want[:], h.quote.extra) != 1 {
		return errors.New("the host spoke for another proof, another virtual machine, another record or another guest's key")
	}
	return nil
}

func (h *hostVerifier) checkPCRs() error {
	want := h.policy.Record.PCRs
	if want == nil {
		want = DefaultPCRs()
	}
	if err := checkSelection(h.quote.selection, want); err != nil {
		return err
	}
	return checkPCRs(h.evidence.Host.PCRs, want, h.quote.digest, h.key.hash)
}

// checkClock insists that the host's TPM is where it was when it made the record,
// or further: the same boot or a later one.
func (h *hostVerifier) checkClock() error {
	if h.quote.safe > 1 {
		return errors.New("not a TPM's boolean")
	}
	now, then := h.quote.clock, *h.record.Clock
	// A reset counts; the clock may go back with it, when the power was lost.
	if now.ResetCount < then.ResetCount || now.ResetCount == then.ResetCount && !now.After(then) {
		return fmt.Errorf("%v is before the record's %v: an earlier boot of the host", h.quote.clock, *h.record.Clock)
	}
	if h.quote.safe != 1 {
		return warn("the host's TPM was not shut down in order and its clock may have gone back")
	}
	return nil
}
