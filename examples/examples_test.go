package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/ovsactl/ovsactl/examples"
	"github.com/ovsactl/ovsactl/roles"
)

// needed are values of variables that an example leaves to its reader.
func needed() map[string]map[string]string {
	return map[string]map[string]string{
		"cloud-image.hcl": {"sha256": strings.Repeat("0", 64)},
	}
}

func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("*.hcl")
	if err != nil || len(files) < 4 {
		t.Fatalf("examples: %q, %v", files, err)
	}
	for _, name := range files {
		t.Run(name, func(t *testing.T) {
			m, _, diags := roles.Load([]string{name}, roles.Options{Vars: needed()[name]})
			if m == nil || len(m.Roles) == 0 {
				t.Errorf("diagnostics: %v", diags)
			}
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if string(hclwrite.Format(src)) != string(src) {
				t.Error("not laid out as `ovsactl fmt` does")
			}
		})
	}
}

func TestQuickstartRunsOnASmallMachine(t *testing.T) {
	m, _, diags := roles.Load([]string{"roles.hcl"}, roles.Options{
		Sources: map[string][]byte{"roles.hcl": examples.Quickstart()},
	})
	if m == nil {
		t.Fatal(diags)
	}
	var names []string
	memory := uint64(0)
	for _, r := range m.Roles {
		names = append(names, r.Name)
		memory += r.Memory
		if r.CPUs > 2 || r.VTPM == nil {
			t.Errorf("role %q: %d processors, vTPM %v", r.Name, r.CPUs, r.VTPM)
		}
	}
	if got := strings.Join(names, " "); got != "isv_dev runtime" || memory > 2*roles.GiB {
		t.Errorf("roles %s with %s", got, roles.FormatSize(memory))
	}
}

func TestGuideHasTheGuidesNumbers(t *testing.T) {
	m, _, diags := roles.Load([]string{"guide.hcl"}, roles.Options{})
	if m == nil {
		t.Fatal(diags)
	}
	for i, want := range []struct {
		name, mac string
		display   int
	}{
		{"isv_dev", "52:54:00:d1:66:5f", 1},
		{"runtime", "52:54:00:d1:67:5f", 2},
	} {
		r := m.Roles[i]
		if r.Name != want.name || r.Networks[0].MAC != want.mac || r.VNC.Display != want.display ||
			r.CPUs != 8 || r.Memory != 4*roles.GiB || r.Disk != 20*roles.GiB {
			t.Errorf("role %+v, want %+v", r, want)
		}
	}
}
