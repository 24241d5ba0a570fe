package quote

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

const ccPolicyPCR = 0x0000017f

// ValidSelection says whether a policy may select registers: ascending, distinct,
// and none that software can reset.
func ValidSelection(pcrs []int) error { return validSelection(pcrs) }

// PolicyPCRDigest is the authPolicy (Part 1, 19.7) of an object that may be used
// only while registers of the SHA-256 bank have these values: a single
// TPM2_PolicyPCR. The registers must be a valid selection.
func PolicyPCRDigest(pcrs []PCR) ([]byte, error) {
	var indices []int
	var mask [pcrCount / 8]byte
	values := sha256.New()
	for _, p := range pcrs {
		if len(p.Digest) != sha256.Size {
			return nil, fmt.Errorf("compute PCR policy: register %d has %d bytes", p.Index, len(p.Digest))
		}
		indices = append(indices, p.Index)
		values.Write(p.Digest)
	}
	if err := validSelection(indices); err != nil {
		return nil, fmt.Errorf("compute PCR policy: %w", err)
	}
	for _, i := range indices {
		mask[i/8] |= 1 << (i % 8)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, sha256.Size), ccPolicyPCR)
	b = binary.BigEndian.AppendUint32(b, 1) // banks
	b = binary.BigEndian.AppendUint16(b, algSHA256)
	b = append(append(b, byte(len(mask))), mask[:]...)
	sum := sha256.Sum256(values.Sum(b))
	return sum[:], nil
}
