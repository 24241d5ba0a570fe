package quote

import (
	"encoding/binary"
	"testing"
)

// Each event of a log has one digest of each bank. One that has two of a bank and
// none of another's would extend a register by nothing.
func TestDigestsOfAnEvent(t *testing.T) {
	event := func(algs ...uint16) []byte {
		b := binary.LittleEndian.AppendUint32(logHeader(), 0)
		b = binary.LittleEndian.AppendUint32(b, 8)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(algs)))
		for _, alg := range algs {
			b = binary.LittleEndian.AppendUint16(b, alg)
			b = append(b, make([]byte, map[uint16]int{algSHA1: 20, algSHA256: 32}[alg])...)
		}
		return binary.LittleEndian.AppendUint32(b, 0)
	}
	for _, good := range [][]uint16{{algSHA1, algSHA256}, {algSHA256, algSHA1}} {
		if events, err := ParseLog(event(good...)); err != nil || len(events) != 1 || len(events[0].Digest) != 32 {
			t.Errorf("%#x: %v, %v", good, events, err)
		}
	}
	for what, bad := range map[string][]uint16{"comes twice": {algSHA1, algSHA1}, "which is not listed": {algSHA256, algSHA384}, "1 digests": {algSHA256}, "3 digests": {algSHA1, algSHA256, algSHA256}} {
		_, err := ParseLog(event(bad...))
		says(t, what, err, what)
	}
}
