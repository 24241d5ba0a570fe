package roots

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// rsaEK is where TPMs have their RSA 2048 EK, by the TCG EK Credential Profile
// 2.5 (2.2.1.4) and the PC Client provisioning guidance.
const rsaEK = tpm2.TPMHandle(0x81010001)

// ErrCredential says that a credential was made for another EK or another AK, or
// was changed on the way; a TPM does not tell which.
var ErrCredential = errors.New("the credential is not for this TPM's keys")

// EndorsementKey has the EK of the TCG's template L-1 or, when kind is
// tpm2.TPMAlgECC, of L-2. It is made where the TPM does not keep it.
func EndorsementKey(t transport.TPM, kind tpm2.TPMAlgID) (Key, error) {
	template := tpm2.ECCEKTemplate
	if kind == tpm2.TPMAlgRSA {
		template = tpm2.RSAEKTemplate
		k, err := kept(t, rsaEK, template)
		if err == nil || !errors.Is(err, tpm2.TPMRCHandle) && !errors.Is(err, errTemplate) {
			return k, err
		}
	}
	k, err := Create(t, tpm2.TPMRHEndorsement, template)
	if err != nil {
		return Key{}, fmt.Errorf("create the endorsement key: %w", err)
	}
	return k, nil
}

// kept is a key that the TPM keeps.
func kept(t transport.TPM, handle tpm2.TPMHandle, template tpm2.TPMTPublic) (Key, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(t)
	if err != nil {
		return Key{}, fmt.Errorf("look at the endorsement key: %w", err)
	}
	k := Key{Handle: handle, persistent: true}
	if err := k.adopt(rsp.OutPublic.Bytes(), template); err != nil {
		return Key{}, fmt.Errorf("look at the endorsement key: %w", err)
	}
	return k, nil
}

// Activate has the TPM decrypt a credential, which it does when both the EK and
// the AK are its own. The secret is not readable on the bus.
func Activate(t transport.TPM, ak tpm2.NamedHandle, ek Key, credential, encryptedSecret []byte) ([]byte, error) {
	const limit = 1024
	if len(credential) > limit || len(encryptedSecret) > limit {
		return nil, fmt.Errorf("activate credential: %w: %d and %d bytes", ErrCredential, len(credential), len(encryptedSecret))
	}
	session, done, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, nonceSize, ek.hidesAnswer()...)
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	defer done()
	_, err = tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session.Handle(), NonceTPM: session.NonceTPM(),
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("activate credential: use the endorsement key: %w", withoutPassword(err, tpm2.TPMRHEndorsement))
	}
	rsp, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: ak.Handle, Name: ak.Name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: ek.Handle, Name: ek.Name, Auth: session},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: credential},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: encryptedSecret},
	}.Execute(t)
	if err != nil && foreign(t, err) {
		return nil, fmt.Errorf("activate credential: %w: %w", ErrCredential, err)
	}
	if err != nil {
		return nil, fmt.Errorf("activate credential: %w", err)
	}
	return rsp.CertInfo.Buffer, nil
}

// foreign says whether err, of TPM2_ActivateCredential, is about the credential.
func foreign(t transport.TPM, err error) bool {
	for _, code := range []tpm2.TPMRC{
		tpm2.TPMRCIntegrity, tpm2.TPMRCValue, tpm2.TPMRCSize, tpm2.TPMRCInsufficient, tpm2.TPMRCCurve, tpm2.TPMRCECCPoint,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	// libtpms 0.9 answers so when RSA decryption fails. A TPM in failure mode
	// answers so to everything.
	if errors.Is(err, tpm2.TPMRCFailure) {
		_, err := tpm2.ReadClock{}.Execute(t)
		return err == nil
	}
	return false
}

// withoutPassword gives the refusal of an empty password its hint.
func withoutPassword(err error, hierarchy tpm2.TPMHandle) error {
	if !errors.Is(err, tpm2.TPMRCBadAuth) && !errors.Is(err, tpm2.TPMRCAuthFail) {
		return err
	}
	name := "owner"
	if hierarchy == tpm2.TPMRHEndorsement {
		name = "endorsement"
	}
	return hint.Wrap(err, "the TPM's %s hierarchy has a password, which ovsactl does not use: take it away with tpm2_changeauth -c %s", name, name)
}
