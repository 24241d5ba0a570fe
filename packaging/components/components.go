// Package components says what our components install: the layout of each, and
// the files that are not programs.
package components

import (
	"embed"
	"fmt"
)

//go:embed files
var files embed.FS

// Layout is what one component installs.
type Layout struct {
	Dirs  []Dir  // parents before children
	Files []File // owned by root
}

// Dir is a directory. Those of root's are not writable by others, so nothing
// that root runs is under anybody else's control.
type Dir struct{ Path, Mode, Owner string }

// File is a file, by its place in the guest. Exactly one of Program and Asset
// is set.
type File struct {
	Path, Mode string
	Program    string // one of the guest programs
	Asset      string // see [Asset]
}

// Asset returns the content of a file that is not a program.
func Asset(name string) ([]byte, error) {
	text, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil, fmt.Errorf("component file: %w", err)
	}
	return text, nil
}

// Installer is the install.sh of every component.
func Installer() ([]byte, error) { return Asset("install.sh") }

// Layouts is what each of our components installs, by its name in manifests.
func Layouts() map[string]Layout {
	return map[string]Layout{
		"developer":      kvm(),
		"license_server": licenseServer(),
		"model_hosting": kvm(
			File{Path: "/opt/ovsa/kvm/example_client/README", Mode: "0644", Asset: "example_client-README"},
			File{Path: "/opt/ovsa/kvm/example_runtime/README", Mode: "0644", Asset: "example_runtime-README"},
		),
	}
}

// kvm is the layout of a guest that handles or runs models.
func kvm(more ...File) Layout {
	l := Layout{
		Dirs: []Dir{
			{"/opt/ovsa", "0755", "root"},
			{"/opt/ovsa/kvm", "0755", "root"},
			{"/opt/ovsa/kvm/bin", "0755", "root"},
			{"/opt/ovsa/kvm/lib", "0755", "root"},
			{"/opt/ovsa/kvm/scripts", "0755", "root"},
			{"/opt/ovsa/kvm/keystore", "0700", "ovsa"},
			{"/opt/ovsa/kvm/artefacts", "0750", "ovsa"},
			{"/opt/ovsa/kvm/tpm-trust", "0755", "root"},
			{"/opt/ovsa/kvm/ak-trust", "0755", "root"},
		},
		Files: []File{
			{Path: "/opt/ovsa/kvm/bin/ovsaruntime", Mode: "0755", Program: "ovsaruntime"},
			{Path: "/opt/ovsa/kvm/bin/ovsatool", Mode: "0755", Program: "ovsatool"},
			{Path: "/opt/ovsa/kvm/lib/README", Mode: "0644", Asset: "lib-README"},
			{Path: "/opt/ovsa/kvm/scripts/setupvars.sh", Mode: "0644", Asset: "setupvars-kvm.sh"},
		},
	}
	if len(more) > 0 {
		l.Dirs = append(l.Dirs, Dir{"/opt/ovsa/kvm/example_client", "0755", "root"}, Dir{"/opt/ovsa/kvm/example_runtime", "0755", "root"})
	}
	l.Files = append(l.Files, more...)
	return l
}

// licenseServer is the layout of a licence server. root has a script in DB, where
// ovsa's database is: ovsa may add files to DB, and not replace what is root's.
func licenseServer() Layout {
	return Layout{
		Dirs: []Dir{
			{"/opt/ovsa", "0755", "root"},
			{"/opt/ovsa/bin", "0755", "root"},
			{"/opt/ovsa/lib", "0755", "root"},
			{"/opt/ovsa/scripts", "0755", "root"},
			{"/opt/ovsa/DB", "1770", "root:ovsa"},
			{"/opt/ovsa/certs", "0700", "ovsa"},
			{"/usr/local/lib/systemd", "0755", "root"},
			{"/usr/local/lib/systemd/system", "0755", "root"},
		},
		Files: []File{
			{Path: "/opt/ovsa/bin/license_server", Mode: "0755", Program: "license_server"},
			{Path: "/opt/ovsa/lib/README", Mode: "0644", Asset: "lib-README"},
			{Path: "/opt/ovsa/scripts/setupvars.sh", Mode: "0644", Asset: "setupvars-server.sh"},
			{Path: "/opt/ovsa/scripts/OVSA_install_license_server_cert.sh", Mode: "0755", Asset: "OVSA_install_license_server_cert.sh"},
			{Path: "/opt/ovsa/scripts/ovsa_store_customer_lic_cert_db.py", Mode: "0755", Asset: "ovsa_store_customer_lic_cert_db.py"},
			{Path: "/opt/ovsa/DB/ovsa_store_customer_lic_cert_db.py", Mode: "0755", Asset: "ovsa_store_customer_lic_cert_db.py"}, // where the guide has it
			{Path: "/usr/local/lib/systemd/system/license_server.service", Mode: "0644", Asset: "license_server.service"},
		},
	}
}
