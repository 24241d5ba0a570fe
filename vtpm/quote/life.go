package quote

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// LifeLabel separates the hash that an attestation key signs for the life of its
// TPM from every other use of it.
const LifeLabel = "ovsa-tpm-life/v1\x00"

// LifeExtraData is the qualifying data with which an attestation key certifies the
// life of its TPM: SHA-256 of LifeLabel, then the nonce after its length as 4
// bytes big-endian.
func LifeExtraData(nonce []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(LifeLabel))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(nonce))))
	h.Write(nonce)
	return [32]byte(h.Sum(nil))
}

// checkLife insists that the attestation key certified a primary key of the null
// hierarchy. Its seed is random at each TPM Reset (Part 1, 14.4), so two copies of
// one TPM's state that both run have different ones, and nothing that is stored
// gives one back. A key that was brought in would be whatever two copies agree on:
// the TPM has to have made it, and to keep it.
func (v *guestVerifier) checkLife() error {
	life := v.evidence.Life
	if err := life.checkAttest(v.ak, LifeExtraData(v.nonce), handleNull); err != nil {
		return err
	}
	key, err := parsePublic(life.Public)
	if err != nil {
		return fmt.Errorf("parse public area: %w", err)
	}
	if err := key.checkAK(); err != nil {
		return err
	}
	v.life = key.name
	return nil
}
