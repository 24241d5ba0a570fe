package roles

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// secret marks values of sensitive variables and all that is made of them.
type secret struct{}

const (
	maxValue = 64 << 10 // the most that one value may weigh: see weight
	maxName  = 64       // bytes of a name that is compared with others
)

// scopes are the functions that an expression can call, by the directory of
// its file: file() is relative to that.
type scopes map[string]map[string]function.Function

// eval evaluates a node once. from is the reference that needs it.
func (l *loader) eval(n *node, from hcl.Range) cty.Value {
	switch n.state {
	case done:
		return n.value
	case running:
		l.failCycle(n, from)
		return cty.DynamicVal
	}
	n.state = running
	l.path = append(l.path, n)
	n.value = l.compute(n)
	l.path = l.path[:len(l.path)-1]
	n.state = done
	return n.value
}

func (l *loader) compute(n *node) cty.Value {
	switch n.kind {
	case "var":
		return l.variable(n)
	case "local":
		return l.light(l.expression(n.attr.Expr), n.attr.Range)
	case "network":
		return l.decodeNetwork(n)
	case "image":
		return l.decodeImage(n)
	default:
		return l.decodeRole(n)
	}
}

// light refuses a value that is too large to be used many times.
func (l *loader) light(v cty.Value, at hcl.Range) cty.Value {
	if weight(v, maxValue) < 0 {
		l.fail(at, "Value too large", "A variable or a local value may have 64 KiB of text, or as many elements.")
		return cty.DynamicVal
	}
	return v
}

// failCycle names the cycle as a path that begins and ends with n.
func (l *loader) failCycle(n *node, from hcl.Range) {
	var names []string
	for _, p := range l.path[slices.Index(l.path, n):] {
		names = append(names, p.addr())
	}
	names = append(names, n.addr())
	l.fail(from, "Reference cycle", "These refer to each other in a circle, so none can be evaluated:\n\n    "+strings.Join(names, " -> "))
}

// expression evaluates expr with what it refers to. The value is unknown when
// a diagnostic says why it cannot be evaluated.
func (l *loader) expression(expr hcl.Expression) cty.Value {
	ctx := &hcl.EvalContext{Functions: l.functions(expr.Range().Filename)}
	roots := make(map[string]map[string]cty.Value)
	failed, hidden := false, false
	for _, ref := range expr.Variables() {
		n := l.lookup(ref)
		if n == nil {
			failed = true
			continue
		}
		if roots[n.kind] == nil {
			roots[n.kind] = make(map[string]cty.Value)
		}
		v := l.eval(n, ref.SourceRange())
		roots[n.kind][n.name] = v
		failed = failed || !l.checkAttribute(ref, v)
		hidden = hidden || v.ContainsMarked()
	}
	if failed {
		return cty.DynamicVal
	}
	ctx.Variables = make(map[string]cty.Value, len(roots))
	for root, names := range roots {
		ctx.Variables[root] = cty.ObjectVal(names)
	}
	v, diags := expr.Value(ctx)
	for _, d := range diags {
		if hidden { // HCL's words may quote what they are about
			d.Detail = "What is wrong is left out here, since a sensitive value is involved."
		}
		l.diags = append(l.diags, d)
	}
	if diags.HasErrors() {
		return cty.DynamicVal
	}
	return v
}

// lookup finds what a reference names, or says that there is none.
func (l *loader) lookup(ref hcl.Traversal) *node {
	kind := ref.RootName()
	at := ref.SourceRange()
	switch kind {
	case "var", "local", "network", "image", "role":
	default:
		roots := []string{"var", "local", "network", "image", "role"}
		l.fail(at, "Unknown name", "A reference begins with var, local, network, image or role, as in image.debian; text is written in quotes."+didYouMean(kind, roots))
		return nil
	}
	name, ok := "", false
	if len(ref) > 1 {
		switch step := ref[1].(type) {
		case hcl.TraverseAttr:
			name, ok = step.Name, true
		case hcl.TraverseIndex:
			if step.Key.Type() == cty.String && step.Key.IsKnown() && !step.Key.IsNull() {
				name, ok = step.Key.AsString(), true
			}
		}
	}
	if !ok {
		l.fail(at, "Incomplete reference", fmt.Sprintf("A reference says which %s it means, as in %s.NAME.", kindNoun(kind), kind))
		return nil
	}
	n := l.nodes[kind+"."+name]
	if n == nil {
		l.fail(at, "Unknown "+kindNoun(kind), fmt.Sprintf("There is no %s named %q.", kindNoun(kind), name)+didYouMean(name, l.names[kind]))
	}
	return n
}

// checkAttribute reports a reference to what a thing does not have.
func (l *loader) checkAttribute(ref hcl.Traversal, v cty.Value) bool {
	if len(ref) < 3 || !v.Type().IsObjectType() {
		return true
	}
	step, ok := ref[2].(hcl.TraverseAttr)
	if !ok || v.Type().HasAttribute(step.Name) {
		return true
	}
	names := slices.Sorted(maps.Keys(v.Type().AttributeTypes()))
	l.fail(step.SrcRange, "Unknown attribute", fmt.Sprintf("A %s has no attribute %q to refer to.", kindNoun(ref.RootName()), step.Name)+didYouMean(step.Name, names))
	return false
}

// functions is what expressions of a file can call.
func (l *loader) functions(filename string) map[string]function.Function {
	dir := filepath.Dir(filename)
	if l.scopes[dir] == nil {
		l.scopes[dir] = functions(dir, l.opts.Sources)
	}
	return l.scopes[dir]
}

// didYouMean ends a sentence with the closest of names, if one is close.
func didYouMean(given string, names []string) string {
	best, distance := "", min(3, (len(given)+1)/3+1)
	if len(given) > maxName {
		return ""
	}
	for _, n := range names {
		if d := len(n) - len(given); d >= distance || -d >= distance {
			continue
		}
		if d := levenshtein.Distance(given, n, nil); d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean %q?", best)
}

// weight subtracts from budget a value's elements, bytes of text and digits, and
// stops below zero: the cost of looking is bounded, too.
func weight(v cty.Value, budget int) int {
	v, _ = v.Unmark()
	budget--
	if budget < 0 || !v.IsKnown() || v.IsNull() {
		return budget
	}
	switch v.Type() {
	case cty.String:
		return budget - len(v.AsString())
	case cty.Number: // about its digits, were it written out
		return budget - max(v.AsBigFloat().MantExp(nil), -v.AsBigFloat().MantExp(nil))/3
	}
	if !v.CanIterateElements() {
		return budget
	}
	for it := v.ElementIterator(); it.Next() && budget >= 0; {
		_, e := it.Element()
		budget = weight(e, budget)
	}
	return budget
}
