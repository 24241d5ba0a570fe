package guest

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/vtpm/attest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// certify has the attestation key say that a loaded key is in the TPM.
func (k attestationKey) certify(t transport.TPM, key tpm2.NamedHandle, extra [32]byte) (quote.Certification, error) {
	rsp, err := tpm2.Certify{
		ObjectHandle:   tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: tpm2.PasswordAuth(nil)},
		SignHandle:     tpm2.AuthHandle{Handle: k.handle.Handle, Name: k.handle.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: extra[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(t)
	if err != nil {
		return quote.Certification{}, err
	}
	return quote.Certification{Attest: rsp.CertifyInfo.Bytes(), Signature: tpm2.Marshal(rsp.Signature)}, nil
}

// certifyLife certifies a key that is this TPM's until its next reset, see
// quote.LifeLabel.
func (k attestationKey) certifyLife(t transport.TPM, nonce []byte) (quote.Certification, error) {
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHNull, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(attest.Template()),
	}.Execute(t)
	if err != nil {
		return quote.Certification{}, fmt.Errorf("create the key of this life: %w", err)
	}
	defer tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(t)
	c, err := k.certify(t, tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, quote.LifeExtraData(nonce))
	if err != nil {
		return quote.Certification{}, fmt.Errorf("certify the key of this life: %w", err)
	}
	c.Public = rsp.OutPublic.Bytes()
	return c, nil
}
