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

//go:embed ovsactl-attest.socket
var attestSocket string

//go:embed ovsactl-attest.service
var attestService string

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

// Hook says what the libvirt hook and the attestation service run. The paths are
// absolute.
type Hook struct {
	Program string // ovsactl
	DataDir string
	TPM     string // as the manifest's host.tpm
}

// Script renders the hook. Values are quoted for the shell; one with a line
// break, or a path that is not absolute, is refused.
func (h Hook) Script() (string, error) {
	if err := h.check(); err != nil {
		return "", fmt.Errorf("libvirt hook: %w", err)
	}
	return strings.NewReplacer(
		"@OVSACTL@", quote(h.Program), "@DATA_DIR@", quote(h.DataDir), "@TPM@", quote(h.TPM),
	).Replace(qemuHook), nil
}

func (h Hook) check() error {
	for _, v := range []string{h.Program, h.DataDir, strings.TrimPrefix(h.TPM, "unix:")} {
		if !filepath.IsAbs(v) || strings.ContainsAny(v, "\n\r\x00") {
			return fmt.Errorf("%q is not a plain absolute path", v)
		}
	}
	return nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// Unit is a unit of systemd.
type Unit struct{ Name, Text string }

// AttestSocketUnit is the unit by which the attestation service is enabled.
const AttestSocketUnit = "ovsactl-attest.socket"

// AttestUnits renders the units of the attestation service, `ovsactl host attest`.
// Values are quoted for systemd (systemd.syntax(7)), and refused as by Script.
func (h Hook) AttestUnits() ([]Unit, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("attestation service: %w", err)
	}
	service := strings.NewReplacer(
		"@OVSACTL@", argument(h.Program), "@DATA_DIR@", argument(h.DataDir), "@TPM@", argument(h.TPM),
		"@LOCKS@", unitQuote(filepath.Join(h.DataDir, "vtpm")),
	).Replace(attestService)
	return []Unit{{AttestSocketUnit, attestSocket}, {"ovsactl-attest.service", service}}, nil
}

func unitQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(s) + `"`
}

// argument is a word of a command line (systemd.service(5)).
func argument(s string) string { return unitQuote(strings.ReplaceAll(s, "$", "$$")) }
