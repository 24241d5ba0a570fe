package diag

import (
	"github.com/hashicorp/hcl/v2"
)

// Diagnostic is a diagnostic for programs: the JSON of `validate --json`.
type Diagnostic struct {
	Severity string   `json:"severity"` // "error", "warning"
	Summary  string   `json:"summary"`
	Detail   string   `json:"detail,omitempty"`
	Range    *Range   `json:"range,omitempty"`
	Snippet  *Snippet `json:"snippet,omitempty"`
}

// Range is a place in a file. Lines and columns count from 1, bytes from 0.
type Range struct {
	File  string `json:"file"`
	Start Pos    `json:"start"`
	End   Pos    `json:"end"`
}

// Pos is one end of a [Range].
type Pos struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// Snippet is the source line at the start of a range, with the values of
// sensitive variables masked and control characters made visible.
type Snippet struct {
	Context string `json:"context,omitempty"`
	Code    string `json:"code"`
}

// List turns diags into what is encoded as JSON; it is never nil.
func List(files map[string]*hcl.File, diags hcl.Diagnostics) []Diagnostic {
	out := make([]Diagnostic, 0, len(diags))
	for _, d := range diags {
		v := Diagnostic{Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			v.Severity = "warning"
		}
		if r := d.Subject; r != nil {
			v.Range = &Range{File: r.Filename, Start: Pos(r.Start), End: Pos(r.End)}
		}
		if s, ok := snippetOf(files, d.Subject); ok {
			v.Snippet = &Snippet{Context: s.context, Code: s.before + s.marked + s.after}
		}
		out = append(out, v)
	}
	return out
}
