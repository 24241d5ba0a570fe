package quote

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// MaxLog bounds an event log.
const MaxLog = 512 << 10

const (
	maxEvents     = 4096
	maxEventData  = 128 << 10
	eventNoAction = 3
)

// Event is one entry of a firmware's event log. Only Digest is backed by a
// register; Data is what the firmware says about it.
type Event struct {
	PCR    uint32
	Type   uint32
	Digest []byte // SHA-256 bank
	Data   []byte
}

// ParseLog parses a TCG crypto-agile event log (PC Client Platform Firmware
// Profile) that has a SHA-256 bank. Nothing may follow the last event.
func ParseLog(b []byte) ([]Event, error) {
	if len(b) > MaxLog {
		return nil, fmt.Errorf("parse event log: %d bytes, over the limit of %d", len(b), MaxLog)
	}
	l := &logReader{rest: b}
	banks, err := l.header()
	if err != nil {
		return nil, fmt.Errorf("parse event log: %w", err)
	}
	var events []Event
	for len(l.rest) > 0 {
		if len(events) == maxEvents {
			return nil, fmt.Errorf("parse event log: more than %d events", maxEvents)
		}
		e, err := l.event(banks)
		if err != nil {
			return nil, fmt.Errorf("parse event log: event %d: %w", len(events)+1, err)
		}
		events = append(events, e)
	}
	return events, nil
}

// Replay computes the SHA-256 registers that the events lead to. Registers
// without events are absent.
func Replay(events []Event) (map[int][]byte, error) {
	pcrs := map[int][]byte{}
	for i, e := range events {
		if e.Type == eventNoAction {
			locality, ok, err := startupLocality(e)
			if err != nil {
				return nil, fmt.Errorf("replay event %d: %w", i+1, err)
			}
			if ok && pcrs[0] != nil {
				return nil, fmt.Errorf("replay event %d: the startup locality comes after register 0 was extended", i+1)
			}
			if ok {
				pcrs[0] = append(make([]byte, sha256.Size-1), locality)
			}
			continue
		}
		old := pcrs[int(e.PCR)]
		if old == nil {
			old = make([]byte, sha256.Size)
		}
		sum := sha256.Sum256(append(slices.Clone(old), e.Digest...))
		pcrs[int(e.PCR)] = sum[:]
	}
	return pcrs, nil
}

// startupLocality is the locality that the TPM was started from, when e says so.
func startupLocality(e Event) (byte, bool, error) {
	data, ok := bytes.CutPrefix(e.Data, []byte("StartupLocality\x00"))
	if !ok {
		return 0, false, nil
	}
	if e.PCR != 0 || len(data) != 1 || (data[0] != 0 && data[0] != 3 && data[0] != 4) {
		return 0, false, errors.New("the startup locality is malformed")
	}
	return data[0], true, nil
}

// bank is one digest algorithm of a log.
type bank struct{ alg, size uint16 }

type logReader struct {
	rest []byte
	err  error
}

func (l *logReader) take(n uint32) []byte {
	if l.err == nil && uint64(n) > uint64(len(l.rest)) {
		l.err = errShort
	}
	if l.err != nil {
		return make([]byte, min(n, 8))
	}
	b := l.rest[:n:n]
	l.rest = l.rest[n:]
	return b
}

func (l *logReader) u8() uint8   { return l.take(1)[0] }
func (l *logReader) u16() uint16 { return binary.LittleEndian.Uint16(l.take(2)) }
func (l *logReader) u32() uint32 { return binary.LittleEndian.Uint32(l.take(4)) }

// header reads the first event, which is in the old SHA-1 format and says which
// banks follow.
func (l *logReader) header() ([]bank, error) {
	pcr, kind := l.u32(), l.u32()
	l.take(20) // its SHA-1 digest, which is zero
	size := l.u32()
	if l.err == nil && (pcr != 0 || kind != eventNoAction || size > 1024) {
		return nil, errors.New("it does not begin with a specification event")
	}
	spec := &logReader{rest: l.take(size)}
	if l.err != nil {
		return nil, l.err
	}
	if string(spec.take(16)) != "Spec ID Event03\x00" {
		return nil, errors.New("it is not in the crypto-agile format")
	}
	spec.take(8) // platform class, version, size of UINTN
	count := spec.u32()
	if spec.err == nil && (count == 0 || count > 8) {
		return nil, fmt.Errorf("%d banks", count)
	}
	var banks []bank
	for i := uint32(0); i < count && spec.err == nil; i++ {
		b := bank{spec.u16(), spec.u16()}
		if slices.ContainsFunc(banks, func(o bank) bool { return o.alg == b.alg }) || b.size == 0 || b.size > 64 {
			return nil, fmt.Errorf("bank %#x is listed twice or has %d bytes", b.alg, b.size)
		}
		banks = append(banks, b)
	}
	spec.take(uint32(spec.u8()))
	if spec.err != nil || len(spec.rest) > 0 {
		return nil, errors.New("the specification event is malformed")
	}
	if !slices.Contains(banks, bank{algSHA256, sha256.Size}) {
		return nil, errors.New("it has no SHA-256 bank")
	}
	return banks, nil
}

func (l *logReader) event(banks []bank) (Event, error) {
	e := Event{PCR: l.u32(), Type: l.u32()}
	if count := l.u32(); l.err == nil && int64(count) != int64(len(banks)) {
		return e, fmt.Errorf("%d digests, want %d", count, len(banks))
	}
	seen := map[uint16]bool{}
	for range banks {
		alg := l.u16()
		i := slices.IndexFunc(banks, func(b bank) bool { return b.alg == alg })
		if l.err != nil {
			return e, l.err
		}
		if i < 0 || seen[alg] {
			return e, fmt.Errorf("a digest of bank %#x, which is not listed or comes twice", alg)
		}
		seen[alg] = true
		digest := l.take(uint32(banks[i].size))
		if alg == algSHA256 {
			e.Digest = digest
		}
	}
	size := l.u32()
	if l.err == nil && size > maxEventData {
		return e, fmt.Errorf("%d bytes of data", size)
	}
	e.Data = l.take(size)
	if l.err == nil && e.PCR >= pcrCount && e.Type != eventNoAction {
		return e, fmt.Errorf("register %d does not exist", e.PCR)
	}
	return e, l.err
}
