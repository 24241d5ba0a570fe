package licenseserver

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/postgres"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
)

// isPostgres tells whether a database is an address and not a file.
func isPostgres(db string) bool {
	return strings.HasPrefix(db, "postgres://") || strings.HasPrefix(db, "postgresql://")
}

// openDatabase opens a ledger, which is made where there is none.
func (s session) openDatabase(ctx context.Context, db string) (*ledger.Ledger, error) {
	if isPostgres(db) {
		if warning := postgres.Warning(db); warning != "" {
			s.Say("warning: %s", warning)
		}
		return postgres.Open(ctx, db)
	}
	return openFile(ctx, db)
}

// openFile opens a database that is a file.
func openFile(ctx context.Context, db string) (*ledger.Ledger, error) {
	if strings.Contains(db, "://") {
		return nil, hint.Wrap(errors.New("the database is of a kind that there is not"), "name a file, or postgres://USER@HOST/NAME")
	}
	l, err := sqlite.Open(ctx, db)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Wrap(err, "run it as the owner of %s: sudo -u ovsa ...", filepath.Dir(db))
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.Wrap(err, "make the directory, or say where the database is: -db FILE")
	}
	return l, explainDatabase(err, db)
}

// explainDatabase adds what to do about a disk that SQLite cannot write to.
func explainDatabase(err error, db string) error {
	if sqlite.IsFull(err) {
		return atomicfile.Explain(fmt.Errorf("%w: %w", unix.ENOSPC, err), db)
	}
	if errors.Is(err, unix.EROFS) {
		return atomicfile.Explain(err, db)
	}
	if sqlite.IsReadOnly(err) {
		return hint.Wrap(err, "%s, or its directory, cannot be written to: run it as the owner of %s, or have the disk mounted for writing", db, filepath.Dir(db))
	}
	return err
}

// awaitDatabase is openDatabase for a server, which waits for a database that is not
// there yet, and says so.
func awaitDatabase(ctx context.Context, db string, log *slog.Logger) (*ledger.Ledger, error) {
	if !isPostgres(db) {
		return openFile(ctx, db)
	}
	if warning := postgres.Warning(db); warning != "" {
		log.Warn(warning)
	}
	return postgres.Await(ctx, db, func(err error) {
		if err != nil {
			log.Warn("waiting for the database: guests are told to try again", "error", err)
			return
		}
		log.Info("the database is there")
	})
}

// withDatabase runs f with the database of -db, which is there: what reads makes
// none.
func (s session) withDatabase(ctx context.Context, f func(*ledger.Ledger) error) (err error) {
	db := s.Text("db")
	if !isPostgres(db) && !strings.Contains(db, "://") {
		if _, err := os.Stat(db); err != nil {
			return hint.Wrap(fmt.Errorf("open database: %w", err), "serve and store make it; another place: -db FILE")
		}
	}
	l, err := s.openDatabase(ctx, db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return explainDatabase(f(l), db)
}

func backupCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "backup", Operands: "FILE", Kind: guestcli.File, Summary: "copy the database, while the server goes on", Min: 1, Max: 1,
		Flags: []guestcli.Flag{dbFlag(), jsonFlag()}, Run: run(backup),
	}
}

// copied is the answer to backup.
type copied struct {
	File    string `json:"file"`
	Entries int64  `json:"entries"` // in its audit log
	Head    string `json:"head"`    // the hash of the last
}

func backup(ctx context.Context, s session) error {
	db, to := s.Text("db"), s.Operands[0]
	if isPostgres(db) {
		return hint.Wrap(errors.New("PostgreSQL has its own backup"), "pg_dump")
	}
	if err := sqlite.Backup(ctx, db, to); err != nil {
		return err
	}
	l, err := s.openDatabase(ctx, to) // a copy that does not verify is none
	if err != nil {
		return err
	}
	entries, head, err := l.VerifyAudit(ctx, nil)
	if err := errors.Join(err, l.Close()); err != nil {
		return err
	}
	return s.Report(copied{to, entries, hex.EncodeToString(head[:])}, "%s: %d entries in its audit log, the last %x", to, entries, head)
}
