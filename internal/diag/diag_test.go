package diag_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/ovsactl/ovsactl/internal/diag"
)

func at(file string, line, column, from, to int) *hcl.Range {
	return &hcl.Range{
		Filename: file,
		Start:    hcl.Pos{Line: line, Column: column, Byte: from},
		End:      hcl.Pos{Line: line, Column: column + to - from, Byte: to},
	}
}

func text(t *testing.T, src string, d *hcl.Diagnostic, style diag.Style) string {
	t.Helper()
	file, _ := hclsyntax.ParseConfig([]byte(src), "roles.hcl", hcl.InitialPos)
	var b strings.Builder
	if err := diag.Text(&b, map[string]*hcl.File{"roles.hcl": file}, hcl.Diagnostics{d}, style); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestText(t *testing.T) {
	const src = "role \"runtime\" {\n\tmemory = \"1MiB\"\n}\n"
	memory := at("roles.hcl", 2, 11, 27, 33)
	for name, test := range map[string]struct {
		src   string
		diag  hcl.Diagnostic
		style diag.Style
		want  string
	}{
		"in a pipe": {src, hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Too small", Detail: "Say more.", Subject: memory}, diag.Style{}, `Error: Too small

  on roles.hcl line 2, in role "runtime":
   2: 	memory = "1MiB"
      	         ^^^^^^

Say more.

`},
		"on a terminal": {src, hcl.Diagnostic{Severity: hcl.DiagWarning, Summary: "Small", Subject: memory}, diag.Style{Color: true}, "\x1b[1;33mWarning:\x1b[0m \x1b[1mSmall\x1b[0m\n\n" +
			"  on roles.hcl line 2, in role \"runtime\":\n   2: \tmemory = \x1b[1m\"1MiB\"\x1b[0m\n      \x1b[33m\t         ^^^^^^\x1b[0m\n\n"},
		"without a place": {src, hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Bad"}, diag.Style{}, "Error: Bad\n\n"},
		"without the source": {src, hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Bad", Subject: at("other.hcl", 7, 1, 90, 91)}, diag.Style{},
			"Error: Bad\n\n  on other.hcl line 7:\n      (source not available)\n\n"},
		"wrapped, but for commands": {src, hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Bad", Detail: "one two three four\n\n    ovsactl do something long"}, diag.Style{Width: 10},
			"Error: Bad\n\none two\nthree four\n\n    ovsactl do something long\n\n"},
		"more than a line": {"a = [\n1\n]\n", hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Bad", Subject: at("roles.hcl", 1, 5, 4, 9)}, diag.Style{},
			"Error: Bad\n\n  on roles.hcl line 1:\n   1: a = [\n          ^\n\n"},
		"at the end": {"a = 1", hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Bad", Subject: at("roles.hcl", 1, 6, 5, 5)}, diag.Style{},
			"Error: Bad\n\n  on roles.hcl line 1:\n   1: a = 1\n           ^\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, text(t, test.src, &test.diag, test.style)); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLongLinesAreCut(t *testing.T) {
	src := "a = \"" + strings.Repeat("x", 100000) + "\" + !!! \"" + strings.Repeat("y", 100000) + "\"\n"
	i := strings.Index(src, "!!!")
	got := text(t, src, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Bad", Subject: at("roles.hcl", 1, i+1, i, i+3)}, diag.Style{})
	if len(got) > 400 || !strings.Contains(got, "…x") || !strings.Contains(got, "y…") {
		t.Errorf("text: %.500s", got)
	}
	lines := strings.Split(got, "\n")
	if mark := []rune(lines[3])[strings.Index(lines[4], "^")]; mark != '!' {
		t.Errorf("the mark is under %q", mark)
	}
}

func TestManyAreCounted(t *testing.T) {
	var b strings.Builder
	diags := make(hcl.Diagnostics, 1000)
	for i := range diags {
		diags[i] = &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Bad"}
	}
	if err := diag.Text(&b, nil, diags, diag.Style{}); err != nil || !strings.HasSuffix(b.String(), "... and 975 more.\n\n") {
		t.Errorf("text ends in %q, %v", b.String()[b.Len()-40:], err)
	}
}

func TestNothingActsOnTheTerminal(t *testing.T) {
	const attack = "\x1b[2J\a\u202eevil\u009b\xff"
	got := text(t, "a = \""+attack+"\"\n", &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: attack, Detail: attack, Subject: at("roles.hcl", 1, 5, 4, 9),
	}, diag.Style{})
	for _, bad := range []string{"\x1b", "\a", "\u202e", "\u009b", "\xff"} {
		if strings.Contains(got, bad) {
			t.Errorf("%q is in %q", bad, got)
		}
	}
	if !strings.Contains(got, "␛[2J␇") {
		t.Errorf("control characters are not pictures: %q", got)
	}
}

func TestSort(t *testing.T) {
	d := func(severity hcl.DiagnosticSeverity, summary string, subject *hcl.Range) *hcl.Diagnostic {
		return &hcl.Diagnostic{Severity: severity, Summary: summary, Subject: subject}
	}
	diags := hcl.Diagnostics{
		d(hcl.DiagWarning, "6", nil),
		d(hcl.DiagError, "5", at("b.hcl", 1, 1, 0, 1)),
		d(hcl.DiagError, "4", at("a.hcl", 2, 1, 9, 10)),
		d(hcl.DiagError, "3", at("a.hcl", 1, 1, 5, 6)),
		d(hcl.DiagError, "2", at("a.hcl", 1, 1, 5, 6)),
		d(hcl.DiagError, "1", nil),
	}
	diag.Sort(diags)
	var got string
	for _, d := range diags {
		got += d.Summary
	}
	if got != "123456" {
		t.Errorf("order %s", got)
	}
}

func TestListIsNeverNull(t *testing.T) {
	if diag.List(nil, nil) == nil {
		t.Error("nil would be null in JSON")
	}
}
