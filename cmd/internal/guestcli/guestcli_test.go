package guestcli

import (
	"bytes"
	"strings"
	"testing"
)

func TestCommandLines(t *testing.T) {
	tests := []struct {
		program        Program
		args           string
		code           int
		stdout, stderr string // what they contain; "" for nothing at all
	}{
		{Runtime(), "help", 0, "Not in this version yet: serve", ""},
		{Runtime(), "-help", 0, "Usage:", ""},
		{Runtime(), "", 2, "", "hint: see ovsaruntime help"},
		{Runtime(), "qoute", 2, "", `unknown command "qoute"`},
		{Runtime(), "serve -n x", 2, "", "not in this version yet"},
		{Runtime(), "quote", 2, "", "--nonce is 16 to 64 bytes"},
		{Runtime(), "quote --nonce xyz", 2, "", "--nonce is 16 to 64 bytes"},
		{Runtime(), "quote --nonce 00", 2, "", "--nonce is 16 to 64 bytes"},
		{Runtime(), "quote --nonce " + strings.Repeat("00", 65), 2, "", "--nonce is 16 to 64 bytes"},
		{Runtime(), "quote --nounce 00", 2, "", "hint: ovsaruntime quote --nonce HEX"},
		{Runtime(), "quote extra", 2, "", `unexpected argument "extra"`},
		{Runtime(), "quote --nonce " + strings.Repeat("00", 32) + " --tpm /nowhere/tpm", 1, "", "error: quote: "},
		{Program{Name: "other", Later: []string{""}}, "", 2, "", "running other is not in this version yet"},
		{Program{Name: "other"}, "version", 0, "other ", ""},
	}
	for _, tt := range tests {
		var stdout, stderr bytes.Buffer
		code := tt.program.Run(t.Context(), Env{Args: strings.Fields(tt.args), Stdout: &stdout, Stderr: &stderr})
		if code != tt.code {
			t.Errorf("%s %s: exit %d, want %d", tt.program.Name, tt.args, code, tt.code)
		}
		expectText(t, tt.program.Name+" "+tt.args+": stdout", stdout.String(), tt.stdout)
		expectText(t, tt.program.Name+" "+tt.args+": stderr", stderr.String(), tt.stderr)
	}
}

func expectText(t *testing.T, what, got, want string) {
	t.Helper()
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}
