package enrol

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/licensing/pki"
)

// ErrNotAllowed says that a policy does not let a host be enrolled.
var ErrNotAllowed = errors.New("the host is not allowed")

// Host is whom a policy decides on. Its keys have not answered a challenge yet
// when it is asked first, and have when it is asked again.
type Host struct {
	ID        string            // of the EK in the certificate
	EK        *x509.Certificate // verified
	Simulated bool              // as the host says
}

// Policy decides which hosts may be enrolled. Allow returns ErrNotAllowed, or the
// UUIDs of the virtual machines that the host may vouch for at most, none for any.
type Policy interface {
	Allow(ctx context.Context, h Host) (vms []string, err error)
}

// AnyHost allows each host whose EK certificate leads to a trusted vendor: who
// owns a TPM of that vendor can enrol it.
type AnyHost struct{}

var _ Policy = AnyHost{}

// Allow implements Policy.
func (AnyHost) Allow(context.Context, Host) ([]string, error) { return nil, nil }

// AllowList is a file of the hosts that may be enrolled. A line is a host id or
// the SHA-256 of an EK certificate, in hex, and after it the UUIDs of the virtual
// machines that the host may vouch for at most, where it is limited; # begins a
// comment. The file is read for each decision, so that a change needs no restart.
type AllowList struct{ Path string }

var _ Policy = AllowList{}

// Limits of an allow list.
const (
	// MaxAllowList is the most bytes that an allow list may have.
	MaxAllowList = 4 << 20

	maxLine = 8 << 10
)

// Allow implements Policy. A file that cannot be read or parsed allows nobody.
func (l AllowList) Allow(_ context.Context, h Host) ([]string, error) {
	all, err := l.List()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{h.ID, pki.Fingerprint(h.EK)} {
		if i := slices.IndexFunc(all, func(a Allowed) bool { return a.Host == name }); i >= 0 {
			return all[i].VMs, nil
		}
	}
	return nil, ErrNotAllowed
}

// parseList parses an allow list as a whole: what it says about one host is not
// believed when another line is damaged.
func parseList(data []byte) ([]Allowed, error) {
	if len(data) > MaxAllowList {
		return nil, fmt.Errorf("more than %d bytes", MaxAllowList)
	}
	var all []Allowed
	seen := make(map[string]bool)
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		name := words[0]
		if len(name) < 64 || len(name) > 160 || strings.Trim(strings.TrimPrefix(name, "ak:"), "0123456789abcdef") != "" {
			return nil, fmt.Errorf("line %d: %q is neither a host id nor a SHA-256, in lower case", n, name)
		}
		if seen[name] {
			return nil, fmt.Errorf("line %d: the host is listed twice", n)
		}
		seen[name] = true
		if len(words)-1 > MaxVMs {
			return nil, fmt.Errorf("line %d: more than %d virtual machines", n, MaxVMs)
		}
		if err := checkUUIDs(words[1:]); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, Allowed{name, slices.Clip(words[1:])})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return all, nil
}

// grant is what a host gets that asks for some virtual machines, none for any,
// where a policy has a limit.
func grant(asked, limit []string) ([]string, error) {
	if len(limit) == 0 {
		return asked, nil
	}
	if len(asked) == 0 {
		return limit, nil
	}
	for _, vm := range asked {
		if !slices.Contains(limit, vm) {
			return nil, fmt.Errorf("%w to vouch for %s", ErrNotAllowed, vm)
		}
	}
	return asked, nil
}

// RootsIn returns the vendors' roots that are in a directory at the time of each
// decision, so that a change needs no restart.
func RootsIn(store pki.Store) func(context.Context) ([]*x509.Certificate, error) {
	return func(context.Context) ([]*x509.Certificate, error) {
		anchors, err := store.List()
		if err != nil {
			return nil, err
		}
		roots := make([]*x509.Certificate, len(anchors))
		for i, a := range anchors {
			roots[i] = a.Certificate
		}
		return roots, nil
	}
}
