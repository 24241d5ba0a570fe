// Package quote verifies, without a TPM and without any I/O, what TPMs sign:
// the record in which a host's TPM vouches for a virtual TPM, and the evidence
// that a guest gives about itself. Everything that comes in is bounded, parsed
// strictly and refused unless each step of the verification passes.
package quote

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
)

// BindLabel separates the hash that a host signs for a vTPM from every other
// use of the host's attestation key.
const BindLabel = "ovsa-vtpm-bind/v1\x00"

// Limits on what is parsed.
const (
	MaxRecord = 32 << 10 // a marshalled Record
	MaxClaims = 8 << 10  // the claims in it
)

// BindExtraData is the qualifying data of the host's quote over claims: SHA-256
// of BindLabel and the exact bytes of the claims.
func BindExtraData(claims []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(BindLabel))
	h.Write(claims)
	return [32]byte(h.Sum(nil))
}

// PCR is one register's value in the SHA-256 bank.
type PCR struct {
	Index  int    `json:"index"`
	Digest []byte `json:"digest"`
}

// Record is a host's signed statement about a vTPM. Its integrity rests on the
// signature alone, never on where it is kept.
type Record struct {
	Claims    []byte   `json:"claims"`             // exact bytes of a Claims document
	Attest    []byte   `json:"attest"`             // TPMS_ATTEST, no size prefix
	Signature []byte   `json:"signature"`          // TPMT_SIGNATURE
	PCRs      []PCR    `json:"pcrs"`               // SHA-256 bank, ascending index
	AK        []byte   `json:"ak"`                 // TPMT_PUBLIC of the host's AK
	AKCert    []byte   `json:"ak_cert,omitempty"`  // DER; absent when the AK is not enrolled
	EKChain   [][]byte `json:"ek_chain,omitempty"` // DER, leaf first; of the host's EK
	Simulated bool     `json:"simulated"`          // the host says that its TPM is a stand-in; not signed
}

// Marshal returns the one encoding of r that ParseRecord accepts.
func (r Record) Marshal() ([]byte, error) {
	b, err := marshal(r, MaxRecord)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return b, nil
}

// ParseRecord parses what Record.Marshal made. There is one encoding of each
// record: unknown, repeated or differently spelled fields, other spacing and
// trailing bytes are all refused.
func ParseRecord(b []byte) (*Record, error) {
	var r Record
	if err := unmarshal(b, &r, MaxRecord); err != nil {
		return nil, fmt.Errorf("parse record: %w", err)
	}
	return &r, nil
}

// Digest is how evidence refers to a record: SHA-256 of its bytes.
func Digest(record []byte) [32]byte { return sha256.Sum256(record) }

var errNotCanonical = errors.New("not the canonical encoding (unknown, repeated or misplaced fields, or stray bytes)")

func marshal(v any, limit int) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%d bytes, over the limit of %d", len(b), limit)
	}
	return b, nil
}

// unmarshal decodes b into v, a pointer to a zero value, and insists that
// encoding the result again gives b: so one value has one encoding.
func unmarshal(b []byte, v any, limit int) error {
	if len(b) == 0 {
		return errors.New("empty")
	}
	if len(b) > limit {
		return fmt.Errorf("%d bytes, over the limit of %d", len(b), limit)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return err
	}
	again, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return errNotCanonical
	}
	return nil
}
