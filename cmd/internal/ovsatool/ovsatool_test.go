package ovsatool

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
)

func TestTable(t *testing.T) {
	p := Program(keystore.Machine())
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	// Whatever uses a TPM takes OVSA_TPM's, and there is something that does.
	tpms := 0
	for _, c := range p.Commands {
		for _, f := range c.Flags {
			if f.Name == "tpm" {
				tpms++
				if !f.Setting {
					t.Errorf("%s does not take OVSA_TPM", c.Name)
				}
			}
		}
	}
	if tpms == 0 {
		t.Error("no command uses a TPM")
	}
}

// TestExitCodes: every failure has one that is not 0, an unknown verb included,
// which the original let pass.
func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		line   string
		code   int
		stderr string
	}{
		{"help", 0, ""},
		{"version", 0, ""},
		{"-help", 0, ""},
		{"keygen -help", 0, ""},
		{"keygen -storekey -h", 0, ""},
		{"sale -help", 0, ""},
		{"", 2, "no command"},
		{"keygne", 2, `did you mean "keygen"? see ovsatool help`},
		{"keygen", 2, "keygen: no command"},
		{"keygen -storekeys", 2, `did you mean "-storekey"? see ovsatool help keygen`},
		{"sale -ocps x", 2, "did you mean -ocsp? see ovsatool sale -help"},
		{"trust", 2, "trust: no command"},
		{"sale", 2, "no -m MASTERLIC"},
		{"sale -q", 2, "hint: see ovsatool sale -help"},
		{"licgen -u h:1 server.crt", 2, "no -t TYPE"}, // the original wrote nothing and said all was well
		{"licgen -t Sale -n x -v 1 -k nowhere -o out -u h:1 nowhere.crt", 1, "no such file"},
		{"inspect /nowhere", 1, "no such file"},
		{"inspect /", 1, "not a file"},
		{"trust rm 12", 1, "at least 8 digits"},
	} {
		var stdout, stderr bytes.Buffer
		code := Program(keystore.Machine()).Run(t.Context(), guestcli.Env{Args: strings.Fields(tt.line), Stdout: &stdout, Stderr: &stderr})
		if code != tt.code || !strings.Contains(stderr.String(), tt.stderr) || (code == 0) != (stdout.Len() > 0) {
			t.Errorf("%q: exit %d, want %d with %q\n%s%s", tt.line, code, tt.code, tt.stderr, &stdout, &stderr)
		}
	}
}
