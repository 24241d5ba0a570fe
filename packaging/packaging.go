// Package packaging holds what goes onto a host beside the program: the list of
// packages it needs and the libvirt hook.
package packaging

import (
	_ "embed" // for the files
	"fmt"
	"path/filepath"
	"strings"
)

//go:embed apt-packages.txt
var aptPackages string

//go:embed qemu-hook.sh
var qemuHook string

// Package is a distribution package that a host needs.
type Package struct {
	Name string
	Min  string // oldest version that works; "" for any
}

// HostPackages lists what a host needs, in the order of apt-packages.txt.
func HostPackages() []Package {
	var list []Package
	for line := range strings.Lines(aptPackages) {
		line, _, _ = strings.Cut(line, "#")
		switch f := strings.Fields(line); len(f) {
		case 1:
			list = append(list, Package{Name: f[0]})
		case 2:
			list = append(list, Package{Name: f[0], Min: f[1]})
		}
	}
	return list
}

// Hook says what the libvirt hook runs. The paths are absolute.
type Hook struct {
	Program string // ovsactl
	DataDir string
	TPM     string // as the manifest's host.tpm
}

// Script renders the hook. Values are quoted for the shell; one with a line
// break, or a path that is not absolute, is refused.
func (h Hook) Script() (string, error) {
	for _, v := range []string{h.Program, h.DataDir, strings.TrimPrefix(h.TPM, "unix:")} {
		if !filepath.IsAbs(v) || strings.ContainsAny(v, "\n\r\x00") {
			return "", fmt.Errorf("libvirt hook: %q is not a plain absolute path", v)
		}
	}
	return strings.NewReplacer(
		"@OVSACTL@", quote(h.Program), "@DATA_DIR@", quote(h.DataDir), "@TPM@", quote(h.TPM),
	).Replace(qemuHook), nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
