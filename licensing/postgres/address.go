package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// Errors of an address.
var (
	ErrPassword = errors.New("a password where others can read it")
	ErrPlain    = errors.New("the connection might not be encrypted")
)

// parse reads an address, postgres://USER@HOST/NAME. libpq's defaults would take a
// server that does not speak TLS without a word, so one that names no sslmode is
// connected with verify-full. A password comes from a pass file alone.
func parse(address string) (*pgx.ConnConfig, error) {
	notURL := errors.New("open database: the address is not a PostgreSQL URL") // it may have a password: it is not repeated
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, notURL
	}
	query := u.Query()
	if _, given := u.User.Password(); given || query.Has("password") || os.Getenv("PGPASSWORD") != "" {
		return nil, hint.Wrap(fmt.Errorf("open database: %w: in the address or in PGPASSWORD", ErrPassword),
			"put it into a pass file of mode 0600, HOST:PORT:NAME:USER:PASSWORD, and name that with PGPASSFILE")
	}
	if err := checkPassFile(query.Get("passfile")); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if mode(query) == "" {
		query.Set("sslmode", "verify-full")
		u.RawQuery = query.Encode()
	}
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, notURL
	}
	switch m := mode(query); {
	case isSocket(config.Host):
	case m == "allow" || m == "prefer":
		return nil, hint.Wrap(fmt.Errorf("open database: %w with sslmode=%s", ErrPlain, m),
			"say sslmode=verify-full, or nothing; its authority is sslrootcert=FILE, or one of the system's")
	}
	return config, nil
}

// mode is what somebody said of TLS, "" for nothing.
func mode(query url.Values) string {
	if query.Has("sslmode") {
		return query.Get("sslmode")
	}
	return os.Getenv("PGSSLMODE")
}

// isSocket says whether a host is the directory of a UNIX socket.
func isSocket(host string) bool { return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") }

// checkPassFile refuses a pass file that others can read; path is that of the
// address, "" for none.
func checkPassFile(path string) error {
	if path == "" {
		path = os.Getenv("PGPASSFILE")
	}
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil //nolint:nilerr // without a home there is none to look into
		}
		path = filepath.Join(home, ".pgpass")
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the pass file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return hint.Wrap(fmt.Errorf("%w: the pass file %q has mode %#o", ErrPassword, path, info.Mode().Perm()), "chmod 0600 %s", path)
	}
	return nil
}

// Warning is what an administrator has to know about an address that he chose; ""
// for nothing.
func Warning(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	if config, err := parse(address); err != nil || isSocket(config.Host) {
		return ""
	}
	switch mode(u.Query()) {
	case "disable":
		return "the connection to the database is not encrypted: sslmode=disable says so"
	case "require":
		return "nobody verifies who the database's server is: say sslmode=verify-full instead of require"
	}
	return ""
}
