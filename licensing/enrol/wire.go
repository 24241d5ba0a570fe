package enrol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
)

// Paths of the two requests, which are POST.
const (
	BeginPath  = "/v1/hosts/begin"
	FinishPath = "/v1/hosts/finish"
)

// Limits on what is parsed.
const (
	MaxRequest  = 128 << 10 // a chain of 8 certificates of 8 KiB in base64, and the rest
	MaxResponse = 256 << 10
	MaxVMs      = 100 // so that a certificate with their names is no larger than any other

	maxAK     = 1 << 10
	maxChain  = 8
	maxID     = 64
	maxSecret = 64
)

// Request asks for the certification of a host's attestation key.
type Request struct {
	Enrolment Enrolment `json:"enrolment"`
	// VMs are the UUIDs of the virtual machines that the host may vouch for, none
	// for any. A policy may know better.
	VMs []string `json:"vms,omitempty"`
}

// Enrolment is who a host says that it is.
type Enrolment struct {
	HostID    string   `json:"host_id"`   // see quote.HostID
	AK        []byte   `json:"ak"`        // TPMT_PUBLIC
	EKChain   [][]byte `json:"ek_chain"`  // DER, the EK's first, without the vendor's root
	Simulated bool     `json:"simulated"` // the TPM is a stand-in, as the host says
}

// Challenge is for a TPM with both keys of an Enrolment: TPM2_ActivateCredential
// gives the secret that Answer wants, once and before Expires.
type Challenge struct {
	ID              string    `json:"id"`
	Credential      []byte    `json:"credential"`       // content of a TPM2B_ID_OBJECT
	EncryptedSecret []byte    `json:"encrypted_secret"` // content of a TPM2B_ENCRYPTED_SECRET
	Expires         time.Time `json:"expires"`
}

// Answer is a challenge's secret.
type Answer struct {
	ID     string `json:"id"`
	Secret Secret `json:"secret"`
}

// Certificate is what a host gets: its attestation key's certificate, for records,
// and those that lead from its issuer upwards.
type Certificate struct {
	Certificate []byte   `json:"certificate"` // DER
	Issuers     [][]byte `json:"issuers"`     // DER, the certificate's own issuer first
}

// Secret does not print.
type Secret []byte

func (Secret) String() string       { return "(secret)" }
func (Secret) GoString() string     { return "(secret)" }
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// ParseRequest parses the one encoding of a Request: compact JSON with the
// fields in their order, none unknown, repeated or spelled otherwise.
func ParseRequest(b []byte) (Request, error) {
	var r Request
	if err := unmarshal(b, &r, MaxRequest); err != nil {
		return Request{}, fmt.Errorf("parse request: %w", err)
	}
	if err := r.check(); err != nil {
		return Request{}, fmt.Errorf("parse request: %w", err)
	}
	return r, nil
}

func (r Request) check() error {
	e := r.Enrolment
	switch {
	case len(e.HostID) < 32 || len(e.HostID) > 160:
		return errors.New("host_id is not 32 to 160 characters")
	case len(e.AK) == 0 || len(e.AK) > maxAK:
		return fmt.Errorf("an attestation key of %d bytes", len(e.AK))
	case len(e.EKChain) == 0 || len(e.EKChain) > maxChain:
		return fmt.Errorf("%d certificates of the EK, want 1 to %d", len(e.EKChain), maxChain)
	case len(r.VMs) > MaxVMs:
		return fmt.Errorf("%d virtual machines, at most %d", len(r.VMs), MaxVMs)
	}
	return checkUUIDs(r.VMs)
}

// checkUUIDs accepts distinct UUIDs in lower case.
func checkUUIDs(uuids []string) error {
	seen := make(map[string]bool, len(uuids))
	for _, uuid := range uuids {
		if g, err := licensing.ParseGUID(uuid); err != nil || string(g) != uuid {
			return fmt.Errorf("%q is not a UUID in lower case", uuid)
		}
		if seen[uuid] {
			return fmt.Errorf("%s is named twice", uuid)
		}
		seen[uuid] = true
	}
	return nil
}

// ParseAnswer parses the one encoding of an Answer.
func ParseAnswer(b []byte) (Answer, error) {
	var a Answer
	if err := unmarshal(b, &a, MaxRequest); err != nil {
		return Answer{}, fmt.Errorf("parse answer: %w", err)
	}
	if a.ID == "" || len(a.ID) > maxID || len(a.Secret) == 0 || len(a.Secret) > maxSecret {
		return Answer{}, errors.New("parse answer: the id or the secret has another size")
	}
	return a, nil
}

// unmarshal decodes b into v, a pointer to a zero value, and insists that
// encoding the result again gives b.
func unmarshal(b []byte, v any, limit int) error {
	if len(b) == 0 || len(b) > limit {
		return fmt.Errorf("%d bytes, want 1 to %d", len(b), limit)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	again, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return errors.New("not the canonical encoding")
	}
	return nil
}
