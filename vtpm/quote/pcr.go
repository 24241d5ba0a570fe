package quote

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
)

const pcrCount = 24

// checkSelection insists that a quote selects exactly want, once, in the
// SHA-256 bank.
func checkSelection(got []selection, want []int) error {
	if len(got) != 1 {
		return fmt.Errorf("%d banks selected, want SHA-256 alone", len(got))
	}
	if got[0].hash != algSHA256 {
		return fmt.Errorf("bank %#x selected, want SHA-256", got[0].hash)
	}
	var selected []int
	for i, b := range got[0].mask {
		for bit := range 8 {
			if b&(1<<bit) != 0 {
				selected = append(selected, i*8+bit)
			}
		}
	}
	if !slices.Equal(selected, want) {
		return fmt.Errorf("registers %v are signed, the policy wants %v", selected, want)
	}
	return nil
}

// checkPCRs insists that pcrs are the values of exactly want, in order, and
// that the signed digest is theirs.
func checkPCRs(pcrs []PCR, want []int, digest []byte, hash uint16) error {
	if len(pcrs) != len(want) {
		return fmt.Errorf("values of %d registers, want %d", len(pcrs), len(want))
	}
	h := cryptoHash(hash).New()
	for i, p := range pcrs {
		if p.Index != want[i] {
			return fmt.Errorf("the value of register %d where that of %d belongs", p.Index, want[i])
		}
		if len(p.Digest) != sha256.Size {
			return fmt.Errorf("register %d has %d bytes", p.Index, len(p.Digest))
		}
		h.Write(p.Digest)
	}
	if subtle.ConstantTimeCompare(h.Sum(nil), digest) != 1 {
		return errors.New("the values are not those that were signed")
	}
	return nil
}

// checkMeasured refuses registers that no firmware has extended: a bank that is
// on but unused lets anyone who boots later fill it at will.
func checkMeasured(pcrs []PCR) error {
	for _, p := range pcrs {
		if p.Index != 0 && p.Index != 4 && p.Index != 7 {
			continue
		}
		if bytes.Count(p.Digest, []byte{0}) == len(p.Digest) || bytes.Count(p.Digest, []byte{0xff}) == len(p.Digest) {
			return fmt.Errorf("register %d was never extended: the firmware did not measure into it", p.Index)
		}
	}
	return nil
}

// validSelection says whether a policy's registers can be asked for.
func validSelection(pcrs []int) error {
	if len(pcrs) == 0 || !slices.IsSorted(pcrs) || len(slices.Compact(slices.Clone(pcrs))) != len(pcrs) {
		return errors.New("the policy's registers are not ascending and distinct")
	}
	for _, i := range pcrs {
		if i < 0 || i >= pcrCount || i == 16 || i == 23 {
			return fmt.Errorf("the policy asks for register %d, which is resettable or does not exist", i)
		}
	}
	return nil
}
