package roles

import (
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// fields reads the arguments of one block. Each reader returns its default
// when the argument is absent, null, or wrong in a way that it has reported.
type fields struct {
	l       *loader
	content *hcl.BodyContent
	block   hcl.Range
}

// open reads a block that may hold these arguments and blocks. A block is
// written as "type" or, with one label, "type NAME".
func (l *loader) open(block *hcl.Block, args, blocks []string) fields {
	schema := &hcl.BodySchema{}
	for _, a := range args {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: a})
	}
	for _, b := range blocks {
		kind, label, labelled := strings.Cut(b, " ")
		header := hcl.BlockHeaderSchema{Type: kind}
		if labelled {
			header.LabelNames = []string{strings.ToLower(label)}
		}
		schema.Blocks = append(schema.Blocks, header)
	}
	content, diags := block.Body.Content(schema)
	l.diags = append(l.diags, diags...)
	return fields{l, content, block.DefRange}
}

// has tells whether the argument is written.
func (f fields) has(name string) bool { return f.content.Attributes[name] != nil }

// at is where the argument's value is, or the block without one.
func (f fields) at(name string) hcl.Range {
	if a := f.content.Attributes[name]; a != nil {
		return a.Expr.Range()
	}
	return f.block
}

// fail reports a problem of an argument.
func (f fields) fail(name, summary string, detail ...string) {
	f.l.fail(f.at(name), summary, detail...)
}

// require reports an argument that is missing.
func (f fields) require(name, why string) {
	if !f.has(name) {
		f.l.fail(f.block, "Missing required argument", fmt.Sprintf("The argument %q is required: %s", name, why))
	}
}

// single returns the one block of a type, nil without one.
func (f fields) single(kind string) *hcl.Block {
	var first *hcl.Block
	for _, b := range f.content.Blocks {
		switch {
		case b.Type != kind:
		case first == nil:
			first = b
		default:
			f.l.fail(b.DefRange, "Duplicate block", fmt.Sprintf("Only one %s block is allowed here; the first is %s.", kind, place(first.DefRange)))
		}
	}
	return first
}

// value evaluates the argument as a type. A sensitive value is refused:
// everything in a manifest is shown in plans and stands in domain XML.
func (f fields) value(name string, want cty.Type, noun string) (cty.Value, bool) {
	a := f.content.Attributes[name]
	if a == nil {
		return cty.NilVal, false
	}
	v := f.l.expression(a.Expr)
	switch {
	case v.ContainsMarked():
		f.fail(name, "Sensitive value", fmt.Sprintf("The argument %q is shown in plans and in the guest's definition, so it cannot hold a sensitive value.", name))
		return cty.NilVal, false
	case !v.IsWhollyKnown() || v.IsNull():
		return cty.NilVal, false
	}
	v, err := convert.Convert(v, want)
	if err != nil || v.IsNull() || !v.IsWhollyKnown() {
		f.fail(name, "Unsuitable value", fmt.Sprintf("The argument %q takes %s.", name, noun))
		return cty.NilVal, false
	}
	return v, true
}

// text reads a string without control characters.
func (f fields) text(name, def string) string {
	if s, ok := f.written(name); ok {
		return s
	}
	return def
}

// written is text, and whether the argument has a value that is sound.
func (f fields) written(name string) (string, bool) {
	v, ok := f.value(name, cty.String, "text in quotes")
	if !ok {
		return "", false
	}
	s := v.AsString()
	if strings.ContainsFunc(s, unicode.IsControl) {
		f.fail(name, "Unsuitable value", fmt.Sprintf("The argument %q cannot hold control characters or line breaks.", name))
		return "", false
	}
	return s, true
}

// texts reads a list of strings.
func (f fields) texts(name string) []string {
	v, ok := f.value(name, cty.List(cty.String), "a list of texts")
	if !ok {
		return nil
	}
	var out []string
	for _, e := range v.AsValueSlice() {
		if e.IsNull() {
			f.fail(name, "Unsuitable value", fmt.Sprintf("The list %q cannot hold null.", name))
			return nil
		}
		out = append(out, e.AsString())
	}
	return out
}

// oneOf reads one of a few words; the first is the default.
func (f fields) oneOf(name string, words ...string) string {
	s := f.text(name, words[0])
	if !slices.Contains(words, s) {
		f.fail(name, "Unsuitable value", fmt.Sprintf("The argument %q is one of %s.", name, quoted(words))+didYouMean(s, words))
		return words[0]
	}
	return s
}

// integer reads a whole number.
func (f fields) integer(name string, def, least, most int) int {
	v, ok := f.value(name, cty.Number, "a whole number")
	if !ok {
		return def
	}
	n, acc := v.AsBigFloat().Int64()
	if acc != big.Exact || n < int64(least) || n > int64(most) {
		f.fail(name, "Unsuitable value", fmt.Sprintf("The argument %q takes a whole number from %d to %d.", name, least, most))
		return def
	}
	return int(n)
}

// size reads a size such as "4GiB".
func (f fields) size(name string, def, least, most uint64) uint64 {
	v, ok := f.value(name, cty.String, `a size such as "4GiB"`)
	if !ok {
		return def
	}
	n, err := ParseSize(v.AsString())
	switch {
	case err != nil:
		f.fail(name, "Invalid size", sentence(err)+".")
		return def
	case n < least:
		f.fail(name, "Below the minimum", fmt.Sprintf("The argument %q is at least %s.", name, FormatSize(least)))
		return def
	case n > most:
		f.fail(name, "Above the maximum", fmt.Sprintf("The argument %q is at most %s.", name, FormatSize(most)))
		return def
	}
	return n
}

// duration reads a time such as "10m".
func (f fields) duration(name string, def, most time.Duration) time.Duration {
	v, ok := f.value(name, cty.String, `a duration such as "10m"`)
	if !ok {
		return def
	}
	d, err := time.ParseDuration(v.AsString())
	if err != nil || d <= 0 || d > most {
		f.fail(name, "Invalid duration", fmt.Sprintf(`Durations are written as "90s", "10m" or "1h30m"; %q is more than zero and at most %d hours.`, name, int(most.Hours())))
		return def
	}
	return d
}

// path reads a file name and makes it absolute; a relative one is relative to
// the manifest's directory.
func (f fields) path(name string) string {
	p, ok := f.written(name)
	switch {
	case !ok:
		return ""
	case p == "":
		f.fail(name, "Unsuitable value", fmt.Sprintf("The argument %q cannot be empty.", name))
		return ""
	}
	if !filepath.IsAbs(p) {
		p = filepath.Join(filepath.Dir(f.at(name).Filename), p)
	}
	abs, err := filepath.Abs(p)
	if err != nil {
		f.fail(name, "Unsuitable value", "The directory of this file is not known: give an absolute path.")
		return ""
	}
	return abs
}

// reference reads a reference to a thing of a kind, as in image.debian, and
// returns the thing; nil when there is none or it is wrong.
func (f fields) reference(name, kind string) *node {
	v, ok := f.value(name, cty.DynamicPseudoType, "")
	if !ok {
		return nil
	}
	if v.Type().IsObjectType() && v.Type().HasAttribute("id") {
		if id := v.GetAttr("id"); id.Type() == cty.String && !id.IsNull() {
			if n := f.l.nodes[id.AsString()]; n != nil && n.kind == kind {
				return n
			}
		}
	}
	hint := ""
	if v.Type() == cty.String {
		if n := f.l.nodes[kind+"."+v.AsString()]; n != nil {
			hint = fmt.Sprintf(" Did you mean %s?", n.addr())
		}
	}
	f.fail(name, "Unsuitable value", fmt.Sprintf("The argument %q takes a reference, as in %s.NAME.", name, kind)+hint)
	return nil
}

func quoted(words []string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = fmt.Sprintf("%q", w)
	}
	if len(q) < 2 {
		return strings.Join(q, "")
	}
	return strings.Join(q[:len(q)-1], ", ") + " and " + q[len(q)-1]
}

// sentence makes an error's text begin like a sentence.
func sentence(err error) string {
	s := err.Error()
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// inOrder is attributes in the order of the source: a map has none.
func inOrder(attrs hcl.Attributes) []*hcl.Attribute {
	out := make([]*hcl.Attribute, 0, len(attrs))
	for _, a := range attrs {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *hcl.Attribute) int { return a.Range.Start.Byte - b.Range.Start.Byte })
	return out
}
