package licensing

import (
	"crypto/ecdsa"
	"fmt"
	"time"
)

// MasterLicence is what an ISV keeps of a protected model (.masterlic). Its signer
// and the key that opens it are the ISV's own primary key.
type MasterLicence struct {
	Created     time.Time `json:"created"`
	LicenceGUID GUID      `json:"licence_guid"` // of the product: see Licence.Product
	ModelGUID   GUID      `json:"model_guid"`
	ModelDigest []byte    `json:"model_digest"` // as licensing/model computes it
	WrappedKey  []byte    `json:"wrapped_key"`  // the model's key, for the ISV's primary key
}

// NewMasterLicence wraps a model's key to the ISV's primary key.
func NewMasterLicence(now time.Time, licence, model GUID, digest []byte, key Key, isv *ecdsa.PublicKey) (MasterLicence, error) {
	m := MasterLicence{Created: instant(now), LicenceGUID: licence, ModelGUID: model, ModelDigest: digest}
	var err error
	if m.WrappedKey, err = Wrap(key, isv, m.binding()); err != nil {
		return MasterLicence{}, fmt.Errorf("new master licence: %w", err)
	}
	return m, m.Check()
}

// Key returns the model's key, which is the caller's to wipe.
func (m MasterLicence) Key(isv *ecdsa.PrivateKey) (Key, error) {
	return Unwrap(m.WrappedKey, isv, m.binding())
}

func (m MasterLicence) binding() Binding {
	return Binding{KindMasterLicence, m.LicenceGUID, m.ModelGUID, RoleModelKey}
}

// Kind is KindMasterLicence.
func (MasterLicence) Kind() Kind { return KindMasterLicence }

// Check says what is wrong with the content by itself.
func (m MasterLicence) Check() error {
	if err := checkInstant("creation time", m.Created); err != nil {
		return err
	}
	if err := m.LicenceGUID.check(); err != nil {
		return fmt.Errorf("licence GUID: %w", err)
	}
	if err := m.ModelGUID.check(); err != nil {
		return fmt.Errorf("model GUID: %w", err)
	}
	if err := checkDigest(m.ModelDigest); err != nil {
		return err
	}
	if len(m.WrappedKey) != wrappedSize {
		return fmt.Errorf("a wrapped key of %d bytes, want %d", len(m.WrappedKey), wrappedSize)
	}
	return nil
}

func checkDigest(d []byte) error {
	if len(d) != 32 && len(d) != 48 && len(d) != 64 {
		return fmt.Errorf("a model digest of %d bytes", len(d))
	}
	return nil
}
