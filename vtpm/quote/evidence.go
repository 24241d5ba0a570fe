package quote

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// GuestLabel separates the hash that a guest signs from every other use of its
// attestation key.
const GuestLabel = "ovsa-guest-quote/v1\x00"

// Limits on evidence.
const (
	MaxEvidence = 1 << 20 // marshalled
	MinNonce    = 16
	MaxNonce    = 64
)

// Evidence is what a guest gives about itself: a fresh quote of its vTPM with
// what is needed to verify it. The nonce is the verifier's.
type Evidence struct {
	Version   int      `json:"version"` // 1
	Nonce     []byte   `json:"nonce"`
	Attest    []byte   `json:"attest"`              // TPMS_ATTEST, no size prefix
	Signature []byte   `json:"signature"`           // TPMT_SIGNATURE
	PCRs      []PCR    `json:"pcrs"`                // SHA-256 bank, ascending index
	AK        []byte   `json:"ak"`                  // TPMT_PUBLIC
	EKs       [][]byte `json:"eks"`                 // certificates, DER
	EventLog  []byte   `json:"event_log,omitempty"` // the firmware's, crypto-agile
	Record    []byte   `json:"record"`              // as it is in the vTPM's NVRAM

	Life Certification `json:"life"`           // of a primary key of the null hierarchy, with LifeExtraData
	Host *HostQuote    `json:"host,omitempty"` // the host's word for this nonce
}

// Marshal returns the one encoding of e that ParseEvidence accepts.
func (e Evidence) Marshal() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	b, err := marshal(e, MaxEvidence)
	if err != nil {
		return nil, fmt.Errorf("encode evidence: %w", err)
	}
	return b, nil
}

// ParseEvidence parses what Evidence.Marshal made, as strictly as ParseRecord.
func ParseEvidence(b []byte) (*Evidence, error) {
	var e Evidence
	if err := unmarshal(b, &e, MaxEvidence); err != nil {
		return nil, fmt.Errorf("parse evidence: %w", err)
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("parse evidence: %w", err)
	}
	return &e, nil
}

func (e Evidence) check() error {
	switch {
	case e.Version != 1:
		return fmt.Errorf("version %d, want 1", e.Version)
	case len(e.Nonce) < MinNonce || len(e.Nonce) > MaxNonce:
		return fmt.Errorf("a nonce of %d bytes, want %d to %d", len(e.Nonce), MinNonce, MaxNonce)
	case len(e.EKs) == 0 || len(e.EKs) > 2:
		return fmt.Errorf("%d endorsement key certificates, want 1 or 2", len(e.EKs))
	case len(e.Record) == 0:
		return errors.New("no record")
	case len(e.Life.Public) == 0:
		return errors.New("nothing about the life of the TPM")
	}
	return nil
}

// GuestExtraData is the qualifying data of a guest's quote: SHA-256 of
// GuestLabel, then the nonce and the digest of the record, each after its length
// as 4 bytes big-endian.
func GuestExtraData(nonce []byte, recordDigest [32]byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(GuestLabel))
	for _, field := range [][]byte{nonce, recordDigest[:]} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(field))))
		h.Write(field)
	}
	return [32]byte(h.Sum(nil))
}

// DefaultGuestPCRs are the registers that a guest quotes: firmware and boot, the
// kernel's command line and initrd (9), and the unified kernel image (11). Without 5,
// which has the partition table: a disk that is larger than its image has another one
// after its first boot, and what boots from it is in 4, 9 and 11.
func DefaultGuestPCRs() []int { return []int{0, 1, 2, 3, 4, 6, 7, 9, 11} }
