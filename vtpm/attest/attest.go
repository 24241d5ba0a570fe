// Package attest quotes a TPM's registers with an attestation key, the host's TPM
// and a guest's alike. What it makes is for [quote] to verify.
package attest

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Template is a restricted ECDSA P-256 key that signs what the TPM itself says,
// and nothing else. As a primary it is the same key each time it is made in one
// TPM.
func Template() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
			UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
		}),
	}
}

// Create makes the key of Template in the endorsement hierarchy, where a quote's
// counters are not obfuscated. The caller flushes it.
func Create(t transport.TPM) (*tpm2.CreatePrimaryResponse, error) {
	return tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(Template()),
	}.Execute(t)
}

// Signed is a quote with the values that it is over.
type Signed struct {
	Attest    []byte // TPMS_ATTEST
	Signature []byte // TPMT_SIGNATURE
	PCRs      []quote.PCR
}

// Quote quotes registers of the SHA-256 bank with a loaded key, again when one
// was extended between the quote and the reading of the values.
func Quote(t transport.TPM, key tpm2.NamedHandle, pcrs []int, extra []byte) (Signed, error) {
	for range 3 {
		rsp, err := tpm2.Quote{
			SignHandle:     tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
			QualifyingData: tpm2.TPM2BData{Buffer: extra},
			InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			PCRSelect:      Selection(pcrs),
		}.Execute(t)
		if err != nil {
			return Signed{}, fmt.Errorf("quote: %w", err)
		}
		values, err := ReadPCRs(t, pcrs)
		if err != nil {
			return Signed{}, err
		}
		attest, err := rsp.Quoted.Contents()
		if err != nil {
			return Signed{}, fmt.Errorf("quote: %w", err)
		}
		info, err := attest.Attested.Quote()
		if err != nil {
			return Signed{}, fmt.Errorf("quote: %w", err)
		}
		if subtle.ConstantTimeCompare(info.PCRDigest.Buffer, digest(values)) == 1 {
			return Signed{rsp.Quoted.Bytes(), tpm2.Marshal(rsp.Signature), values}, nil
		}
	}
	return Signed{}, errors.New("quote: the registers keep changing")
}

func digest(values []quote.PCR) []byte {
	h := sha256.New()
	for _, v := range values {
		h.Write(v.Digest)
	}
	return h.Sum(nil)
}

// Selection selects registers of the SHA-256 bank.
func Selection(pcrs []int) tpm2.TPMLPCRSelection {
	var indices []uint
	for _, i := range pcrs {
		indices = append(indices, uint(i))
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(indices...),
	}}}
}

// ReadPCRs reads the values of registers of the SHA-256 bank, in their ascending
// order; one command gives at most eight.
func ReadPCRs(t transport.TPM, pcrs []int) ([]quote.PCR, error) {
	var values []quote.PCR
	for some := range slices.Chunk(pcrs, 8) {
		rsp, err := tpm2.PCRRead{PCRSelectionIn: Selection(some)}.Execute(t)
		if err != nil {
			return nil, fmt.Errorf("read PCRs: %w", err)
		}
		if len(rsp.PCRValues.Digests) != len(some) {
			return nil, hint.Wrap(fmt.Errorf("read PCRs: %d of %d", len(rsp.PCRValues.Digests), len(some)), "turn the TPM's SHA-256 bank on")
		}
		for i, d := range rsp.PCRValues.Digests {
			values = append(values, quote.PCR{Index: some[i], Digest: d.Buffer})
		}
	}
	return values, nil
}
