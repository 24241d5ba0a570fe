package guestcli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// settable is a program whose one command says what its settings are.
func settable() Program {
	return Program{Name: "tool", Config: "/nowhere/tool.conf", Commands: []Command{{
		Name: "say", Summary: "say it", Flags: []Flag{
			{Name: "max-clients", Arg: "N", Kind: Number, Setting: true, Default: "7"},
			{Name: "client-rate", Arg: "RATE", Kind: Rate, Setting: true, Default: "50:200"},
			{Name: "soft-fail", Setting: true},
			{Name: "own", Arg: "WORD"},
			JSON(),
		}, Run: func(_ context.Context, c *Call) error {
			perSecond, atOnce := c.Rate("client-rate")
			return c.Report(map[string]any{"max": c.Number("max-clients")}, "max %d, rate %g %d, soft %t, own %q",
				c.Number("max-clients"), perSecond, atOnce, c.Has("soft-fail"), c.Text("own"))
		},
	}}}
}

func TestParseSettings(t *testing.T) {
	for _, tt := range []struct{ text, want string }{ // want: the values, or an error
		{"", "map[]"},
		{"# of the server\n\n ; and more\nOVSA_MAX_CLIENTS=3\n", "map[OVSA_MAX_CLIENTS:3]"},
		{"OVSA_MAX_CLIENTS = 3", "1: want NAME=VALUE"},
		{`OVSA_MAX_CLIENTS="3"` + "\r\nOVSA_CLIENT_RATE='0.5:1'", "map[OVSA_CLIENT_RATE:0.5:1 OVSA_MAX_CLIENTS:3]"},
		{"OVSA_SOFT_FAIL=true\nPGPASSFILE=/opt/pass=word", "map[OVSA_SOFT_FAIL:true]"},
		{"OVSA_SOFT_FAIL=\n", "map[OVSA_SOFT_FAIL:]"},

		{"OVSA_MAX_CLIENTS=3\nOVSA_MAX_CLIENTS=3", "2: OVSA_MAX_CLIENTS is there twice"},
		{"OVSA_MAX_CLIENT=3", "1: OVSA_MAX_CLIENT is no setting of tool; did you mean OVSA_MAX_CLIENTS?"},
		{"OVSA_OWN=3", "1: OVSA_OWN is no setting of tool; the settings there are: OVSA_CLIENT_RATE, OVSA_MAX_CLIENTS, OVSA_SOFT_FAIL"},
		{"OVSA_CONFIG=/other", "1: OVSA_CONFIG is no setting of tool"},
		{"\n\nOVSA_MAX_CLIENTS=many", `3: OVSA_MAX_CLIENTS "many": want a number`},
		{"OVSA_CLIENT_RATE=50", `1: OVSA_CLIENT_RATE "50": want how many a second and how many at once, as in 50:200`},
		{"OVSA_SOFT_FAIL=yes", `1: OVSA_SOFT_FAIL "yes": want true or false`},
		{"export OVSA_MAX_CLIENTS=3", "1: want NAME=VALUE"},
		{"3=3", "1: want NAME=VALUE"},
		{"OVSA_MAX_CLIENTS", "1: want NAME=VALUE"},
		{`OVSA_MAX_CLIENTS=3 \`, "1: OVSA_MAX_CLIENTS: no backslashes, and quotes only around all of the value"},
		{`OVSA_MAX_CLIENTS="3`, "1: OVSA_MAX_CLIENTS: no backslashes"},
		{`OVSA_MAX_CLIENTS=3"4"`, "1: OVSA_MAX_CLIENTS: no backslashes"},
	} {
		s, err := settable().parseSettings(tt.text)
		got := fmt.Sprint(s.values)
		if err != nil {
			got = fmt.Sprintf("%v; %s", err, hint.Of(err))
		}
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("%q: %s, want %s", tt.text, got, tt.want)
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add("# c\nOVSA_MAX_CLIENTS=\"3\"\nPGPASSFILE=/x\n")
	f.Add("OVSA_CLIENT_RATE='1e-3:5'\r\n;\n=\nA=\\")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := settable().parseSettings(text)
		if err != nil {
			return
		}
		for name, value := range s.values {
			if !strings.Contains(text, name+"=") || !strings.Contains(text, value) || strings.ContainsAny(value, "\n\"'\\") {
				t.Fatalf("%q has %s = %q", text, name, value)
			}
		}
	})
}

func TestParseRate(t *testing.T) {
	for text, ok := range map[string]bool{
		"50:200": true, "0.5:1": true, "0:5": false, "-1:5": false, "5:0": false, "5": false, "": false, "NaN:5": false, "Inf:5": false, "5:5:5": false, "5:1.5": false,
	} {
		perSecond, atOnce, err := ParseRate(text)
		if (err == nil) != ok || ok && (perSecond <= 0 || atOnce < 1) {
			t.Errorf("%q: %g %d %v", text, perSecond, atOnce, err)
		}
	}
}

// TestSettingsOfARun: a program reads its file, and says where a mistake is.
func TestSettingsOfARun(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "tool.conf")
	for _, tt := range []struct {
		name, file string
		mode       os.FileMode
		env        []string
		args       string
		want       string // in what is said
		code       int
	}{
		{"nothing", "", 0, nil, "say", `max 7, rate 50 200, soft false`, 0},
		{"a file", "OVSA_MAX_CLIENTS=3\nOVSA_SOFT_FAIL=true", 0o644, nil, "say", `max 3, rate 50 200, soft true`, 0},
		{"the environment before it", "OVSA_MAX_CLIENTS=3", 0o600, []string{"OVSA_MAX_CLIENTS", "4", "OVSA_CLIENT_RATE", "1:2", "OVSA_SOFT_FAIL", "1"}, "say", `max 4, rate 1 2, soft true`, 0},
		{"the command line before both", "OVSA_MAX_CLIENTS=3", 0o600, []string{"OVSA_MAX_CLIENTS", "4"}, "say -max-clients 5", `max 5, `, 0},
		{"a flag that is none", "", 0, []string{"OVSA_OWN", "x"}, "say", `own ""`, 0},
		{"JSON", "OVSA_MAX_CLIENTS=3", 0o600, nil, "say -json", "\"max\": 3\n", 0},

		{"bad file", "OVSA_MAX_CLIENT=3", 0o600, nil, "say", "tool.conf:1: OVSA_MAX_CLIENT is no setting of tool\ntool: hint: did you mean", 1},
		{"bad environment", "", 0, []string{"OVSA_SOFT_FAIL", "yes"}, "say", `say: OVSA_SOFT_FAIL "yes": want true or false`, 2},
		{"bad environment, in the file", "OVSA_MAX_CLIENTS=x", 0o600, nil, "say", `tool.conf:1: OVSA_MAX_CLIENTS "x": want a number`, 1},
		{"a file that others write", "OVSA_MAX_CLIENTS=3", 0o666, nil, "say", "others may write to", 1},
		{"a file that is not there", "", 0, []string{"OVSA_CONFIG", "/nowhere/x"}, "say", "read settings: stat /nowhere/x: no such file", 1},
		{"help in spite of it", "what", 0o600, nil, "say -help", "default $OVSA_MAX_CLIENTS, or 7", 0},
	} {
		p := settable()
		if tt.mode != 0 {
			p.Config = conf
			if err := os.WriteFile(conf, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(conf, tt.mode); err != nil {
				t.Fatal(err)
			}
		}
		e := env(tt.env...)
		var said bytes.Buffer
		e.Args, e.Stdout, e.Stderr = strings.Fields(tt.args), &said, &said
		if code := p.Run(t.Context(), e); code != tt.code || !strings.Contains(said.String(), tt.want) {
			t.Errorf("%s: exit %d, %q, want %d, %q", tt.name, code, said.String(), tt.code, tt.want)
		}
	}
}
