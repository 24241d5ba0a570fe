package vtpmtest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

const evPostCode = 1

// EventLog is what the firmware of a stand-in's guest would log of its boot, followed
// by more. An event of more has the digest of its data unless it says another.
func EventLog(more ...quote.Event) []byte {
	const noAction, sha256Alg = 3, 11
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, sha256Alg, 0, sha256.Size, 0, 0)
	b := append([]byte{0, 0, 0, 0, noAction, 0, 0, 0}, make([]byte, 20)...)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(spec))), spec...)
	var events []quote.Event
	for pcr := range uint32(8) {
		events = append(events, quote.Event{PCR: pcr, Type: evPostCode, Data: fmt.Appendf(nil, "ovsactl stand-in, PCR %d", pcr)})
	}
	for _, e := range append(events, more...) {
		digest := e.Digest
		if digest == nil {
			sum := sha256.Sum256(e.Data)
			digest = sum[:]
		}
		b = binary.LittleEndian.AppendUint32(b, e.PCR)
		b = binary.LittleEndian.AppendUint32(b, e.Type)
		b = append(b, 1, 0, 0, 0, sha256Alg, 0)
		b = append(b, digest...)
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(e.Data))), e.Data...)
	}
	return b
}
