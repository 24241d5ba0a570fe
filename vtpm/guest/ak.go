package guest

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// akTemplate is a restricted ECDSA P-256 key. As a primary it is the same key
// each time it is made in one TPM.
func akTemplate() tpm2.TPMTPublic {
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

type attestationKey struct {
	handle tpm2.NamedHandle
	public []byte
}

// createAK makes the guest's AK in the endorsement hierarchy, where a quote's
// counters are not obfuscated.
func createAK(t transport.TPM) (attestationKey, error) {
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(akTemplate()),
	}.Execute(t)
	if err != nil {
		return attestationKey{}, fmt.Errorf("create the attestation key: %w", err)
	}
	return attestationKey{tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, rsp.OutPublic.Bytes()}, nil
}

func (k attestationKey) flush(t transport.TPM) {
	// When this fails the TPM is gone, or its resource manager flushes.
	_, _ = tpm2.FlushContext{FlushHandle: k.handle.Handle}.Execute(t)
}

type signedQuote struct {
	attest    []byte
	signature []byte
	pcrs      []quote.PCR
}

// quote quotes registers of the SHA-256 bank and reads their values, again when
// one was extended between the two.
func (k attestationKey) quote(t transport.TPM, pcrs []int, extra []byte) (signedQuote, error) {
	for range 3 {
		rsp, err := tpm2.Quote{
			SignHandle:     tpm2.AuthHandle{Handle: k.handle.Handle, Name: k.handle.Name, Auth: tpm2.PasswordAuth(nil)},
			QualifyingData: tpm2.TPM2BData{Buffer: extra},
			InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			PCRSelect:      selection(pcrs),
		}.Execute(t)
		if err != nil {
			return signedQuote{}, fmt.Errorf("quote: %w", err)
		}
		values, err := readPCRs(t, pcrs)
		if err != nil {
			return signedQuote{}, err
		}
		q := signedQuote{rsp.Quoted.Bytes(), tpm2.Marshal(rsp.Signature), values}
		attest, err := rsp.Quoted.Contents()
		if err != nil {
			return signedQuote{}, fmt.Errorf("quote: %w", err)
		}
		info, err := attest.Attested.Quote()
		if err != nil {
			return signedQuote{}, fmt.Errorf("quote: %w", err)
		}
		if subtle.ConstantTimeCompare(info.PCRDigest.Buffer, digest(values)) == 1 {
			return q, nil
		}
	}
	return signedQuote{}, errors.New("quote: the registers keep changing")
}

func digest(values []quote.PCR) []byte {
	h := sha256.New()
	for _, v := range values {
		h.Write(v.Digest)
	}
	return h.Sum(nil)
}

func selection(pcrs []int) tpm2.TPMLPCRSelection {
	var indices []uint
	for _, i := range pcrs {
		indices = append(indices, uint(i))
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(indices...),
	}}}
}

// readPCRs reads the values of registers; one command gives at most eight.
func readPCRs(t transport.TPM, pcrs []int) ([]quote.PCR, error) {
	var values []quote.PCR
	for some := range slices.Chunk(pcrs, 8) {
		rsp, err := tpm2.PCRRead{PCRSelectionIn: selection(some)}.Execute(t)
		if err != nil {
			return nil, fmt.Errorf("read PCRs: %w", err)
		}
		if len(rsp.PCRValues.Digests) != len(some) {
			return nil, fmt.Errorf("read PCRs: the TPM gave %d of %d: is its SHA-256 bank on?", len(rsp.PCRValues.Digests), len(some))
		}
		for i, d := range rsp.PCRValues.Digests {
			values = append(values, quote.PCR{Index: some[i], Digest: d.Buffer})
		}
	}
	return values, nil
}
