package licenseserver

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

const kinds = "licence|customer|host|ak|tcb|guest"

// maxReason is what a revocation's reason may have.
const maxReason = 256

func revokeCommands(run binder) []guestcli.Command {
	return []guestcli.Command{
		{Name: "revoke", Operands: "KIND ID", Values: kinds, Max: 2,
			Summary: "refuse a " + strings.ReplaceAll(kinds, "|", ", ") + " from now on; without words, list what is revoked",
			Flags:   []guestcli.Flag{dbFlag(), jsonFlag(), reasonFlag()},
			Run:     run(revoke)},
		{Name: "unrevoke", Operands: "KIND ID", Values: kinds, Min: 2, Max: 2, Summary: "take a revocation back", Flags: []guestcli.Flag{dbFlag(), jsonFlag()},
			Run: run(func(ctx context.Context, s session) error {
				subject, err := parseSubject(s.Operands)
				if err != nil {
					return err
				}
				return s.withDatabase(ctx, func(l *ledger.Ledger) error { return unrevoke(ctx, s, l, subject) })
			})},
	}
}

func reasonFlag() guestcli.Flag {
	return guestcli.Flag{Name: "reason", Arg: "TEXT", Help: "why, for the record"}
}

func revoke(ctx context.Context, s session) error {
	if len(s.Operands) == 0 {
		return s.withDatabase(ctx, func(l *ledger.Ledger) error { return revocations(ctx, s, l) })
	}
	subject, err := parseSubject(s.Operands)
	if err != nil {
		return err
	}
	reason, err := s.reason()
	if err != nil {
		return err
	}
	return s.withDatabase(ctx, func(l *ledger.Ledger) error {
		if err := l.Revoke(ctx, subject, reason, s.Now()); err != nil {
			return err
		}
		return s.Report(revocation{subject.Kind, subject.ID, reason, s.Now().UTC()}, "revoked: %s %s, with proofs at once and leases at their next renewal", subject.Kind, visible.Line(subject.ID))
	})
}

// reason is why something is revoked.
func (s session) reason() (string, error) {
	reason := strings.TrimSpace(s.Text("reason"))
	if reason == "" || len(reason) > maxReason || visible.Line(reason) != reason {
		return "", guestcli.Usagef("-reason TEXT: want one line of 1 to %d bytes", maxReason)
	}
	return reason, nil
}

// unrevoke refuses what is not revoked: it is a typing error.
func unrevoke(ctx context.Context, s session, l *ledger.Ledger, subject ledger.Subject) error {
	all, err := l.Revocations(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Subject == subject {
			if err := l.Unrevoke(ctx, subject, s.Now()); err != nil {
				return err
			}
			return s.Report(revocation{r.Kind, r.ID, r.Reason, r.At.UTC()}, "not revoked any more: %s %s, which was: %s", r.Kind, visible.Line(r.ID), visible.Line(r.Reason))
		}
	}
	return fmt.Errorf("%s %q is not revoked", subject.Kind, subject.ID)
}

// parseSubject parses KIND ID. A customer may be named by a certificate's file.
func parseSubject(words []string) (ledger.Subject, error) {
	if len(words) != 2 {
		return ledger.Subject{}, guestcli.Usagef("want %s, and which one", kinds)
	}
	kind, id := ledger.Kind(words[0]), strings.ToLower(words[1])
	switch kind {
	case ledger.KindLicence:
		guid, err := licensing.ParseGUID(id)
		return ledger.Subject{Kind: kind, ID: string(guid)}, err
	case ledger.KindCustomer:
		if !isHex(id, 32, 32) {
			certs, err := pki.ReadFile(words[1])
			if err != nil {
				return ledger.Subject{}, fmt.Errorf("want the SHA-256 of a public key, as show prints it, or a certificate: %w", err)
			}
			id = customerID(certs[0])
		}
	case ledger.KindTCB:
		if !isHex(id, 32, 32) {
			return ledger.Subject{}, errors.New("want the SHA-256 of a TCB in hex")
		}
	case ledger.KindAK, ledger.KindGuest:
		if !isHex(id, 34, 66) {
			return ledger.Subject{}, fmt.Errorf("want the TPM name of the %s's key in hex, all of it", map[ledger.Kind]string{ledger.KindAK: "host", ledger.KindGuest: "guest"}[kind])
		}
	case ledger.KindHost:
		id = words[1]
		if id == "" || len(id) > 128 || visible.Line(id) != id {
			return ledger.Subject{}, errors.New("want a host's id")
		}
	default:
		return ledger.Subject{}, guestcli.Usagef("unknown kind %q: want %s", words[0], kinds)
	}
	return ledger.Subject{Kind: kind, ID: id}, nil
}

// isHex tells whether s is min to max bytes in hex.
func isHex(s string, min, max int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) >= min && len(b) <= max
}

// revocation is a row of revoke without words.
type revocation struct {
	Kind   ledger.Kind `json:"kind"`
	ID     string      `json:"id"`
	Reason string      `json:"reason"`
	At     time.Time   `json:"at"`
}

func revocations(ctx context.Context, s session, l *ledger.Ledger) error {
	found, err := l.Revocations(ctx)
	if err != nil {
		return err
	}
	all := []revocation{}
	for _, r := range found {
		all = append(all, revocation{r.Kind, r.ID, r.Reason, r.At.UTC()})
	}
	if s.Has("json") {
		return writeJSON(s.Stdout, all)
	}
	w := tabwriter.NewWriter(s.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tID\tSINCE\tREASON")
	for _, r := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Kind, visible.Line(r.ID), day(r.At), visible.Line(r.Reason))
	}
	return w.Flush()
}
