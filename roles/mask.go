package roles

import (
	"bytes"
	"regexp"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// shown is a manifest's file as diagnostics may quote it: the defaults of
// sensitive variables are stars. Where the syntax is broken, the defaults of
// all variables are, if the word occurs at all.
func shown(file *hcl.File, src []byte, broken bool) *hcl.File {
	if len(src) > MaxFileSize {
		return &hcl.File{}
	}
	if broken {
		out := &hcl.File{Bytes: maskDefaults(src)}
		if file != nil {
			out.Body, out.Nav = file.Body, file.Nav
		}
		return out
	}
	masked := src
	content, _ := file.Body.Content(manifestSchema())
	for _, block := range content.Blocks {
		attrs, _ := block.Body.JustAttributes()
		if block.Type != "variable" || attrs["default"] == nil || !maybeSensitive(attrs["sensitive"]) {
			continue
		}
		if &masked[0] == &src[0] {
			masked = slices.Clone(src)
		}
		mask(masked, attrs["default"].Expr.Range())
	}
	return &hcl.File{Body: file.Body, Nav: file.Nav, Bytes: masked}
}

// maybeSensitive tells whether the argument "sensitive" is anything but false.
func maybeSensitive(a *hcl.Attribute) bool {
	if a == nil {
		return false
	}
	v, diags := a.Expr.Value(nil)
	return diags.HasErrors() || v.Type() != cty.Bool || v.IsNull() || !v.IsKnown() || v.True()
}

// hide masks what should not have been written at a place.
func (l *loader) hide(at hcl.Range) {
	if f := l.files[at.Filename]; f != nil {
		masked := slices.Clone(f.Bytes)
		mask(masked, at)
		l.files[at.Filename] = &hcl.File{Body: f.Body, Nav: f.Nav, Bytes: masked}
	}
}

// mask overwrites a range with stars and keeps its lines.
func mask(src []byte, r hcl.Range) {
	stars(src[min(r.Start.Byte, len(src)):min(r.End.Byte, len(src))])
}

func stars(b []byte) {
	for i, c := range b {
		if c != '\n' {
			b[i] = '*'
		}
	}
}

var (
	defaultText = regexp.MustCompile(`\bdefault[ \t]*=[ \t]*`)
	oneLine     = regexp.MustCompile(`^("[^"\n]*"|[\w.+-]+)[ \t]*(#.*|//.*)?\r?$`)
)

// maskDefaults masks the defaults in a manifest that does not parse: one line
// where that clearly is all, else up to the next closing brace at the margin.
func maskDefaults(src []byte) []byte {
	if !bytes.Contains(src, []byte("sensitive")) {
		return src
	}
	out := slices.Clone(src)
	for _, at := range defaultText.FindAllIndex(src, -1) {
		rest := out[at[1]:]
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		if oneLine.Match(line) {
			stars(line)
			continue
		}
		if end := bytes.Index(rest, []byte("\n}")); end >= 0 {
			rest = rest[:end]
		}
		stars(rest)
	}
	return out
}

// maskValues masks all of a file of values but the names: it does not parse,
// so where its values end is not known.
func maskValues(src []byte) []byte {
	if len(src) > MaxFileSize {
		return nil
	}
	out := slices.Clone(src)
	for line := range bytes.Lines(out) {
		_, value, named := bytes.Cut(line, []byte("="))
		if !named {
			value = line
		}
		stars(value)
	}
	return out
}
