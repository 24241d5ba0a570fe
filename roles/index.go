package roles

import (
	"fmt"
	"regexp"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// node is one named thing of the manifest: what a reference can name.
type node struct {
	kind, name string
	at         hcl.Range      // its name in the source
	attr       *hcl.Attribute // of a local
	block      *hcl.Block     // of the others; nil for what is there undeclared
	state      state
	used       bool // a role needs it
	value      cty.Value

	// One of these once it is evaluated.
	network *Network
	image   *Image
	role    *Role
	places  places // where in the source a role says what others must not
}

type state int

const (
	unseen state = iota
	running
	done
)

func (n *node) addr() string { return n.kind + "." + n.name }

// manifestSchema is what a file may hold at its top level.
func manifestSchema() *hcl.BodySchema {
	named := []string{"name"}
	return &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "variable", LabelNames: named},
		{Type: "locals"},
		{Type: "host", LabelNames: named},
		{Type: "network", LabelNames: named},
		{Type: "image", LabelNames: named},
		{Type: "role", LabelNames: named},
		{Type: "fleet", LabelNames: named},
	}}
}

// read parses the files and lists what they declare, without evaluating.
func (l *loader) read(files []string) {
	for _, name := range files {
		if _, again := l.files[name]; again {
			continue
		}
		src, ok := l.source(name, "To write a commented one:\n\n    ovsactl init")
		if !ok {
			l.broken = true
			continue
		}
		file, diags := Parse(name, src)
		l.broken = l.broken || diags.HasErrors()
		l.diags = append(l.diags, diags...)
		l.files[name] = shown(file, src, diags.HasErrors())
		if file == nil {
			continue
		}
		content, contentDiags := file.Body.Content(manifestSchema())
		if !l.broken { // else these follow from the syntax errors
			l.diags = append(l.diags, contentDiags...)
		}
		for _, block := range content.Blocks {
			l.declare(block)
		}
	}
	l.declareDefaults()
	l.readGiven()
}

func (l *loader) declare(block *hcl.Block) {
	switch block.Type {
	case "locals":
		l.declareLocals(block)
	case "host":
		l.declareHost(block)
	case "fleet":
		l.unsupported(block.DefRange, "fleet blocks")
	case "variable":
		l.add(&node{kind: "var", name: block.Labels[0], at: block.LabelRanges[0], block: block})
	default:
		l.add(&node{kind: block.Type, name: block.Labels[0], at: block.LabelRanges[0], block: block})
	}
}

func (l *loader) unsupported(at hcl.Range, what string) {
	l.fail(at, "Not supported yet", "This version of ovsactl does not know "+what+".")
}

func (l *loader) declareLocals(block *hcl.Block) {
	attrs, diags := block.Body.JustAttributes()
	l.diags = append(l.diags, diags...)
	for _, attr := range inOrder(attrs) {
		l.add(&node{kind: "local", name: attr.Name, at: attr.NameRange, attr: attr})
	}
}

func (l *loader) declareHost(block *hcl.Block) {
	if l.host != nil {
		l.fail(block.DefRange, "More than one host",
			fmt.Sprintf("A manifest has one host block so far, and the first is %s.", place(l.host.DefRange)),
			"Write a manifest for each host.")
		return
	}
	l.host = block
	l.hostName = block.Labels[0]
	l.checkName(block.LabelRanges[0], "host", l.hostName)
}

func (l *loader) add(n *node) {
	l.checkName(n.at, n.kind, n.name)
	if first, ok := l.nodes[n.addr()]; ok {
		l.fail(n.at, "Duplicate "+kindNoun(n.kind),
			fmt.Sprintf("Another %s is named %q, %s.", kindNoun(n.kind), n.name, place(first.at)))
		return
	}
	l.nodes[n.addr()] = n
	l.order = append(l.order, n)
	l.names[n.kind] = append(l.names[n.kind], n.name)
}

// declareDefaults adds the network and the image that need no declaration.
func (l *loader) declareDefaults() {
	for _, kind := range []string{"network", "image"} {
		if l.nodes[kind+".default"] == nil {
			l.add(&node{kind: kind, name: "default"})
		}
	}
}

// names of things, as they appear in domain names, host names and paths.
var (
	roleName  = regexp.MustCompile(`^[a-z]([a-z0-9_]{0,30}[a-z0-9])?$`)
	thingName = regexp.MustCompile(`^[a-z]([a-z0-9_-]{0,30}[a-z0-9])?$`)
)

func (l *loader) checkName(at hcl.Range, kind, name string) {
	switch kind {
	case "var", "local":
		if !hclsyntax.ValidIdentifier(name) {
			l.fail(at, "Invalid name", "The name of a variable is a letter followed by letters, digits, underscores and dashes.")
		}
	case "role":
		if !roleName.MatchString(name) {
			l.fail(at, "Invalid role name",
				"A role's name has up to 32 lower-case letters, digits and underscores, begins with a letter and does not end in an underscore.",
				`The guest of role "x" is named "ovsa_x".`)
		}
	default:
		if !thingName.MatchString(name) {
			l.fail(at, "Invalid "+kind+" name",
				"A name has up to 32 lower-case letters, digits, underscores and dashes, and begins with a letter.")
		}
	}
}

func kindNoun(kind string) string {
	switch kind {
	case "var":
		return "variable"
	case "local":
		return "local value"
	}
	return kind
}

// place is where something is, for people: "at roles.hcl line 3".
func place(r hcl.Range) string {
	if r.Filename == "" {
		return "which needs no declaration"
	}
	return fmt.Sprintf("at %s line %d", r.Filename, r.Start.Line)
}
