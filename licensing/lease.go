package licensing

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// KindLease is the kind of a Lease.
const KindLease Kind = "ovsa-lease"

// Lease says that a guest may use a licensed model until then. Its signer is the
// licence server, with the key of its TLS certificate. It opens nothing.
type Lease struct {
	ID          string    `json:"id"` // 32 hex digits
	LicenceGUID GUID      `json:"licence_guid"`
	ModelGUID   GUID      `json:"model_guid"`
	Guest       string    `json:"guest"` // hex of the TPM name of the guest's endorsement key
	Issued      time.Time `json:"issued"`
	Expires     time.Time `json:"expires"`
	RenewUntil  time.Time `json:"renew_until"` // after it, a new proof is needed
}

// Kind is KindLease.
func (Lease) Kind() Kind { return KindLease }

// Check says what is wrong with the content by itself.
func (l Lease) Check() error {
	if id, err := hex.DecodeString(l.ID); err != nil || len(id) != 16 {
		return errors.New("the lease's ID is not 32 hex digits")
	}
	if guest, err := hex.DecodeString(l.Guest); err != nil || len(guest) == 0 || len(guest) > 66 {
		return errors.New("the guest is not a TPM name in hex")
	}
	if err := errors.Join(l.LicenceGUID.check(), l.ModelGUID.check()); err != nil {
		return err
	}
	for what, t := range map[string]time.Time{"issue": l.Issued, "end": l.Expires, "last renewal": l.RenewUntil} {
		if err := checkInstant(what, t); err != nil {
			return err
		}
	}
	if !l.Issued.Before(l.Expires) || l.Expires.After(l.RenewUntil) {
		return fmt.Errorf("a lease from %s to %s, renewed until %s", l.Issued, l.Expires, l.RenewUntil)
	}
	return nil
}
