package licenseserver

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

func auditVerb() verb {
	return verb{
		name: "audit", operands: "[verify]", summary: "print the log of all decisions, or verify that it is whole", max: 1,
		define: func(f *flags) action {
			db, asJSON := f.db(), f.json()
			after := f.number("after", 0, "print the entries after this one")
			return func(ctx context.Context, s session, operands []string) error {
				verify := len(operands) == 1
				if verify && operands[0] != "verify" {
					return guestcli.Usagef("unexpected argument %q", operands[0])
				}
				return withDatabase(ctx, *db, func(l *ledger.Ledger) error {
					if verify {
						return verifyAudit(ctx, s, l, *asJSON)
					}
					return printAudit(ctx, s, l, *asJSON, int64(*after))
				})
			}
		},
	}
}

// verified is the answer to audit verify.
type verified struct {
	Entries int64  `json:"entries"`
	Head    string `json:"head"`
}

func verifyAudit(ctx context.Context, s session, l *ledger.Ledger, asJSON bool) error {
	entries, last, err := l.VerifyAudit(ctx)
	if err != nil {
		if errors.Is(err, ledger.ErrTampered) {
			return hint.Wrap(err, "stop the server, keep this database as evidence, and go back to a backup that verifies")
		}
		return err
	}
	if asJSON {
		return writeJSON(s.Stdout, verified{entries, hex.EncodeToString(last[:])})
	}
	_, err = fmt.Fprintf(s.Stdout, "%d entries, whole; the last: %x\n", entries, last)
	return err
}

// numbered is an entry as a line of JSON.
type numbered struct {
	Seq int64 `json:"seq"`
	ledger.Entry
}

func printAudit(ctx context.Context, s session, l *ledger.Ledger, asJSON bool, after int64) error {
	w := bufio.NewWriter(s.Stdout)
	lines := json.NewEncoder(w)
	err := l.Audit(ctx, after, func(seq int64, e ledger.Entry) error {
		if asJSON {
			return lines.Encode(numbered{seq, e})
		}
		_, err := fmt.Fprintf(w, "%6d  %s  %s\n", seq, e.At.UTC().Format(time.RFC3339), describe(e))
		return err
	})
	return errors.Join(err, w.Flush())
}

// describe is an entry in words.
func describe(e ledger.Entry) string {
	words := []string{e.What}
	add := func(name, value string) {
		if value != "" {
			words = append(words, name, shown(value))
		}
	}
	add("licence", e.GUID)
	add("model", e.Model)
	add("guest", e.Guest)
	add("lease", e.Lease)
	if e.Subject != nil {
		add(string(e.Subject.Kind), e.Subject.ID)
	}
	add("REFUSED:", e.Refused)
	return strings.Join(words, " ")
}
