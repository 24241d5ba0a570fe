// Package roots has the keys of a TPM that everything else in it stands on, the
// storage root key and the endorsement key, and the sessions that are salted to
// them: what such a session encrypts cannot be read on the way to the TPM.
package roots

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Key is a loaded key.
type Key struct {
	Handle tpm2.TPMHandle
	Name   tpm2.TPM2BName // computed from Public, never what the TPM says
	Public tpm2.TPMTPublic

	persistent bool
}

// StorageRoot makes the storage root key of the TCG's ECC P-256 template, the
// same each time until the owner clears the TPM.
func StorageRoot(t transport.TPM) (Key, error) {
	k, err := Create(t, tpm2.TPMRHOwner, tpm2.ECCSRKTemplate)
	if err != nil {
		return Key{}, fmt.Errorf("create the storage root key: %w", err)
	}
	return k, nil
}

// Create makes a primary key that is exactly template's.
func Create(t transport.TPM, hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic) (Key, error) {
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(template),
	}.Execute(t)
	if err != nil {
		return Key{}, withoutPassword(err, hierarchy)
	}
	k := Key{Handle: rsp.ObjectHandle}
	if err := k.adopt(rsp.OutPublic.Bytes(), template); err != nil {
		k.Close(t)
		return Key{}, err
	}
	return k, nil
}

// adopt takes a public area that is template's but for the key itself.
func (k *Key) adopt(public []byte, template tpm2.TPMTPublic) error {
	pub, err := tpm2.Unmarshal[tpm2.TPMTPublic](public)
	if err != nil {
		return fmt.Errorf("parse public area: %w", err)
	}
	if !bytes.Equal(tpm2.Marshal(pub), public) {
		return errors.New("parse public area: bytes follow it")
	}
	template.Unique = pub.Unique
	if !bytes.Equal(tpm2.Marshal(template), public) {
		return errTemplate
	}
	name, err := tpm2.ObjectName(pub)
	if err != nil {
		return err
	}
	k.Public, k.Name = *pub, *name
	return nil
}

var errTemplate = errors.New("the TPM's key is not of the template that it was asked for")

// Close drops the key from the TPM, unless it is a persistent one.
func (k Key) Close(t transport.TPM) {
	if k.persistent {
		return
	}
	// When this fails the TPM is gone, or its resource manager flushes.
	_, _ = tpm2.FlushContext{FlushHandle: k.Handle}.Execute(t)
}
