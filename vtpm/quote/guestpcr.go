package quote

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
)

func (v *guestVerifier) checkSelection() error {
	if err := validSelection(v.policy.PCRs); err != nil {
		return err
	}
	return checkSelection(v.attest.selection, v.policy.PCRs)
}

func (v *guestVerifier) checkDigest() error {
	return checkPCRs(v.evidence.PCRs, v.policy.PCRs, v.attest.digest, v.ak.hash)
}

// value is the quoted value of a register; nil when it was not quoted.
func (v *guestVerifier) value(index int) []byte {
	for _, p := range v.evidence.PCRs {
		if p.Index == index {
			return p.Digest
		}
	}
	return nil
}

func (v *guestVerifier) checkExpected() error {
	if v.policy.Expected == nil {
		return skip("the policy expects no particular values")
	}
	for _, want := range v.policy.Expected {
		got := v.value(want.Index)
		if got == nil {
			return fmt.Errorf("register %d is expected and was not quoted", want.Index)
		}
		if !bytes.Equal(got, want.Digest) {
			return fmt.Errorf("register %d is %x, expected %x", want.Index, got, want.Digest)
		}
	}
	return nil
}

// lastFirmwarePCR is the last register that belongs to the firmware: its log
// must account for all of these, while an operating system extends later ones.
const lastFirmwarePCR = 7

func (v *guestVerifier) checkLog() error {
	if len(v.evidence.EventLog) == 0 {
		if v.policy.RequireLog {
			return errors.New("the evidence has none, and the policy asks for one")
		}
		return skip("the evidence has none")
	}
	events, err := ParseLog(v.evidence.EventLog)
	if err != nil {
		return err
	}
	replayed, err := Replay(events)
	if err != nil {
		return err
	}
	var later []int
	for _, p := range v.evidence.PCRs {
		want := replayed[p.Index]
		if want == nil {
			want = make([]byte, 32)
		}
		switch {
		case bytes.Equal(want, p.Digest):
		case p.Index <= lastFirmwarePCR:
			return fmt.Errorf("it does not lead to the value of register %d", p.Index)
		default:
			later = append(later, p.Index)
		}
	}
	if len(later) > 0 {
		return warn("registers %v were extended after the firmware's log ended", later)
	}
	return pass("%d events", len(events))
}

func (v *guestVerifier) checkClock() error {
	if v.attest.safe > 1 {
		return errors.New("not a TPM's boolean")
	}
	if v.policy.Previous != nil && !v.attest.clock.After(*v.policy.Previous) {
		return fmt.Errorf("%v is before the earlier evidence's %v: restored or copied vTPM state", v.attest.clock, *v.policy.Previous)
	}
	if v.attest.safe != 1 {
		// So it is for a while after a guest was forced off.
		return warn("the vTPM was not shut down in order and its clock may have gone back")
	}
	return nil
}

func (v *guestVerifier) checkActivation() error {
	if !v.recordOK {
		return errors.New("not proven, and the host's record does not verify either")
	}
	if v.policy.Activated == nil {
		return warn("not proven without a challenge (credential activation happens at the licence server)")
	}
	// The AK may not change between the challenge and the quote.
	if subtle.ConstantTimeCompare(v.ak.name, v.policy.Activated.AKName) != 1 {
		return errors.New("another AK answered the challenge")
	}
	if !slices.ContainsFunc(v.evidence.EKs, func(der []byte) bool { return bytes.Equal(der, v.policy.Activated.EKCert) }) {
		return errors.New("the challenge was to another EK than the vTPM's")
	}
	return nil
}
