package vtpm

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// allocateBanks turns the SHA-256 and SHA-384 banks on and the others off, from
// the next start. SHA-1 is not for evidence, and each bank costs the firmware time.
func allocateBanks(t transport.TPM) error {
	selections := []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA1, PCRSelect: []byte{0, 0, 0}},
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{0xff, 0xff, 0xff}},
		{Hash: tpm2.TPMAlgSHA384, PCRSelect: []byte{0xff, 0xff, 0xff}},
		{Hash: tpm2.TPMAlgSHA512, PCRSelect: []byte{0, 0, 0}},
	}
	body := tpm2.Marshal(tpm2.TPMLPCRSelection{PCRSelections: selections})
	// TPM2_PCR_Allocate (Part 3, 22.5), which go-tpm does not have: the platform
	// hierarchy, an empty password session, the selection.
	command := append([]byte{
		0x80, 0x02, 0, 0, 0, 0, 0x00, 0x00, 0x01, 0x2b,
		0x40, 0x00, 0x00, 0x0c,
		0, 0, 0, 9, 0x40, 0x00, 0x00, 0x09, 0, 0, 0, 0, 0,
	}, body...)
	command[5] = byte(len(command))
	response, err := t.Send(command)
	if err != nil {
		return fmt.Errorf("allocate PCR banks: %w", err)
	}
	// tag, size, code, parameter size, allocationSuccess
	if len(response) < 15 || [4]byte(response[6:10]) != [4]byte{} || response[14] != 1 {
		return fmt.Errorf("allocate PCR banks: refused (% x)", response[:min(len(response), 15)])
	}
	return nil
}

// eccEKTemplate is template H-3 of the EK Credential Profile 2.5 (B.4.5): ECC
// NIST P-384, policy B with SHA-384.
func eccEKTemplate() tpm2.TPMTPublic {
	policyB, err := hex.DecodeString("b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12")
	if err != nil {
		panic(err)
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA384,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
			AdminWithPolicy: true, Restricted: true, Decrypt: true,
		},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policyB},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{
				Algorithm: tpm2.TPMAlgAES,
				KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
				Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
			},
			CurveID: tpm2.TPMECCNistP384,
		}),
	}
}

// createEK makes an endorsement key and keeps it at handle.
func createEK(t transport.TPM, template tpm2.TPMTPublic, handle tpm2.TPMHandle) (crypto.PublicKey, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template)}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("create EK: %w", err)
	}
	defer tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(t)
	if err := persist(t, rsp.ObjectHandle, rsp.Name, handle); err != nil {
		return nil, fmt.Errorf("keep EK: %w", err)
	}
	pub, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, fmt.Errorf("create EK: %w", err)
	}
	return tpm2.Pub(*pub)
}

func persist(t transport.TPM, object tpm2.TPMHandle, name tpm2.TPM2BName, at tpm2.TPMHandle) error {
	_, err := tpm2.EvictControl{
		Auth:             tpm2.TPMRHOwner,
		ObjectHandle:     &tpm2.NamedHandle{Handle: object, Name: name},
		PersistentHandle: at,
	}.Execute(t)
	return err
}

// writeIndex defines an NV index for data as a TPM's maker does: created by the
// platform, readable by everybody, written once and locked. An index that is
// there already is replaced.
func writeIndex(t transport.TPM, index tpm2.TPMHandle, data []byte) error {
	if err := removeIndex(t, index); err != nil {
		return err
	}
	public := tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(data)),
		Attributes: tpm2.TPMANV{
			PPWrite: true, WriteDefine: true, PPRead: true, OwnerRead: true, AuthRead: true,
			NoDA: true, PlatformCreate: true,
		},
	})
	if _, err := (tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHPlatform, PublicInfo: public}).Execute(t); err != nil {
		return fmt.Errorf("define NV index %#x: %w", index, err)
	}
	const most = 1024 // bytes per command
	for offset := 0; offset < len(data); offset += most {
		name, err := indexName(t, index) // writing changes it
		if err != nil {
			return err
		}
		_, err = tpm2.NVWrite{
			AuthHandle: tpm2.TPMRHPlatform, NVIndex: name,
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: data[offset:min(offset+most, len(data))]}, Offset: uint16(offset),
		}.Execute(t)
		if err != nil {
			return fmt.Errorf("write NV index %#x: %w", index, err)
		}
	}
	name, err := indexName(t, index)
	if err != nil {
		return err
	}
	if _, err := (tpm2.NVWriteLock{AuthHandle: tpm2.TPMRHPlatform, NVIndex: name}).Execute(t); err != nil {
		return fmt.Errorf("lock NV index %#x: %w", index, err)
	}
	return nil
}

// removeIndex undefines an index; one that does not exist is no error.
func removeIndex(t transport.TPM, index tpm2.TPMHandle) error {
	name, err := indexName(t, index)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := (tpm2.NVUndefineSpace{AuthHandle: tpm2.TPMRHPlatform, NVIndex: name}).Execute(t); err != nil {
		return fmt.Errorf("remove NV index %#x: %w", index, err)
	}
	return nil
}

func indexName(t transport.TPM, index tpm2.TPMHandle) (*tpm2.NamedHandle, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("look at NV index %#x: %w", index, err)
	}
	return &tpm2.NamedHandle{Handle: index, Name: rsp.NVName}, nil
}

// objectName is the TPM name of a persistent object.
func objectName(t transport.TPM, handle tpm2.TPMHandle) ([]byte, *tpm2.TPMTPublic, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: handle}.Execute(t)
	if err != nil {
		return nil, nil, fmt.Errorf("look at object %#x: %w", handle, err)
	}
	pub, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, nil, fmt.Errorf("look at object %#x: %w", handle, err)
	}
	return rsp.Name.Buffer, pub, nil
}

// publicName is the name of an object (Part 1, 16), given its TPMT_PUBLIC with
// a SHA-256 name algorithm.
func publicName(public []byte) string {
	sum := sha256.Sum256(public)
	return fmt.Sprintf("000b%x", sum)
}
