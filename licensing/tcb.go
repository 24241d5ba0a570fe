package licensing

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Mask selects registers: bit n set means that register n must match. In text it
// is hexadecimal, as in 0x0000ff.
type Mask uint32

// AllPCRs is the mask of all registers.
const AllPCRs Mask = 0xffffff

// resettable are the registers that software can reset, which prove nothing.
const resettable Mask = 1<<16 | 1<<23

// ParseMask parses 1 to 8 hex digits, with or without 0x. Nothing falls back to a
// default: what is not a mask is an error.
func ParseMask(s string) (Mask, error) {
	digits := strings.TrimPrefix(strings.TrimPrefix(s, "0x"), "0X")
	n, err := strconv.ParseUint(digits, 16, 32)
	switch {
	case err != nil || digits == "" || len(digits) > 8 || digits[0] == '+':
		return 0, fmt.Errorf("parse PCR mask %q: want hex such as 0xffffff", s)
	case Mask(n) > AllPCRs:
		return 0, fmt.Errorf("parse PCR mask %q: there are no registers above 23", s)
	case Mask(n)&^resettable == 0:
		return 0, fmt.Errorf("parse PCR mask %q: it selects no register (16 and 23 never count)", s)
	}
	return Mask(n), nil
}

func (m Mask) String() string { return fmt.Sprintf("0x%06x", uint32(m)) }

// MarshalText is String.
func (m Mask) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText is ParseMask.
func (m *Mask) UnmarshalText(b []byte) (err error) {
	*m, err = ParseMask(string(b))
	return err
}

// PCRs are the registers that the mask selects, ascending, but never 16 and 23,
// which software can reset.
func (m Mask) PCRs() []int {
	var pcrs []int
	for i := range 24 {
		if m&^resettable&(1<<i) != 0 {
			pcrs = append(pcrs, i)
		}
	}
	return pcrs
}

// Registers are what a TPM's SHA-256 bank must hold.
type Registers struct {
	Mask Mask        `json:"mask"`
	PCRs []quote.PCR `json:"pcrs"` // of the mask, ascending
}

// Select returns the registers of the mask out of those that a verified quote
// covers.
func (m Mask) Select(quoted []quote.PCR) (Registers, error) {
	r := Registers{Mask: m}
	for _, i := range m.PCRs() {
		digest := find(quoted, i)
		if digest == nil {
			return Registers{}, fmt.Errorf("PCR %d is in the mask %s but not in the quote", i, m)
		}
		r.PCRs = append(r.PCRs, quote.PCR{Index: i, Digest: digest})
	}
	return r, r.check()
}

func find(pcrs []quote.PCR, index int) []byte {
	for _, p := range pcrs {
		if p.Index == index {
			return p.Digest
		}
	}
	return nil
}

func (r Registers) check() error {
	want := r.Mask.PCRs()
	if len(want) == 0 || len(want) != len(r.PCRs) {
		return fmt.Errorf("%d registers do not fit the mask %s", len(r.PCRs), r.Mask)
	}
	for i, p := range r.PCRs {
		if p.Index != want[i] || len(p.Digest) != sha256.Size {
			return fmt.Errorf("register %d does not fit the mask %s", p.Index, r.Mask)
		}
	}
	return nil
}

// Match returns nil when each of the registers is in a verified quote with the
// same value: all bytes of all of them, in constant time. The error names those
// that differ.
func (r Registers) Match(quoted []quote.PCR) error {
	if len(r.PCRs) == 0 {
		return errors.New("no registers to compare")
	}
	var differ []string
	for _, p := range r.PCRs {
		if subtle.ConstantTimeCompare(p.Digest, find(quoted, p.Index)) != 1 {
			differ = append(differ, strconv.Itoa(p.Index))
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("PCRs %s differ", strings.Join(differ, ", "))
	}
	return nil
}

// TCB is a state in which a guest and its host may get a model's key (.tcb).
type TCB struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Guest   Registers `json:"guest"`
	Host    Registers `json:"host"`
}

// Match returns nil when the registers of two verified quotes are those of the
// TCB. Of a licence's TCBs one match is enough.
func (t TCB) Match(guest, host []quote.PCR) error {
	if err := t.Guest.Match(guest); err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	if err := t.Host.Match(host); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	return nil
}

// ID is how revocations name a TCB: SHA-256 of its content in hex.
func (t TCB) ID() (string, error) {
	b, err := marshal(t)
	if err != nil {
		return "", fmt.Errorf("TCB %q: %w", t.Name, err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// Kind is KindTCB.
func (TCB) Kind() Kind { return KindTCB }

// Check says what is wrong with the content by itself.
func (t TCB) Check() error {
	if err := checkText("name", t.Name, MaxName); err != nil {
		return err
	}
	if err := checkText("version", t.Version, MaxVersion); err != nil {
		return err
	}
	if err := t.Guest.check(); err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	if err := t.Host.check(); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	return nil
}
