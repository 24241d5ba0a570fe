package roles

import (
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/ovsactl/ovsactl/internal/diag"
)

// Options is what a manifest is evaluated with besides its files.
type Options struct {
	// Vars are values of variables as text, the strongest of all sources.
	Vars map[string]string
	// VarFiles hold NAME = VALUE lines; a later file wins.
	VarFiles []string
	// Getenv gives OVSA_VAR_name, the weakest source. Nil is an empty environment.
	Getenv func(string) string
	// Sources are contents by file name; nothing is read from disk for these.
	Sources map[string][]byte
	// DefaultTPM is host.tpm where the manifest does not say.
	DefaultTPM string
}

// Load reads, evaluates and validates a manifest of one or more files. The
// manifest is nil when a diagnostic is an error. The files are what diagnostics
// quote: in them the values of sensitive variables are masked. Diagnostics are
// sorted and the same in every run; none of them holds a sensitive value.
func Load(files []string, opts Options) (*Manifest, map[string]*hcl.File, hcl.Diagnostics) {
	l := newLoader(opts)
	l.read(files)
	var m *Manifest
	if !l.broken {
		l.checkGiven()
		m = l.manifest()
	}
	diag.Sort(l.diags)
	if l.diags.HasErrors() {
		return nil, l.files, l.diags
	}
	return m, l.files, l.diags
}

// LoadHost returns only the host block of a manifest, complete with defaults and
// without whom the host is enrolled with.
// The rest of the manifest has to parse, but may lack values for its variables.
func LoadHost(files []string, opts Options) (Host, map[string]*hcl.File, hcl.Diagnostics) {
	l := newLoader(opts)
	l.read(files)
	var host Host
	if !l.broken {
		host = l.decodeHost()
	}
	diag.Sort(l.diags)
	return host, l.files, l.diags
}

// Names lists the role names of a manifest without evaluating it, as far as it
// can be read. It is for completion.
func Names(files []string, opts Options) []string {
	l := newLoader(opts)
	l.read(files)
	return l.names["role"]
}

// loader is one evaluation of one manifest. It gathers diagnostics and goes on.
type loader struct {
	opts     Options
	files    map[string]*hcl.File // for people: secrets masked
	broken   bool                 // a file is missing or does not parse
	diags    hcl.Diagnostics
	hostName string
	host     *hcl.Block
	nodes    map[string]*node    // by address: "image.debian"
	order    []*node             // in the order of the source
	names    map[string][]string // by kind, in the order of the source
	given    map[string]given
	path     []*node // being evaluated, outermost first
	scopes   scopes
}

func newLoader(opts Options) *loader {
	if opts.Getenv == nil {
		opts.Getenv = func(string) string { return "" }
	}
	return &loader{
		opts:     opts,
		files:    make(map[string]*hcl.File),
		hostName: "local",
		nodes:    make(map[string]*node),
		names:    make(map[string][]string),
		given:    make(map[string]given),
		scopes:   make(scopes),
	}
}

// fail records an error about a place in the source.
func (l *loader) fail(at hcl.Range, summary string, detail ...string) {
	l.diags = append(l.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   strings.Join(detail, " "),
		Subject:  at.Ptr(),
	})
}

// manifest evaluates everything and puts it together.
func (l *loader) manifest() *Manifest {
	m := &Manifest{Host: l.decodeHost()}
	for _, n := range l.order {
		l.eval(n, n.at)
	}
	m.Host.Enroll = l.decodeEnroll()
	l.crossCheck()
	for _, n := range l.order {
		switch {
		case n.network != nil && (n.block != nil || n.used):
			m.Networks = append(m.Networks, *n.network)
		case n.image != nil && (n.block != nil || n.used):
			m.Images = append(m.Images, *n.image)
		case n.role != nil:
			m.Roles = append(m.Roles, *n.role)
		}
	}
	return m
}
