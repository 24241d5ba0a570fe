package quote

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Algorithms of endorsement keys.
const (
	RSA2048 = "rsa2048"
	ECCP384 = "ecc-p384"
)

// Claims is what a host says about a vTPM.
type Claims struct {
	Version int       `json:"version"` // 1
	VMUUID  string    `json:"vm_uuid"` // lower case, with dashes
	VMName  string    `json:"vm_name"`
	HostID  string    `json:"host_id"` // see HostID
	EKs     []EKClaim `json:"eks"`     // at least one, one per algorithm
	Serial  string    `json:"serial"`  // 16 random bytes in hex
	Lineage string    `json:"lineage"` // 16 random bytes in hex: others when the host finds another state than it left
	Time    string    `json:"time"`    // RFC 3339, UTC, whole seconds
}

// EKClaim names one endorsement key of the vTPM.
type EKClaim struct {
	Algorithm  string `json:"algorithm"`   // RSA2048 or ECCP384
	CertSHA256 string `json:"cert_sha256"` // hex, over the certificate's DER
	Name       string `json:"name"`        // hex of the key's TPM name
}

// EK is an endorsement key as it is in a vTPM.
type EK struct {
	Algorithm string // RSA2048 or ECCP384
	Cert      []byte // DER
	Name      []byte // TPM name
}

// HostID is how claims name a host: the TPM name of its EK in hex, or of its AK
// when the host TPM has no EK certificate, which is known by "ak:" before it.
func HostID(ekName, akName []byte) string {
	if len(ekName) > 0 {
		return hex.EncodeToString(ekName)
	}
	return "ak:" + hex.EncodeToString(akName)
}

// Marshal checks the claims and returns the one encoding that ParseClaims accepts.
func (c Claims) Marshal() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("encode claims: %w", err)
	}
	b, err := marshal(c, MaxClaims)
	if err != nil {
		return nil, fmt.Errorf("encode claims: %w", err)
	}
	return b, nil
}

// ParseClaims parses what Claims.Marshal made, as strictly as ParseRecord.
func ParseClaims(b []byte) (Claims, error) {
	var c Claims
	if err := unmarshal(b, &c, MaxClaims); err != nil {
		return Claims{}, fmt.Errorf("parse claims: %w", err)
	}
	if err := c.check(); err != nil {
		return Claims{}, fmt.Errorf("parse claims: %w", err)
	}
	return c, nil
}

func (c Claims) check() error {
	switch {
	case c.Version != 1:
		return fmt.Errorf("version %d, want 1", c.Version)
	case !isUUID(c.VMUUID):
		return fmt.Errorf("vm_uuid %q is not a UUID in lower case", c.VMUUID)
	case c.VMName == "" || len(c.VMName) > 255:
		return errors.New("vm_name is empty or over 255 bytes")
	case len(c.HostID) < 32 || len(c.HostID) > 160:
		return errors.New("host_id is not 32 to 160 characters")
	case !isHex(c.Serial, 16, 16):
		return errors.New("serial is not 16 bytes in hex")
	case !isHex(c.Lineage, 16, 16):
		return errors.New("lineage is not 16 bytes in hex")
	case len(c.EKs) == 0 || len(c.EKs) > 2:
		return fmt.Errorf("%d endorsement keys, want 1 or 2", len(c.EKs))
	}
	if t, err := time.Parse(time.RFC3339, c.Time); err != nil || t.UTC().Format(time.RFC3339) != c.Time {
		return fmt.Errorf("time %q is not RFC 3339 in UTC", c.Time)
	}
	return checkEKs(c.EKs)
}

func checkEKs(eks []EKClaim) error {
	seen := map[string]bool{}
	for _, ek := range eks {
		switch {
		case ek.Algorithm != RSA2048 && ek.Algorithm != ECCP384:
			return fmt.Errorf("endorsement key algorithm %q is not known", ek.Algorithm)
		case seen[ek.Algorithm]:
			return fmt.Errorf("two endorsement keys of algorithm %q", ek.Algorithm)
		case !isHex(ek.CertSHA256, 32, 32):
			return errors.New("cert_sha256 is not 32 bytes in hex")
		case !isHex(ek.Name, 22, 66):
			return errors.New("name is not a TPM name in hex")
		}
		seen[ek.Algorithm] = true
	}
	return nil
}

// isHex says whether s is from min to max bytes in lower case hex.
func isHex(s string, min, max int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) >= min && len(b) <= max && hex.EncodeToString(b) == s
}

func isUUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	return isHex(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:], 16, 16)
}
