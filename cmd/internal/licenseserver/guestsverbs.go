package licenseserver

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

func guestCommands(run binder) []guestcli.Command {
	one := func(name, summary string, do func(reader, ledger.Guest) error, more ...guestcli.Flag) guestcli.Command {
		return guestcli.Command{
			Name: "guests " + name, Summary: summary, Operands: "GUEST", Min: 1, Max: 1,
			Flags: append([]guestcli.Flag{dbFlag(), jsonFlag()}, more...),
			Run: run(reading(func(r reader) error {
				g, err := r.guest(r.Operands[0])
				if err != nil {
					return err
				}
				return do(r, g)
			})),
		}
	}
	return []guestcli.Command{
		{Name: "guests ls", Summary: "list the guests that had a key, what they hold, and how often a copy of one was refused",
			Flags: []guestcli.Flag{dbFlag(), jsonFlag()}, Run: run(reading(reader.guests))},
		one("reset", "let a guest in again that was moved or whose TPM was put back; its leases end, and the next proof by its TPM or a copy of it is its first; GUEST is the start of an ID", reader.resetGuest),
		one("revoke", "give nothing to a guest, nor to any copy of its TPM, from now on", reader.revokeGuest, reasonFlag()),
	}
}

// guestRow is a guest as it is shown.
type guestRow struct {
	ID      string    `json:"id"` // as it is revoked
	VM      string    `json:"vm,omitempty"`
	Host    string    `json:"host,omitempty"`
	State   string    `json:"state"` // "in use", "idle" or "revoked"
	Leases  int       `json:"leases"`
	Starts  uint32    `json:"starts"` // resets of its TPM
	Seen    time.Time `json:"seen,omitzero"`
	Refused int       `json:"copies_refused"`
	Last    time.Time `json:"copy_refused_at,omitzero"`
}

func rowOf(g ledger.Guest) guestRow {
	row := guestRow{g.ID, g.VM, g.Host, "idle", g.Leases, g.Clock.Resets, g.Seen, g.Refused, g.Last}
	switch {
	case g.Revoked:
		row.State = "revoked"
	case g.Leases > 0:
		row.State = "in use"
	}
	return row
}

func (r reader) guests() error {
	all, err := r.ledger.Guests(r.ctx, "", r.Now())
	if err != nil {
		return err
	}
	rows := []guestRow{}
	for _, g := range all {
		rows = append(rows, rowOf(g))
	}
	if r.json {
		return writeJSON(r.Stdout, rows)
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "GUEST\tSTATE\tLEASES\tSTARTS\tLAST PROOF\tCOPIES REFUSED\tVIRTUAL MACHINE\tHOST")
	for _, g := range rows {
		refused := "none"
		if g.Refused > 0 {
			refused = fmt.Sprintf("%d, last %s", g.Refused, g.Last.UTC().Format(time.RFC3339))
		}
		seen := "-"
		if !g.Seen.IsZero() {
			seen = g.Seen.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n",
			brief(g.ID), g.State, g.Leases, g.Starts, seen, refused, visible.Line(orDash(g.VM)), visible.Line(brief(orDash(g.Host))))
	}
	return w.Flush()
}

// brief is as much of an ID as tells one from another. TPM names all begin alike.
func brief(id string) string { return id[:min(len(id), 20)] }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// guest is the only one whose ID begins so.
func (r reader) guest(word string) (ledger.Guest, error) {
	id := strings.ToLower(word)
	if len(id) < 8 || strings.Trim(id, "0123456789abcdef") != "" {
		return ledger.Guest{}, hint.Wrap(guestcli.Usagef("%q: want the start of a guest's ID, at least 8 digits", word), "license_server guests ls")
	}
	found, err := r.ledger.Guests(r.ctx, id, r.Now())
	switch {
	case err != nil:
		return ledger.Guest{}, err
	case len(found) == 0:
		return ledger.Guest{}, hint.Wrap(fmt.Errorf("%q: no such guest", word), "license_server guests ls")
	case len(found) > 1:
		return ledger.Guest{}, fmt.Errorf("%q: %d guests' IDs begin so", word, len(found))
	}
	return found[0], nil
}

// resetGuest is what was done to a guest, for programs.
type resetGuest struct {
	ID    string `json:"id"`
	Ended int    `json:"leases_ended"`
}

func (r reader) resetGuest(g ledger.Guest) error {
	if err := r.ledger.ResetGuest(r.ctx, g.ID, r.Now()); err != nil {
		return err
	}
	return r.Report(resetGuest{g.ID, g.Leases}, "reset: %s; leases that ended: %d", brief(g.ID), g.Leases)
}

func (r reader) revokeGuest(g ledger.Guest) error {
	reason, err := r.reason()
	if err != nil {
		return err
	}
	if err := r.ledger.Revoke(r.ctx, ledger.Subject{Kind: ledger.KindGuest, ID: g.ID}, reason, r.Now()); err != nil {
		return err
	}
	return r.Report(revocation{ledger.KindGuest, g.ID, reason, r.Now().UTC()}, "revoked: %s; take it back with: license_server unrevoke guest %s", brief(g.ID), g.ID)
}
