package remote

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

const (
	maxHostKeys   = 16
	maxHostKeyLen = 16 << 10
)

const wrongKeyHint = "somebody may stand between you and the guest, so nothing was sent; " +
	"a guest whose keys were changed on purpose has to be made again: ovsactl destroy --target role.NAME, then apply"

// HostKeyError says that whoever answered is not the guest: its host key is
// not one that the guest announced to its host.
type HostKeyError struct {
	Type, Fingerprint string // of the key offered; "" when no known type was
}

func (e *HostKeyError) Error() string {
	if e.Type == "" {
		return "the SSH host key is of another type than those that the guest announced"
	}
	return fmt.Sprintf("the SSH host key %s (%s) is not one that the guest announced", e.Fingerprint, e.Type)
}

type hostKeys []ssh.PublicKey

// parseHostKeys reads keys in authorized_keys format, one per element, without
// options.
func parseHostKeys(lines []string) (hostKeys, error) {
	switch {
	case len(lines) == 0:
		return nil, errors.New("the guest's SSH host keys are not known")
	case len(lines) > maxHostKeys:
		return nil, fmt.Errorf("over %d host keys", maxHostKeys)
	}
	var keys hostKeys
	for _, line := range lines {
		if len(line) > maxHostKeyLen || strings.ContainsAny(line, "\r\n\x00") {
			return nil, errors.New("parse host key: not one short line")
		}
		key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("parse host key: %w", err)
		}
		if _, certificate := key.(*ssh.Certificate); certificate || len(options) > 0 {
			return nil, errors.New("parse host key: not a plain key")
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (h hostKeys) check(_ string, _ net.Addr, offered ssh.PublicKey) error {
	wire := offered.Marshal()
	if slices.ContainsFunc(h, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), wire) }) {
		return nil
	}
	return &HostKeyError{Type: offered.Type(), Fingerprint: ssh.FingerprintSHA256(offered)}
}

// algorithms lists the signatures that the keys can make, so that the server
// offers no key of another type.
func (h hostKeys) algorithms() []string {
	var list []string
	for _, k := range h {
		if k.Type() == ssh.KeyAlgoRSA {
			list = append(list, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256) // never SHA-1
			continue
		}
		list = append(list, k.Type())
	}
	// Elliptic curves first: an emulated guest signs with them much faster.
	slices.SortStableFunc(list, func(a, b string) int {
		return boolInt(strings.HasPrefix(a, "rsa-")) - boolInt(strings.HasPrefix(b, "rsa-"))
	})
	return slices.Compact(list)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// hostKeyFailure turns a server without any key of the known types into a
// *HostKeyError, and leaves other errors alone.
func hostKeyFailure(err error) error {
	var negotiation *ssh.AlgorithmNegotiationError
	if errors.As(err, &negotiation) && strings.Contains(negotiation.Error(), "host key") {
		return &HostKeyError{}
	}
	return err
}

// isAuthFailure tells a server that answered and did not let us in.
func isAuthFailure(err error) bool {
	var auth *ssh.ServerAuthError
	return err != nil && (errors.As(err, &auth) || strings.Contains(err.Error(), "unable to authenticate"))
}

func authorizedLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
