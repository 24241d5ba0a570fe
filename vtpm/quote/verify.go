package quote

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Names of the steps of Verify, in the order in which they run.
const (
	StepPolicy     = "policy"
	StepRecord     = "record"
	StepAttest     = "attestation structure"
	StepMagic      = "type and magic"
	StepAK         = "host AK attributes"
	StepEnrolled   = "host AK certified"
	StepSignature  = "signature"
	StepExtraData  = "claims are signed"
	StepSelection  = "PCR selection"
	StepDigest     = "PCR digest"
	StepMeasured   = "boot PCRs measured"
	StepClock      = "clock"
	StepClaims     = "claims"
	StepTime       = "time of the record"
	StepVM         = "virtual machine"
	StepVMAllowed  = "virtual machine allowed"
	StepEKs        = "vTPM endorsement keys"
	StepEKCerts    = "vTPM certificates"
	StepHostEK     = "host EK certificate"
	StepHostID     = "host identity"
	StepSimulated  = "simulated host TPM"
	PrefixOfRecord = "host record: " // before these names in evidence's result
)

// Verify verifies a record under a policy. It never panics and reads nothing but
// its arguments; what the record says may be believed only when the Result is OK.
func Verify(recordBytes []byte, p Policy) Result {
	v := &recordVerifier{policy: p, bytes: recordBytes}
	if v.policy.PCRs == nil {
		v.policy.PCRs = DefaultPCRs()
	}
	steps := runChecks([]check{
		{StepPolicy, true, v.checkPolicy},
		{StepRecord, true, v.parse},
		{StepAttest, true, v.parseAttest},
		{StepMagic, true, v.checkMagic},
		{StepAK, true, v.checkAK},
		{StepEnrolled, false, v.checkEnrolled},
		{StepSignature, true, v.checkSignature},
		{StepExtraData, true, v.checkExtraData},
		{StepSelection, true, v.checkSelection},
		{StepDigest, true, v.checkDigest},
		{StepMeasured, false, func() error { return checkMeasured(v.record.PCRs) }},
		{StepClock, false, v.checkClock},
		{StepClaims, true, v.parseClaims},
		{StepTime, false, v.checkTime},
		{StepVM, false, v.checkVM},
		{StepVMAllowed, false, v.checkVMAllowed},
		{StepEKs, false, v.checkEKs},
		{StepEKCerts, false, v.checkEKCerts},
		{StepHostEK, false, v.checkHostEK},
		{StepHostID, false, v.checkHostID},
		{StepSimulated, false, v.checkSimulated},
	})
	r := Result{Steps: steps, Claims: v.claims, Record: v.record, Digest: Digest(recordBytes), AKCert: v.akCert}
	if r.Step(StepAttest).Status == Passed {
		r.Clock = &v.attest.clock
	}
	return r
}

type recordVerifier struct {
	policy Policy
	bytes  []byte
	record *Record
	attest attest
	ak     public
	akCert *x509.Certificate // only when it was verified
	ekCert *x509.Certificate // only when it was verified
	claims Claims
}

func (v *recordVerifier) checkPolicy() error { return validSelection(v.policy.PCRs) }

func (v *recordVerifier) parse() (err error) {
	v.record, err = ParseRecord(v.bytes)
	return err
}

func (v *recordVerifier) parseAttest() (err error) {
	v.attest, err = parseAttest(v.record.Attest, typeQuote)
	return err
}

func (v *recordVerifier) checkMagic() error { return v.attest.check() }

// check says whether a is a quote that a TPM made.
func (a attest) check() error {
	if a.magic != generatedMagic {
		return fmt.Errorf("magic %#x: no TPM made this", a.magic)
	}
	if a.kind != typeQuote {
		return fmt.Errorf("type %#x is not a quote", a.kind)
	}
	return nil
}

func (v *recordVerifier) checkAK() (err error) {
	if v.ak, err = parsePublic(v.record.AK); err != nil {
		return fmt.Errorf("parse public area: %w", err)
	}
	return v.ak.checkAK()
}

func (v *recordVerifier) checkEnrolled() error {
	if len(v.record.AKCert) == 0 {
		if v.policy.AllowUnenrolled {
			return warn("host AK not enrolled: nothing proves that the quoting key is in a TPM")
		}
		return errors.New("host AK not enrolled: nothing proves that the quoting key is in a TPM")
	}
	cert, err := parseCert(v.record.AKCert)
	if err != nil {
		return fmt.Errorf("parse certificate: %w", err)
	}
	if !sameKey(v.ak.key, cert.PublicKey) {
		return errors.New("the certificate is of another key")
	}
	if err := v.policy.Chains.verify(cert, nil, v.policy.AKIssuers, oidAK, v.policy.Now); err != nil {
		return err
	}
	v.akCert = cert
	return pass("by %s", cert.Issuer)
}

func (v *recordVerifier) checkSignature() error {
	return verifySignature(v.ak, v.record.Signature, v.record.Attest)
}

func (v *recordVerifier) checkExtraData() error {
	want := BindExtraData(v.record.Claims)
	if subtle.ConstantTimeCompare(want[:], v.attest.extra) != 1 {
		return errors.New("the quote is over other claims")
	}
	return nil
}

func (v *recordVerifier) checkSelection() error {
	return checkSelection(v.attest.selection, v.policy.PCRs)
}

func (v *recordVerifier) checkDigest() error {
	return checkPCRs(v.record.PCRs, v.policy.PCRs, v.attest.digest, v.ak.hash)
}

func (v *recordVerifier) checkClock() error {
	if v.attest.safe > 1 {
		return errors.New("not a TPM's boolean")
	}
	if v.policy.Previous != nil && !v.attest.clock.After(*v.policy.Previous) {
		return fmt.Errorf("%v is before the earlier record's %v: an old record, or another TPM", v.attest.clock, *v.policy.Previous)
	}
	if v.attest.safe != 1 {
		// So it is for up to 69 minutes after a host lost its power (Part 1, 36.3):
		// the reset count has gone up all the same.
		return warn("the TPM was not shut down in order and its clock may have gone back")
	}
	return nil
}

func (v *recordVerifier) parseClaims() (err error) {
	v.claims, err = ParseClaims(v.record.Claims)
	return err
}

// MaxSkew is how far a host's clock may be ahead of a verifier's.
const MaxSkew = 5 * time.Minute

// checkTime refuses a record of the future, which would count as young for as long
// as its host likes.
func (v *recordVerifier) checkTime() error {
	made, err := time.Parse(time.RFC3339, v.claims.Time)
	if err != nil {
		return err
	}
	if ahead := made.Sub(v.policy.Now); ahead > MaxSkew {
		return fmt.Errorf("it is dated %s in the future: the clocks of host and verifier differ", ahead.Round(time.Second))
	}
	return nil
}

func (v *recordVerifier) checkVM() error {
	if v.policy.VM == "" {
		return errors.New("the policy names no virtual machine")
	}
	if v.claims.VMUUID != strings.ToLower(v.policy.VM) {
		return fmt.Errorf("the record is of %s, not of %s", v.claims.VMUUID, v.policy.VM)
	}
	return nil
}

// checkVMAllowed honours the virtual machines that the AK's certificate limits
// the host to.
func (v *recordVerifier) checkVMAllowed() error {
	if v.akCert == nil {
		return skip("the host AK has no certificate that could limit it")
	}
	if !mayVouchFor(v.akCert, v.claims.VMUUID) {
		return fmt.Errorf("the AK's certificate does not let the host vouch for %s", v.claims.VMUUID)
	}
	return nil
}

func (v *recordVerifier) checkEKs() error {
	if v.policy.EKs == nil {
		return skip("no endorsement keys were given to compare with")
	}
	if len(v.policy.EKs) != len(v.claims.EKs) {
		return fmt.Errorf("the vTPM has %d endorsement keys, the record names %d", len(v.policy.EKs), len(v.claims.EKs))
	}
	for _, ek := range v.policy.EKs {
		sum := sha256.Sum256(ek.Cert)
		want := EKClaim{ek.Algorithm, hex.EncodeToString(sum[:]), hex.EncodeToString(ek.Name)}
		if !slices.Contains(v.claims.EKs, want) {
			return fmt.Errorf("the vTPM's %s key or certificate is not the one in the record", ek.Algorithm)
		}
	}
	return nil
}

func (v *recordVerifier) checkEKCerts() error {
	if v.policy.VTPMRoots == nil {
		return skip("no authority for vTPM certificates was given")
	}
	if v.policy.EKs == nil {
		return skip("no certificates were given")
	}
	for _, ek := range v.policy.EKs {
		cert, err := parseCert(ek.Cert)
		if err != nil {
			return fmt.Errorf("parse the %s certificate: %w", ek.Algorithm, err)
		}
		if err := v.policy.Chains.verify(cert, nil, v.policy.VTPMRoots, oidEK, v.policy.Now); err != nil {
			return fmt.Errorf("verify the %s certificate: %w", ek.Algorithm, err)
		}
	}
	return nil
}
