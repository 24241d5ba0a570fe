package licensing

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hpke"
	"fmt"
)

// Role says which key of a document a wrapped key is.
type Role string

// The wrapped keys.
const (
	RoleModelKey     Role = "model-key"     // in a master licence, for the ISV
	RoleCustomerHalf Role = "customer-half" // in a licence, for the customer's primary key
	RoleServerHalf   Role = "server-half"   // in a licence, for a server's key-release key
)

// Binding is what a wrapped key belongs to. A key that is moved to another place
// does not unwrap there.
type Binding struct {
	Kind    Kind
	Licence GUID
	Model   GUID
	Role    Role
}

// info is the HPKE info. No part of it can contain a space.
func (b Binding) info() []byte {
	return fmt.Appendf(nil, "ovsa-wrap/v1 %s %s %s %s", b.Kind, b.Licence, b.Model, b.Role)
}

// wrappedSize is the size of a wrapped key: the encapsulated P-384 point, the key
// and the GCM tag.
const wrappedSize = 97 + KeySize + 16

// Wrap encrypts k to a P-384 key: HPKE (RFC 9180) in base mode, DHKEM(P-384,
// HKDF-SHA384), HKDF-SHA384, AES-256-GCM. It is the encapsulated key followed by
// the ciphertext.
func Wrap(k Key, to *ecdsa.PublicKey, b Binding) ([]byte, error) {
	pub, err := to.ECDH()
	if err != nil {
		return nil, fmt.Errorf("wrap %s: %w", b.Role, err)
	}
	if pub.Curve() != ecdh.P384() {
		return nil, fmt.Errorf("wrap %s: not a P-384 key", b.Role)
	}
	recipient, err := hpke.NewDHKEMPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("wrap %s: %w", b.Role, err)
	}
	out, err := hpke.Seal(recipient, hpke.HKDFSHA384(), hpke.AES256GCM(), b.info(), k.Bytes())
	if err != nil {
		return nil, fmt.Errorf("wrap %s: %w", b.Role, err)
	}
	return out, nil
}

// Unwrap decrypts what Wrap made. A wrong key and a wrong binding are ErrUnwrap
// alike.
func Unwrap(wrapped []byte, key *ecdsa.PrivateKey, b Binding) (Key, error) {
	if len(wrapped) != wrappedSize {
		return Key{}, fmt.Errorf("unwrap %s: %w", b.Role, ErrUnwrap)
	}
	priv, err := key.ECDH()
	if err != nil {
		return Key{}, fmt.Errorf("unwrap %s: %w", b.Role, err)
	}
	recipient, err := hpke.NewDHKEMPrivateKey(priv)
	if err != nil {
		return Key{}, fmt.Errorf("unwrap %s: %w", b.Role, err)
	}
	plain, err := hpke.Open(recipient, hpke.HKDFSHA384(), hpke.AES256GCM(), b.info(), wrapped)
	if err != nil {
		return Key{}, fmt.Errorf("unwrap %s: %w", b.Role, ErrUnwrap)
	}
	return TakeKey(plain)
}
