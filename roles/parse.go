package roles

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
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
	maxDigits   = 40  // of a number
)

// exponent is one that makes a number long when it is written out.
var exponent = regexp.MustCompile(`[eE][+-]?[0-9]{3,}`)

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
	var c complexity
	for i, t := range tokens {
		c.count(t)
		switch {
		case len(c.open) > maxDepth:
			return fault(t, "Nested too deeply", fmt.Sprintf("Blocks, brackets and templates may be nested %d deep.", maxDepth))
		case c.terms > maxTerms:
			return fault(t, "Expression too long", fmt.Sprintf("One argument may have %d operators and interpolations. Split it with locals.", maxTerms))
		case t.Type == hclsyntax.TokenNumberLit && (len(t.Bytes) > maxDigits || exponent.Match(t.Bytes)):
			return fault(t, "Number too large", "Nothing in a manifest needs a number like this.")
		case startsLoop(tokens[i:]):
			return fault(tokens[i+1], "Loops are not supported", "A manifest has no for expressions: write the elements out.")
		}
	}
	return nil
}

func fault(t hclsyntax.Token, summary, detail string) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: t.Range.Ptr()}
}

// complexity is how deep the parser is at a token, and how long the argument
// is there.
type complexity struct {
	open  []hclsyntax.TokenType // brackets, blocks and templates
	terms int                   // operators, indexes and interpolations
}

func (c *complexity) count(t hclsyntax.Token) {
	switch t.Type {
	case hclsyntax.TokenOBrace, hclsyntax.TokenOParen, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc:
		c.open = append(c.open, t.Type)
	case hclsyntax.TokenOBrack, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
		c.open = append(c.open, t.Type)
		c.terms++
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
		c.open = c.open[:max(len(c.open)-1, 0)]
	case hclsyntax.TokenNewline: // inside of other brackets it ends nothing
		if n := len(c.open); n == 0 || c.open[n-1] == hclsyntax.TokenOBrace {
			c.terms = 0
		}
	case hclsyntax.TokenIdent, hclsyntax.TokenNumberLit, hclsyntax.TokenComma, hclsyntax.TokenDot, hclsyntax.TokenEqual,
		hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit, hclsyntax.TokenComment, hclsyntax.TokenEOF:
	default:
		c.terms++
	}
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

// source returns the content of a file, from the options or from disk. absent is
// what a user can do when there is none.
func (l *loader) source(name, absent string) ([]byte, bool) {
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
		d.Detail = fmt.Sprintf("There is no file %q here. %s", name, absent)
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
