package licensing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Type says what a licence limits.
type Type string

// The types of licences.
const (
	Sale          Type = "Sale"          // nothing
	InstanceLimit Type = "InstanceLimit" // the guests that hold a lease at the same time
	TimeLimit     Type = "TimeLimit"     // until when leases are given
)

// Limits of licences.
const (
	MaxInstances = 1_000_000
	MaxDays      = 36_500
)

// Terms are a licence's type and its one limit.
type Terms struct {
	Type      Type `json:"type"`
	Instances int  `json:"instances,omitzero"` // of an InstanceLimit
	Days      int  `json:"days,omitzero"`      // of a TimeLimit, from the day of the sale
}

// Check says what is wrong with the terms by themselves.
func (t Terms) Check() error {
	switch {
	case t.Type != Sale && t.Type != InstanceLimit && t.Type != TimeLimit:
		return fmt.Errorf("unknown licence type %q: want %s, %s or %s", t.Type, Sale, InstanceLimit, TimeLimit)
	case t.Type == InstanceLimit && (t.Instances < 1 || t.Instances > MaxInstances):
		return fmt.Errorf("%d instances: want 1 to %d", t.Instances, MaxInstances)
	case t.Type == TimeLimit && (t.Days < 1 || t.Days > MaxDays):
		return fmt.Errorf("%d days: want 1 to %d", t.Days, MaxDays)
	case t.Type != InstanceLimit && t.Instances != 0, t.Type != TimeLimit && t.Days != 0:
		return fmt.Errorf("a limit that the type %s does not have", t.Type)
	}
	return nil
}

// Pin is the SHA-256 of a certificate's SubjectPublicKeyInfo.
type Pin []byte

// PinOf is the pin of a certificate.
func PinOf(c *x509.Certificate) Pin {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return sum[:]
}

// Server is a licence server as a licence names it.
type Server struct {
	Address    string `json:"address"` // host:port
	Pin        Pin    `json:"pin"`     // of its TLS certificate
	FuturePin  Pin    `json:"future_pin,omitempty"`
	ReleaseKey []byte `json:"release_key"` // to which its half of the key is wrapped: SPKI of a P-384 key
	// FutureReleaseKey is one that the server will have, in the same form. The half is
	// wrapped to it, too.
	FutureReleaseKey []byte `json:"future_release_key,omitempty"`
}

// ParseAddress returns host:port as documents spell it. A scheme other than
// https, a path, a missing port and credentials are refused.
func ParseAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(s, "https://"), "/"))
	if err != nil {
		return "", fmt.Errorf("parse server address %q: want HOST:PORT", s)
	}
	address := net.JoinHostPort(host, port)
	if err := checkAddress(address); err != nil {
		return "", fmt.Errorf("parse server address %q: %w", s, err)
	}
	return address, nil
}

func checkAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || s != net.JoinHostPort(host, port) {
		return errors.New("want HOST:PORT")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("port %q: want 1 to 65535", port)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if host == "" || len(host) > 253 || strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") != "" {
		return fmt.Errorf("host %q: want a name or an address", host)
	}
	return nil
}

// String is the pin as people are shown it and give it: 64 digits of lower-case hex.
func (p Pin) String() string { return hex.EncodeToString(p) }

// releaseKeys are the key-release keys that the server has and will have, SPKI.
func (s Server) releaseKeys() [][]byte {
	if len(s.FutureReleaseKey) == 0 {
		return [][]byte{s.ReleaseKey}
	}
	return [][]byte{s.ReleaseKey, s.FutureReleaseKey}
}

// parseReleaseKey parses a key-release key in its one encoding, because a half is
// found by it.
func parseReleaseKey(spki []byte) (*ecdsa.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, errors.New("not a P-384 key")
	}
	if der, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(der, spki) {
		return nil, errors.New("not in its one encoding")
	}
	return key, nil
}

func (s Server) check() error {
	if err := checkAddress(s.Address); err != nil {
		return fmt.Errorf("server address %q: %w", s.Address, err)
	}
	if len(s.Pin) != sha256.Size || len(s.FuturePin) != 0 && len(s.FuturePin) != sha256.Size {
		return fmt.Errorf("a pin of %s is not a SHA-256", s.Address)
	}
	if bytes.Equal(s.Pin, s.FuturePin) {
		return fmt.Errorf("the current and the future pin of %s are the same", s.Address)
	}
	for _, spki := range s.releaseKeys() {
		if _, err := parseReleaseKey(spki); err != nil {
			return fmt.Errorf("release key of %s: %w", s.Address, err)
		}
	}
	if bytes.Equal(s.ReleaseKey, s.FutureReleaseKey) {
		return fmt.Errorf("the current and the future release key of %s are the same", s.Address)
	}
	return nil
}

func checkServers(servers []Server) error {
	if len(servers) == 0 || len(servers) > MaxServers {
		return fmt.Errorf("%d licence servers, want 1 to %d", len(servers), MaxServers)
	}
	seen := map[string]bool{}
	for _, s := range servers {
		if err := s.check(); err != nil {
			return err
		}
		if seen[strings.ToLower(s.Address)] {
			return fmt.Errorf("server %s is listed twice", s.Address)
		}
		seen[strings.ToLower(s.Address)] = true
	}
	return nil
}

// LicenceConfig is what licences of one kind have in common (.config).
type LicenceConfig struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Terms   Terms    `json:"terms"`
	Servers []Server `json:"servers"`
}

// Kind is KindConfig.
func (LicenceConfig) Kind() Kind { return KindConfig }

// Check says what is wrong with the content by itself.
func (c LicenceConfig) Check() error {
	if err := checkText("name", c.Name, MaxName); err != nil {
		return err
	}
	if err := checkText("version", c.Version, MaxVersion); err != nil {
		return err
	}
	if err := c.Terms.Check(); err != nil {
		return err
	}
	return checkServers(c.Servers)
}
