package roles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// What a manifest may cost. HCL's parser and evaluator recurse, so depth has to
// be bounded before they see the text.
const (
	// MaxFileSize is the most that a manifest or a file of values may have, in bytes.
	MaxFileSize = 1 << 20
	maxDepth    = 64  // of brackets, blocks and templates
	maxTerms    = 500 // operators and interpolations in one argument
)

// Parse is the syntax of a manifest and nothing more: it refuses what is too
// large, not text or nested too deeply, and then parses. The file is nil when
// it was refused, and partial when it has syntax errors.
func Parse(name string, src []byte) (*hcl.File, hcl.Diagnostics) {
	if d := refuse(name, src); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	if d := tooComplex(tokens); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	return hclsyntax.ParseConfig(src, name, hcl.InitialPos)
}

// refuse finds what is no manifest at all.
func refuse(name string, src []byte) *hcl.Diagnostic {
	if len(src) > MaxFileSize {
		return &hcl.Diagnostic{
			Severity: hcl.DiagError,
			Summary:  "File too large",
			Detail:   fmt.Sprintf("%s is larger than 1 MiB. A manifest is text written by people: is this the right file?", name),
		}
	}
	line, start := 1, 0
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == 0 || r == utf8.RuneError && size == 1 {
			pos := hcl.Pos{Line: line, Column: i - start + 1, Byte: i}
			return &hcl.Diagnostic{
				Severity: hcl.DiagError,
				Summary:  "Not a text file",
				Detail:   fmt.Sprintf("There is a byte here (0x%02x) that is not UTF-8 text. Is this the right file?", src[i]),
				Subject:  &hcl.Range{Filename: name, Start: pos, End: hcl.Pos{Line: line, Column: pos.Column + 1, Byte: i + 1}},
			}
		}
		if r == '\n' {
			line, start = line+1, i+1
		}
		i += size
	}
	return nil
}

// tooComplex finds nesting and expressions that no person writes, and loops,
// which a manifest has no use for.
func tooComplex(tokens hclsyntax.Tokens) *hcl.Diagnostic {
	depth, terms := 0, 0
	// Newlines end an argument only outside of brackets: open counts those.
	var open []hclsyntax.TokenType
	fault := func(t hclsyntax.Token, summary, detail string) *hcl.Diagnostic {
		return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: t.Range.Ptr()}
	}
	for i, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
			open = append(open, t.Type)
			depth++
		case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			open = append(open, t.Type)
			depth++
			terms++
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			if depth > 0 {
				open = open[:len(open)-1]
				depth--
			}
		case hclsyntax.TokenNewline:
			if depth == 0 || open[depth-1] == hclsyntax.TokenOBrace {
				terms = 0
			}
		case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenComma, hclsyntax.TokenDot, hclsyntax.TokenEqual,
			hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit, hclsyntax.TokenComment, hclsyntax.TokenEOF:
		default:
			terms++
		}
		switch {
		case depth > maxDepth:
			return fault(t, "Nested too deeply", fmt.Sprintf("Blocks, brackets and templates may be nested %d deep.", maxDepth))
		case terms > maxTerms:
			return fault(t, "Expression too long", fmt.Sprintf("One argument may have %d operators and interpolations. Split it with locals.", maxTerms))
		case startsLoop(tokens[i:]):
			return fault(tokens[i+1], "Loops are not supported", "A manifest has no for expressions: write the elements out.")
		}
	}
	return nil
}

// startsLoop tells whether a for expression or directive begins here; a key of
// an object may be named "for".
func startsLoop(tokens hclsyntax.Tokens) bool {
	if len(tokens) < 3 || tokens[1].Type != hclsyntax.TokenIdent || string(tokens[1].Bytes) != "for" {
		return false
	}
	switch tokens[0].Type {
	case hclsyntax.TokenOBrack, hclsyntax.TokenTemplateControl:
		return true
	case hclsyntax.TokenOBrace:
		return tokens[2].Type == hclsyntax.TokenIdent
	}
	return false
}

// source returns the content of a file, from the options or from disk.
func (l *loader) source(name string) ([]byte, bool) {
	if src, ok := l.opts.Sources[name]; ok {
		return src, true
	}
	src, err := readLimited(name, MaxFileSize)
	if err == nil {
		return src, true
	}
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Cannot read file", Detail: sentence(err) + "."}
	if errors.Is(err, fs.ErrNotExist) {
		d.Summary = "File not found"
		d.Detail = fmt.Sprintf("There is no file %q here. To write a commented one:\n\n    ovsactl init", name)
	}
	l.diags = append(l.diags, d)
	return nil, false
}

// readLimited reads at most limit+1 bytes, so that the caller can tell.
func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}
