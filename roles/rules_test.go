package roles_test

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ovsactl/ovsactl/internal/diag"
	"github.com/ovsactl/ovsactl/roles"
)

// rule is one rule of the language: a manifest that keeps it and one that
// breaks it, with what is said about that.
type rule struct {
	name            string
	good, bad, want *txtar.File
}

// TestRules runs testdata/*.txtar: for each rule, RULE/good.hcl is valid and
// RULE/bad.hcl gives the diagnostics in RULE/want. OVSA_UPDATE=1 rewrites those.
func TestRules(t *testing.T) {
	for _, file := range ruleFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rules(t, archive) {
				t.Run(r.name, func(t *testing.T) { r.run(t) })
			}
			if os.Getenv("OVSA_UPDATE") != "" {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func ruleFiles(tb testing.TB) []string {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no testdata: %v", err)
	}
	return files
}

func rules(t *testing.T, archive *txtar.Archive) []*rule {
	var all []*rule
	for i := range archive.Files {
		f := &archive.Files[i]
		name, part := path.Dir(f.Name), path.Base(f.Name)
		at := slices.IndexFunc(all, func(r *rule) bool { return r.name == name })
		if at < 0 {
			at = len(all)
			all = append(all, &rule{name: name})
		}
		switch part {
		case "good.hcl":
			all[at].good = f
		case "bad.hcl":
			all[at].bad = f
		case "want":
			all[at].want = f
		default:
			t.Fatalf("%s: no such part of a rule", f.Name)
		}
	}
	return all
}

func (r *rule) run(t *testing.T) {
	if r.good == nil || r.bad == nil || r.want == nil {
		t.Fatal("a rule has good.hcl, bad.hcl and want")
	}
	if _, text := load(t, "good.hcl", r.good.Data); text != "" {
		t.Errorf("good.hcl is refused:\n%s", text)
	}
	m, text := load(t, "bad.hcl", r.bad.Data)
	if m != nil {
		t.Error("bad.hcl gives a manifest")
	}
	for range 20 {
		if _, again := load(t, "bad.hcl", r.bad.Data); again != text {
			t.Fatalf("two runs differ:\n%s", cmp.Diff(text, again))
		}
	}
	text = strings.TrimSuffix(text, "\n")
	if os.Getenv("OVSA_UPDATE") != "" {
		r.want.Data = []byte(text)
		return
	}
	if diff := cmp.Diff(string(r.want.Data), text); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
}

// load loads one manifest and renders what is said about it.
func load(t *testing.T, name string, src []byte) (*roles.Manifest, string) {
	t.Helper()
	m, files, diags := roles.Load([]string{name}, roles.Options{Sources: map[string][]byte{name: src}})
	if (m == nil) != diags.HasErrors() {
		t.Errorf("manifest is nil: %v, errors: %v", m == nil, diags.HasErrors())
	}
	return m, render(t, files, diags)
}

func render(t *testing.T, files map[string]*hcl.File, diags hcl.Diagnostics) string {
	t.Helper()
	var b bytes.Buffer
	if err := diag.Text(&b, files, diags, diag.Style{Width: 78}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
