package ovsaruntime

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/ovsatool"
)

// TestMain makes this test binary be the programs, too, where a script runs them.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ovsatool":    func() { os.Exit(ovsatool.Program(keystore.Machine()).Main()) },
		"ovsaruntime": func() { os.Exit(Program(keystore.Machine()).Main()) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../../../test/scripts/ovsaruntime",
		UpdateScripts:       os.Getenv("OVSA_UPDATE") != "",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("OVSA_TRUST", env.WorkDir+"/trust")
			env.Setenv("OVSA_TPM", env.WorkDir+"/no-tpm")
			return nil
		},
	})
}

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

func TestQuote(t *testing.T) {
	for _, tt := range []struct {
		line   string
		code   int
		stderr string
	}{
		{"", 2, "hint: see ovsaruntime help"},
		{"qoute", 2, `did you mean "quote"?`},
		{"serve -config none.json", 1, "read configuration: open none.json"},
		{"serve -config none.json -- true", 1, "read configuration: open none.json"},
		{"quote", 2, "quote: no -nonce HEX"},
		{"quote --nonce xyz", 2, "--nonce is 16 to 64 bytes"},
		{"quote --nonce 00", 2, "--nonce is 16 to 64 bytes"},
		{"quote --nonce " + strings.Repeat("00", 65), 2, "--nonce is 16 to 64 bytes"},
		{"quote --nounce 00", 2, "did you mean -nonce? see ovsaruntime quote -help"},
		{"quote --nonce 00 extra", 2, `unexpected argument "extra"`},
		{"quote --nonce " + strings.Repeat("00", 32) + " --tpm /nowhere/tpm", 1, "error: quote: "},
		{"quote --nonce " + strings.Repeat("00", 32) + " --tpm /nowhere/tpm", 1, "hint: this guest has no TPM at /nowhere/tpm"},
	} {
		var stdout, stderr bytes.Buffer
		code := Program(keystore.Machine()).Run(t.Context(), guestcli.Env{Args: strings.Fields(tt.line), Stdout: &stdout, Stderr: &stderr})
		if code != tt.code || stdout.Len() > 0 || !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("%q: exit %d, %q, %q; want %d with %q", tt.line, code, &stdout, &stderr, tt.code, tt.stderr)
		}
	}
}
