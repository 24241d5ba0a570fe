// Package arch checks which packages import which: the house's rules, as
// docs/architecture.md tells them.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ovsactl/ovsactl/"

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
}

func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module) }

// list returns this module's packages, without their tests.
func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,Standard", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// under tells whether a package is dir or inside it.
func under(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// TestOwners: each door to the world is in one place.
func TestOwners(t *testing.T) {
	owners := []struct {
		door  string // an import path and all under it
		dirs  []string
		where string
	}{
		{"os/exec", []string{"internal/run"}, "internal/run"},
		{"libvirt.org/go/libvirt", []string{"vm"}, "vm"},
		{"github.com/digitalocean/go-qemu", []string{"vm"}, "vm"},
		{"golang.org/x/crypto/ssh", []string{"internal/remote"}, "internal/remote"},
		{"github.com/pkg/sftp", []string{"internal/remote"}, "internal/remote"},
		{"github.com/google/go-tpm", []string{"vtpm", "cmd/ovsaruntime"}, "vtpm and the guest program"},
		{"google.golang.org/grpc", []string{"internal/inference", "cmd"}, "internal/inference, and what serves it"},
		{"github.com/spf13/cobra", []string{"cmd"}, "cmd"},
	}
	for _, p := range list(t) {
		for _, o := range owners {
			mayImport := slices.ContainsFunc(o.dirs, func(d string) bool { return under(p.name(), d) })
			for _, imp := range p.Imports {
				if under(imp, o.door) && !mayImport {
					t.Errorf("%s imports %s, which belongs to %s", p.name(), imp, o.where)
				}
			}
		}
	}
}

// TestDirection: imports point one way.
func TestDirection(t *testing.T) {
	nouns := []string{"roles", "vm", "vtpm", "licensing"}
	for _, p := range list(t) {
		for _, imp := range p.Imports {
			imp, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if under(imp, "cmd") && !under(p.name(), "cmd") {
				t.Errorf("%s imports %s: nothing imports cmd", p.name(), imp)
			}
			if under(imp, "provision") && !under(p.name(), "cmd") && !under(p.name(), "provision") {
				t.Errorf("%s imports %s: only cmd does", p.name(), imp)
			}
			for _, from := range nouns {
				for _, to := range nouns {
					if from != to && under(p.name(), from) && under(imp, to) && !allowed(p.name(), imp) {
						t.Errorf("%s imports %s: %s does not know %s", p.name(), imp, from, to)
					}
				}
			}
		}
	}
}

// allowed are the edges between nouns that the design has.
func allowed(from, to string) bool {
	switch from {
	case "licensing/client", "licensing/hosting": // prove their guest's state with the guest's TPM
		return to == "vtpm/quote" || to == "vtpm/guest"
	case "licensing/licensetest":
		return under(to, "vtpm")
	}
	return under(from, "licensing") && to == "vtpm/quote"
}

// TestGuestPrograms: what runs in guests is linked without libvirt and HCL.
func TestGuestPrograms(t *testing.T) {
	for _, p := range list(t) {
		name, isProgram := strings.CutPrefix(p.name(), "cmd/")
		if !isProgram || strings.Contains(name, "/") || name == "ovsactl" {
			continue
		}
		for _, dep := range p.Deps {
			if under(dep, "libvirt.org/go/libvirt") || under(dep, "github.com/hashicorp/hcl/v2") || under(dep, "github.com/digitalocean/go-qemu") {
				t.Errorf("%s depends on %s", name, dep)
			}
		}
	}
}

// TestPure: the verifier and the manifest language do no I/O of their own.
func TestPure(t *testing.T) {
	for _, p := range list(t) {
		if p.name() != "vtpm/quote" {
			continue
		}
		for _, imp := range p.Imports {
			if imp == "os" || imp == "net" || strings.HasPrefix(imp, "net/") && imp != "net/netip" || imp == "io/ioutil" {
				t.Errorf("%s imports %s: it is pure", p.name(), imp)
			}
		}
	}
}

// TestInference: what a model server is about knows no protocol, and protocols do not
// know each other.
func TestInference(t *testing.T) {
	const root = "internal/inference"
	for _, p := range list(t) {
		if p.name() == root && slices.ContainsFunc(p.Deps, func(dep string) bool { return strings.HasPrefix(dep, module) || under(dep, "google.golang.org/grpc") }) {
			t.Errorf("%s depends on more than what comes with Go", p.name())
		}
		for from, to := range map[string]string{"kserve": "tfserving", "tfserving": "kserve"} {
			if under(p.name(), root+"/"+from) && slices.ContainsFunc(p.Deps, func(dep string) bool { return under(dep, module+root+"/"+to) }) {
				t.Errorf("%s depends on %s", p.name(), to)
			}
		}
	}
}
