package exchange

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ovsactl/ovsactl/licensing"
)

// ErrFormat says that bytes are not the message that they should be.
var ErrFormat = errors.New("not a message of this protocol")

// Message is a pointer to what is sent.
type Message interface {
	check() error // what is wrong with it by itself
}

// Parse parses a message into v: one JSON
// value without unknown fields, with all that it needs, each within its limits.
func Parse(data []byte, v Message) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if dec.More() || len(bytes.TrimSpace(data[dec.InputOffset():])) > 0 {
		return fmt.Errorf("%w: something follows it", ErrFormat)
	}
	if err := v.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}

// Limits of fields.
const (
	maxCertificate = 8 << 10
	maxPublic      = 1 << 10
	maxBlob        = 1 << 10 // of a credential, a signature, an attestation
	maxEKs         = 4
)

func size(what string, b []byte, most int) error {
	if len(b) == 0 || len(b) > most {
		return fmt.Errorf("a %s of %d bytes, want 1 to %d", what, len(b), most)
	}
	return nil
}

func exactly(what string, b []byte, want int) error {
	if len(b) != want {
		return fmt.Errorf("a %s of %d bytes, want %d", what, len(b), want)
	}
	return nil
}

// idSize is the size of a challenge's ID and a lease's, before they are in hex.
const idSize = 16

func checkID(what, id string) error {
	if b, err := hex.DecodeString(id); err != nil || len(b) != idSize || hex.EncodeToString(b) != id {
		return fmt.Errorf("the %s is not %d bytes in lower-case hex", what, idSize)
	}
	return nil
}

func (b *Begin) check() error {
	for _, id := range []licensing.GUID{b.Licence, b.Model} {
		if parsed, err := licensing.ParseGUID(string(id)); err != nil || parsed != id {
			return errors.New("a GUID is not one")
		}
	}
	if len(b.EKs) == 0 || len(b.EKs) > maxEKs {
		return fmt.Errorf("%d EK certificates, want 1 to %d", len(b.EKs), maxEKs)
	}
	errs := []error{
		size("certificate", b.Customer, maxCertificate),
		size("attestation key", b.AK, maxPublic),
		size("release key", b.ReleaseKey, maxPublic),
	}
	for _, ek := range b.EKs {
		errs = append(errs, size("certificate", ek, maxCertificate))
	}
	return errors.Join(errs...)
}

func (c *Challenge) check() error {
	return errors.Join(
		checkID("challenge", c.ID),
		exactly("nonce", c.Nonce, NonceSize),
		size("credential", c.Credential, maxBlob),
		size("secret", c.EncryptedSecret, maxBlob),
	)
}

func (f *Finish) check() error {
	return errors.Join(
		checkID("challenge", f.ID),
		exactly("secret", f.Secret, SecretSize),
		size("evidence", f.Evidence, MaxFinish),
		size("release key", f.Certification.Public, maxPublic),
		size("attestation", f.Certification.Attest, maxBlob),
		size("signature", f.Certification.Signature, maxBlob),
		size("signature", f.Possession, maxBlob),
	)
}

func (g *Grant) check() error {
	return errors.Join(size("sealed half", g.Sealed, maxBlob), size("lease", g.Lease, MaxAnswer))
}

func (r *Renew) check() error {
	if b, err := hex.DecodeString(r.Guest); err != nil || hex.EncodeToString(b) != r.Guest {
		return errors.New("the guest is not lower-case hex")
	}
	return errors.Join(
		checkID("lease", r.Lease),
		size("guest", []byte(r.Guest), 2*66),
		exactly("MAC", r.MAC, sha256.Size),
	)
}

func (r *Renewed) check() error {
	if r.Expires.Unix() <= 0 || r.Expires.Nanosecond() != 0 {
		return errors.New("the lease's end is not a time in whole seconds")
	}
	return exactly("MAC", r.MAC, sha256.Size)
}

func (p *Problem) check() error {
	return errors.Join(
		size("code", []byte(p.Code), 64), size("message", []byte(p.Message), 1024), size("request", []byte(p.Request), 64),
	)
}

// Nothing is the answer to a request that only has to be heard.
type Nothing struct{}

func (*Nothing) check() error { return nil }
