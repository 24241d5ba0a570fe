package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/postgres"
	"github.com/ovsactl/ovsactl/licensing/postgres/postgrestest"
)

// A connection is over TLS to whom the certificate names, unless somebody says
// otherwise, and hears what that means.
func TestConnectionsAreEncrypted(t *testing.T) {
	s, ca := postgrestest.StartTLS(t)
	s.Create(t, "ovsa")
	stranger := filepath.Join(t.TempDir(), "stranger.pem")
	_, otherCA := postgrestest.StartTLS(t)
	if err := os.Rename(otherCA, stranger); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		add     string
		want    string // part of an error; "" for a connection
		warning string
	}{
		"nothing said, an authority": {"?sslrootcert=" + ca, "", ""},
		"nothing said":               {"", "certificate", ""},
		"another authority":          {"?sslrootcert=" + stranger, "certificate", ""},
		"verify-full":                {"?sslmode=verify-full&sslrootcert=" + ca, "", ""},
		"require":                    {"?sslmode=require", "", "nobody verifies"},
		"disable":                    {"?sslmode=disable", "", "not encrypted"},
		"prefer":                     {"?sslmode=prefer", "might not be encrypted", ""},
		"allow":                      {"?sslmode=allow", "might not be encrypted", ""},
		"a mode that there is not":   {"?sslmode=perhaps", "not a PostgreSQL URL", ""},
	} {
		t.Run(name, func(t *testing.T) {
			url := s.TCP("ovsa") + tt.add
			if got := postgres.Warning(url); (got == "") != (tt.warning == "") || !strings.Contains(got, tt.warning) {
				t.Errorf("warning %q, want %q", got, tt.warning)
			}
			l, err := postgres.Open(t.Context(), url)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				l.Close()
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if w := postgres.Warning(s.URL("ovsa") + "&sslmode=disable"); w != "" {
		t.Errorf("a socket of this machine: %q", w)
	}
	t.Setenv("PGSSLMODE", "prefer")
	if _, err := postgres.Open(t.Context(), s.TCP("ovsa")); !errors.Is(err, postgres.ErrPlain) || hint.Of(err) == "" {
		t.Errorf("PGSSLMODE=prefer: %v", err)
	}
}

// A password is in a file that nobody else can read, or nowhere.
func TestPasswords(t *testing.T) {
	s := postgrestest.Start(t)
	for name, url := range map[string]string{
		"in the address": strings.Replace(s.URL("postgres"), "postgres:///", "postgres://ovsa:hunter2@/", 1),
		"as a parameter": s.URL("postgres") + "&password=hunter2",
	} {
		if _, err := postgres.Open(t.Context(), url); !errors.Is(err, postgres.ErrPassword) || strings.Contains(err.Error(), "hunter2") || hint.Of(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	pass := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(pass, []byte("*:*:*:*:hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	by := map[string]func(mode os.FileMode) error{
		"passfile": func(os.FileMode) error {
			l, err := postgres.Open(t.Context(), s.URL("postgres")+"&passfile="+pass)
			if err == nil {
				l.Close()
			}
			return err
		},
		"PGPASSFILE": func(os.FileMode) error {
			t.Setenv("PGPASSFILE", pass)
			l, err := postgres.Open(t.Context(), s.URL("postgres"))
			if err == nil {
				l.Close()
			}
			return err
		},
	}
	for name, open := range by {
		for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: false, 0o604: false} {
			if err := os.Chmod(pass, mode); err != nil {
				t.Fatal(err)
			}
			err := open(mode)
			if ok && err != nil || !ok && !errors.Is(err, postgres.ErrPassword) {
				t.Errorf("%s of mode %#o: %v", name, mode, err)
			}
			if !ok && !strings.Contains(hint.Of(err), fmt.Sprintf("chmod 0600 %s", pass)) {
				t.Errorf("hint %q", hint.Of(err))
			}
		}
	}
	t.Setenv("PGPASSFILE", "")
	t.Setenv("PGPASSWORD", "hunter2")
	if _, err := postgres.Open(t.Context(), s.URL("postgres")); !errors.Is(err, postgres.ErrPassword) {
		t.Errorf("in the environment: %v", err)
	}
}
