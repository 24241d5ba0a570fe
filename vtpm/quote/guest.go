package quote

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// EvidencePolicy is what a guest's evidence must satisfy.
type EvidencePolicy struct {
	Record     Policy // for the host's record in it; its EKs are not used
	PCRs       []int  // the exact selection; nil means DefaultGuestPCRs
	Expected   []PCR  // values that these registers must have; nil: not compared
	RequireLog bool   // evidence without an event log is a failure
	Previous   *Clock // of earlier evidence from the same vTPM

	RequireHost bool        // evidence without the host's word for this nonce is a failure
	Activated   *Activation // nil: the guest was not challenged, which is a warning
}

// Activation is that a guest gave back the secret of MakeCredential: this AK and
// the EK of this certificate are in one TPM.
type Activation struct {
	AKName []byte // the challenge's
	EKCert []byte // DER; the challenge was made to its key
}

// Names of the steps of VerifyEvidence, after those of the record.
const (
	StepEvidence      = "evidence"
	StepNonce         = "nonce"
	StepGuestEKs      = "EK certificates are the record's"
	StepGuestEKCerts  = "EK certificates verify"
	StepGuestAttest   = "guest attestation structure"
	StepGuestMagic    = "guest type and magic"
	StepGuestAK       = "guest AK attributes"
	StepGuestSign     = "guest signature"
	StepGuestExtra    = "nonce and record are signed"
	StepGuestSelect   = "guest PCR selection"
	StepGuestDigest   = "guest PCR digest"
	StepGuestMeasured = "guest boot PCRs measured"
	StepGuestExpected = "guest PCR values"
	StepGuestLog      = "guest event log"
	StepGuestClock    = "guest clock"
	StepGuestLife     = "life of the vTPM"
	StepActivation    = "guest AK ↔ EK"

	StepHostNow         = "host now"
	StepHostNowSign     = "host now: signature"
	StepHostNowExtra    = "host now: nonce, virtual machine and keys are signed"
	StepHostNowPCRs     = "host now: PCRs"
	StepHostNowMeasured = "host now: boot PCRs measured"
	StepHostNowClock    = "host now: clock"
)

// VerifyEvidence verifies a guest's evidence for a nonce that the caller gave out
// once. That the guest's AK is in the TPM of the EK takes a challenge before,
// see MakeCredential and the policy's Activated.
func VerifyEvidence(evidence, nonce []byte, p EvidencePolicy) Result {
	v := &guestVerifier{policy: p, bytes: evidence, nonce: nonce}
	if v.policy.PCRs == nil {
		v.policy.PCRs = DefaultGuestPCRs()
	}
	v.policy.Record.EKs = nil
	first := runChecks([]check{
		{StepEvidence, true, v.parse},
		{StepNonce, true, v.checkNonce},
	})
	var record []byte
	if v.evidence != nil {
		record = v.evidence.Record
	}
	r := Verify(record, v.policy.Record)
	v.claims, v.recordOK = r.Claims, r.OK()
	steps := first
	for _, s := range r.Steps {
		s.Name = PrefixOfRecord + s.Name
		if v.evidence == nil {
			s.Status, s.Detail = Skipped, "not run: "+StepEvidence+" failed"
		}
		steps = append(steps, s)
	}
	if v.evidence == nil || (Result{Steps: first}).Err() != nil {
		r.Steps = append(steps, v.skipAll()...)
		return r
	}
	r.Evidence = v.evidence
	r.Steps = append(steps, runChecks(v.checks())...)
	r.Steps = append(r.Steps, v.verifyHost(r)...)
	if r.Step(StepGuestAttest).Status == Passed {
		r.GuestClock = &v.attest.clock
	}
	r.Life, r.HostClock = v.life, v.hostClock
	return r
}

type guestVerifier struct {
	policy   EvidencePolicy
	bytes    []byte
	nonce    []byte
	evidence *Evidence
	claims   Claims
	recordOK bool
	attest   attest
	ak       public

	life      []byte
	hostClock *Clock
}

func (v *guestVerifier) checks() []check {
	return []check{
		{StepGuestEKs, false, v.checkEKs},
		{StepGuestEKCerts, false, v.checkEKCerts},
		{StepGuestAttest, true, v.parseAttest},
		{StepGuestMagic, true, v.checkMagic},
		{StepGuestAK, true, v.checkAK},
		{StepGuestSign, true, v.checkSignature},
		{StepGuestExtra, true, v.checkExtraData},
		{StepGuestSelect, true, v.checkSelection},
		{StepGuestDigest, true, v.checkDigest},
		{StepGuestMeasured, false, func() error { return checkMeasured(v.evidence.PCRs) }},
		{StepGuestExpected, false, v.checkExpected},
		{StepGuestLog, false, v.checkLog},
		{StepGuestClock, false, v.checkClock},
		{StepGuestLife, false, v.checkLife},
		{StepActivation, false, v.checkActivation},
	}
}

func (v *guestVerifier) skipAll() []Step {
	all := append(v.checks(), (&hostVerifier{guestVerifier: v}).checks()...)
	return skipped(all, StepEvidence+" or "+StepNonce+" failed")
}

// skipped are checks that do not run.
func skipped(checks []check, why string) []Step {
	var steps []Step
	for _, c := range checks {
		steps = append(steps, Step{c.name, Skipped, "not run: " + why})
	}
	return steps
}

func (v *guestVerifier) parse() (err error) {
	v.evidence, err = ParseEvidence(v.bytes)
	return err
}

func (v *guestVerifier) checkNonce() error {
	if len(v.nonce) < MinNonce || subtle.ConstantTimeCompare(v.nonce, v.evidence.Nonce) != 1 {
		return errors.New("the evidence is for another nonce")
	}
	return nil
}

// checkEKs insists that the certificates are exactly those in the record.
func (v *guestVerifier) checkEKs() error {
	if len(v.claims.EKs) == 0 {
		return errors.New("the record names none")
	}
	var have []string
	for _, der := range v.evidence.EKs {
		sum := sha256.Sum256(der)
		have = append(have, hex.EncodeToString(sum[:]))
	}
	var want []string
	for _, ek := range v.claims.EKs {
		want = append(want, ek.CertSHA256)
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		return errors.New("the vTPM's certificates are not those that the host vouched for")
	}
	return nil
}

func (v *guestVerifier) checkEKCerts() error {
	if v.policy.Record.VTPMRoots == nil {
		return skip("no authority for vTPM certificates was given")
	}
	for i, der := range v.evidence.EKs {
		cert, err := parseCert(der)
		if err != nil {
			return fmt.Errorf("parse certificate %d: %w", i, err)
		}
		if err := v.policy.Record.Chains.verify(cert, nil, v.policy.Record.VTPMRoots, oidEK, v.policy.Record.Now); err != nil {
			return fmt.Errorf("verify certificate %d: %w", i, err)
		}
	}
	return nil
}

func (v *guestVerifier) parseAttest() (err error) {
	v.attest, err = parseAttest(v.evidence.Attest, typeQuote)
	return err
}

func (v *guestVerifier) checkMagic() error { return v.attest.check() }

func (v *guestVerifier) checkAK() (err error) {
	if v.ak, err = parsePublic(v.evidence.AK); err != nil {
		return fmt.Errorf("parse public area: %w", err)
	}
	return v.ak.checkAK()
}

func (v *guestVerifier) checkSignature() error {
	return verifySignature(v.ak, v.evidence.Signature, v.evidence.Attest)
}

func (v *guestVerifier) checkExtraData() error {
	want := GuestExtraData(v.nonce, Digest(v.evidence.Record))
	if subtle.ConstantTimeCompare(want[:], v.attest.extra) != 1 {
		return errors.New("the quote is for another nonce or another record")
	}
	return nil
}
