package licenseserver

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

func auditCommands(run binder) []guestcli.Command {
	return []guestcli.Command{
		{Name: "audit", Summary: "print the log of all decisions",
			Flags: []guestcli.Flag{dbFlag(), jsonFlag(), {Name: "after", Arg: "N", Kind: guestcli.Number, Help: "only the entries after this one", Default: "0"}},
			Run: run(func(ctx context.Context, s session) error {
				return s.withDatabase(ctx, func(l *ledger.Ledger) error { return printAudit(ctx, s, l, int64(s.Number("after"))) })
			})},
		{Name: "audit verify", Summary: "verify that the log is whole, and goes on from a hash that was printed before",
			Flags: []guestcli.Flag{dbFlag(), jsonFlag(), {Name: "archive", Arg: "FILE", Kind: guestcli.File, Repeat: true, Help: "what audit prune wrote; all of them, in their order"}, {Name: "head", Arg: "HASH", Help: "the last hash of an earlier audit verify, which has to be in the log"}},
			Run: run(func(ctx context.Context, s session) error {
				return s.withDatabase(ctx, func(l *ledger.Ledger) error { return verifyAudit(ctx, s, l) })
			})},
		{Name: "audit prune", Summary: "move old entries of the log into an archive; what stays verifies as before",
			Flags: []guestcli.Flag{dbFlag(), jsonFlag(), {Name: "before", Arg: "YYYY-MM-DD", Help: "those before this day, UTC", Required: true}, {Name: "out", Arg: "FILE", Kind: guestcli.File, Help: "the archive: lines of JSON", Required: true}},
			Run: run(func(ctx context.Context, s session) error {
				return s.withDatabase(ctx, func(l *ledger.Ledger) error { return pruneAudit(ctx, s, l) })
			})},
	}
}

// pruned is what audit prune did.
type pruned struct {
	Archived int    `json:"archived"`
	File     string `json:"file,omitempty"`
}

// pruneAudit archives entries and only then removes them. A run that dies between
// leaves an archive of entries that are still there: another run, into another file,
// has them again.
func pruneAudit(ctx context.Context, s session, l *ledger.Ledger) error {
	before, err := time.Parse(time.DateOnly, s.Text("before"))
	if err != nil {
		return guestcli.Usagef("-before %q: want a day, as in 2026-01-31", s.Text("before"))
	}
	path := s.Text("out")
	n, last := 0, int64(0)
	staged, err := atomicfile.Stage(path, private, func(w io.Writer) error {
		lines := json.NewEncoder(w)
		last, err = l.ArchiveAudit(ctx, before, func(a ledger.Archived) error {
			n++
			return lines.Encode(a)
		})
		return err
	})
	if err != nil {
		return err
	}
	if n == 0 {
		staged.Discard()
		return s.Report(pruned{}, "nothing is older than %s", s.Text("before"))
	}
	if err := staged.Create(); err != nil {
		return err
	}
	if err := l.DropAudit(ctx, last, s.Now()); err != nil {
		return err
	}
	return s.Report(pruned{n, path}, "%s: %d entries, which are not in the database any more; keep it: audit verify -archive needs it", path, n)
}

// archives reads what audit prune wrote, and looks for a known hash in it.
func (s session) archives(ctx context.Context, l *ledger.Ledger, known []byte) (found bool, err error) {
	c := ledger.Chain{Known: known}
	for _, words := range s.Each("archive") {
		f, err := os.Open(words[0])
		if err != nil {
			return false, err
		}
		err = func() error {
			defer f.Close()
			for lines := json.NewDecoder(f); ; {
				var a ledger.Archived
				err := lines.Decode(&a)
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err == nil {
					err = c.Add(a)
				}
				if err != nil {
					return fmt.Errorf("%q: %w", words[0], err)
				}
			}
		}()
		if err != nil {
			return false, err
		}
	}
	return c.Found, l.Joins(ctx, c)
}

// verified is the answer to audit verify.
type verified struct {
	Entries int64  `json:"entries"`
	Head    string `json:"head"`
}

func verifyAudit(ctx context.Context, s session, l *ledger.Ledger) error {
	var known []byte
	if s.Has("head") {
		var err error
		if known, err = hex.DecodeString(s.Text("head")); err != nil || len(known) != sha256.Size {
			return guestcli.Usagef("-head HASH: want the 64 digits that audit verify printed")
		}
	}
	if s.Has("archive") {
		found, err := s.archives(ctx, l, known)
		if err != nil {
			return err
		}
		if found {
			known = nil
		}
	}
	entries, last, err := l.VerifyAudit(ctx, known)
	if err != nil {
		if errors.Is(err, ledger.ErrUnknown) {
			return hint.Wrap(err, "it may be that of an entry that was archived: give all archives, with -archive; if it is in none of them, the log was cut short")
		}
		if errors.Is(err, ledger.ErrTampered) {
			return hint.Wrap(err, "stop the server, keep this database as evidence, and go back to a backup that verifies")
		}
		return err
	}
	if s.Has("json") {
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

func printAudit(ctx context.Context, s session, l *ledger.Ledger, after int64) error {
	w := bufio.NewWriter(s.Stdout)
	lines := json.NewEncoder(w)
	err := l.Audit(ctx, after, func(seq int64, e ledger.Entry) error {
		if s.Has("json") {
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
			words = append(words, name, visible.Line(value))
		}
	}
	if e.Count > 1 {
		add("times", strconv.Itoa(e.Count))
	}
	add("customer", e.Customer)
	add("licence", e.GUID)
	add("model", e.Model)
	add("guest", e.Guest)
	add("lease", e.Lease)
	if e.Subject != nil {
		add(string(e.Subject.Kind), e.Subject.ID)
	}
	add("because:", e.Reason)
	add("by", e.By)
	add("request", e.Request)
	add("REFUSED:", e.Refused)
	return strings.Join(words, " ")
}
