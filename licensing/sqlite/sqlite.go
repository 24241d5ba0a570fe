// Package sqlite keeps a licence server's ledger in one file.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mattn/go-sqlite3" // the driver, too

	"github.com/ovsactl/ovsactl/internal/owner"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// maxConns is how many read at the same time, and one of them writes.
const maxConns = 8

// Open opens the ledger in the file path, which it makes, 0600, where there is
// none. Several processes may have it open.
//
// It is in WAL mode with synchronous=FULL: what was answered is on the disk.
func Open(ctx context.Context, path string) (*ledger.Ledger, error) {
	db, err := open(path, "rwc")
	if err != nil {
		return nil, err
	}
	l, err := ledger.Open(ctx, db, ledger.Dialect{Name: "sqlite", Blob: "BLOB"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%q: %w", path, err), db.Close())
	}
	return l, nil
}

func open(path, mode string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if mode == "rwc" {
		// SQLite itself would make it as open as the umask allows.
		if err := ensure(path); err != nil {
			return nil, fmt.Errorf("open database: %w", err)
		}
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"mode": {mode}, "_txlock": {"immediate"}, "_journal_mode": {"WAL"}, "_synchronous": {"FULL"},
		"_foreign_keys": {"true"}, "_busy_timeout": {"10000"}, "_stmt_cache_size": {"64"},
	}.Encode()}
	db, err := sql.Open("sqlite3", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	return db, nil
}

// ensure makes the database's file where there is none. Where root makes it, it is
// the user's of its directory; SQLite then makes the files beside it so, too.
func ensure(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return f.Close()
	}
	if err != nil {
		return err
	}
	return errors.Join(owner.Give(f, path), f.Close())
}

// IsFull tells whether an error says that a disk has no room for the database.
func IsFull(err error) bool {
	var at sqlite3.Error
	return errors.As(err, &at) && (at.Code == sqlite3.ErrFull || at.SystemErrno == syscall.ENOSPC || at.SystemErrno == syscall.EDQUOT)
}

// IsReadOnly tells whether an error says that the database, or its directory, cannot
// be written to.
func IsReadOnly(err error) bool {
	var at sqlite3.Error
	return errors.As(err, &at) && (at.Code == sqlite3.ErrReadonly || at.Code == sqlite3.ErrCantOpen || at.SystemErrno == syscall.EROFS)
}

// Backup writes a consistent copy of the database at path to the file to, which
// must not exist, while the server goes on.
func Backup(ctx context.Context, path, to string) error {
	db, err := open(path, "ro")
	if err != nil {
		return err
	}
	defer db.Close()
	// Made here, or SQLite makes it as open as the umask allows. It takes an
	// empty file for none.
	f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	f.Close()
	if _, err := db.ExecContext(ctx, `VACUUM INTO $1`, to); err != nil {
		return errors.Join(fmt.Errorf("back up: %w", err), os.Remove(to))
	}
	return nil
}
