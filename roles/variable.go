package roles

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// envPrefix begins the environment variables that give values.
const envPrefix = "OVSA_VAR_"

// given is a variable's value from outside the manifest. Exactly one of expr
// and text is meant: a value in a file is an expression, one on the command
// line or in the environment is text.
type given struct {
	expr hcl.Expression
	text string
	from string // how to name its source in a message
}

// readGiven gathers values from files of values and the options.
func (l *loader) readGiven() {
	for _, name := range l.opts.VarFiles {
		l.readVarFile(name)
	}
	for name, text := range l.opts.Vars {
		l.given[name] = given{text: text, from: "the command line"}
	}
}

func (l *loader) readVarFile(name string) {
	src, ok := l.source(name, "It would hold lines of NAME = VALUE.")
	if !ok {
		l.broken = true
		return
	}
	file, diags := Parse(name, src)
	l.diags = append(l.diags, diags...)
	if file == nil || diags.HasErrors() {
		l.broken = true
		l.files[name] = &hcl.File{Bytes: maskValues(src)}
		return
	}
	attrs, diags := file.Body.JustAttributes()
	l.diags = append(l.diags, diags...)
	masked := slices.Clone(src)
	for _, a := range inOrder(attrs) {
		n := l.nodes["var."+a.Name]
		if n == nil {
			l.fail(a.NameRange, "Unknown variable",
				fmt.Sprintf("The manifest has no variable named %q.", a.Name)+didYouMean(a.Name, l.names["var"]))
		}
		if n == nil || sensitive(n) {
			mask(masked, a.Expr.Range())
		}
		l.given[a.Name] = given{expr: a.Expr, from: name}
	}
	l.files[name] = &hcl.File{Body: file.Body, Nav: file.Nav, Bytes: masked}
}

// checkGiven reports values for variables that the manifest does not have.
func (l *loader) checkGiven() {
	for name := range l.opts.Vars {
		if l.nodes["var."+name] == nil {
			l.diags = append(l.diags, &hcl.Diagnostic{
				Severity: hcl.DiagError,
				Summary:  "Unknown variable",
				Detail:   fmt.Sprintf("The command line gives a value for %q, but the manifest has no variable of that name.", name) + didYouMean(name, l.names["var"]),
			})
		}
	}
}

// sensitive tells whether a variable is declared so, or not clearly otherwise.
func sensitive(n *node) bool {
	attrs, _ := n.block.Body.JustAttributes()
	return maybeSensitive(attrs["sensitive"])
}

// variable is the value of a variable: from the command line, a file of
// values, the environment, or its default.
func (l *loader) variable(n *node) cty.Value {
	f := l.open(n.block, []string{"type", "default", "sensitive", "description"}, []string{"validation"})
	hidden := f.flag("sensitive") || sensitive(n)
	f.text("description", "")
	want := cty.DynamicPseudoType
	if a := f.content.Attributes["type"]; a != nil {
		t, diags := typeexpr.TypeConstraint(a.Expr)
		l.diags = append(l.diags, diags...)
		if diags.HasErrors() {
			return cty.DynamicVal
		}
		want = t
	}
	v, ok := l.variableValue(n, f, want)
	if !ok {
		return cty.DynamicVal
	}
	v = l.light(v, l.valueAt(n, f))
	if hidden {
		v = v.Mark(secret{})
	}
	// The conditions refer to the variable itself.
	n.value, n.state = v, done
	for _, b := range f.content.Blocks {
		l.validate(b, l.valueAt(n, f))
	}
	return v
}

// validate checks one condition on a variable whose value is at a place.
func (l *loader) validate(block *hcl.Block, at hcl.Range) {
	f := l.open(block, []string{"condition", "error_message"}, nil)
	f.require("condition", "it is true for the values that the variable may have.")
	f.require("error_message", "it says what the value should be.")
	message := f.text("error_message", "")
	a := f.content.Attributes["condition"]
	if a == nil {
		return
	}
	v, _ := l.expression(a.Expr).UnmarkDeep()
	switch {
	case !v.IsKnown():
	case v.IsNull() || v.Type() != cty.Bool:
		f.fail("condition", "Unsuitable value", "A condition is true or false.")
	case v.False():
		l.fail(at, "Value refused", message)
	}
}

// valueAt is where a variable's value is written, or else its name.
func (l *loader) valueAt(n *node, f fields) hcl.Range {
	g, ok := l.given[n.name]
	switch {
	case ok && g.expr != nil:
		return g.expr.Range()
	case !ok && f.has("default") && l.opts.Getenv(envPrefix+n.name) == "":
		return f.at("default")
	}
	return n.at
}

func (l *loader) variableValue(n *node, f fields, want cty.Type) (cty.Value, bool) {
	def, hasDefault := cty.NilVal, f.has("default")
	if hasDefault {
		v, ok := l.constant(f.content.Attributes["default"].Expr)
		if !ok {
			return cty.NilVal, false
		}
		if def, ok = l.converted(v, want, f.at("default"), "The default"); !ok {
			return cty.NilVal, false
		}
		if want == cty.DynamicPseudoType && def.Type().IsPrimitiveType() {
			want = def.Type()
		}
	}
	g, ok := l.given[n.name]
	if !ok {
		if text := l.opts.Getenv(envPrefix + n.name); text != "" {
			g, ok = given{text: text, from: "the environment (" + envPrefix + n.name + ")"}, true
		}
	}
	switch {
	case ok && g.expr != nil:
		v, valid := l.constant(g.expr)
		if !valid {
			return cty.NilVal, false
		}
		return l.converted(v, want, g.expr.Range(), "The value")
	case ok:
		return l.fromText(n, g, want)
	case hasDefault:
		return def, true
	}
	l.fail(n.block.DefRange, "No value for variable",
		fmt.Sprintf("The variable %q has no default, so it needs a value. One way to give it:\n\n    --var %s=VALUE", n.name, n.name))
	return cty.NilVal, false
}

// fromText reads text as the variable's type: text is itself, anything else is
// an expression. The text may be a secret, so no message repeats it.
func (l *loader) fromText(n *node, g given, want cty.Type) (cty.Value, bool) {
	v := cty.StringVal(g.text)
	if !want.IsPrimitiveType() && want != cty.DynamicPseudoType {
		expr, ok := parseText(g.text)
		if ok {
			var diags hcl.Diagnostics
			v, diags = expr.Value(nil)
			ok = !diags.HasErrors()
		}
		if !ok {
			l.fail(n.at, "Unsuitable value", fmt.Sprintf("The value of %q from %s cannot be read.", n.name, g.from))
			return cty.NilVal, false
		}
	}
	return l.converted(v, want, n.at, fmt.Sprintf("The value of %q from %s", n.name, g.from))
}

// parseText parses an expression under the same limits as a file.
func parseText(text string) (hcl.Expression, bool) {
	src := []byte(text)
	if refuse("", src) != nil {
		return nil, false
	}
	tokens, _ := hclsyntax.LexExpression(src, "", hcl.InitialPos)
	if tooComplex(tokens) != nil {
		return nil, false
	}
	expr, diags := hclsyntax.ParseExpression(src, "", hcl.InitialPos)
	return expr, !diags.HasErrors()
}

// constant evaluates an expression that may refer to nothing.
func (l *loader) constant(expr hcl.Expression) (cty.Value, bool) {
	v, diags := expr.Value(nil)
	l.diags = append(l.diags, diags...)
	return v, !diags.HasErrors()
}

func (l *loader) converted(v cty.Value, want cty.Type, at hcl.Range, what string) (cty.Value, bool) {
	out, err := convert.Convert(v, want)
	if err != nil {
		l.fail(at, "Unsuitable value", fmt.Sprintf("%s is not of the variable's type, %s.", what, typeexpr.TypeString(want)))
		return cty.NilVal, false
	}
	return out, true
}

// flag reads true or false.
func (f fields) flag(name string) bool {
	v, ok := f.value(name, cty.Bool, "true or false")
	return ok && v.True()
}
