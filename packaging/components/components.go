// Package components says what our components install: the layout of each, and
// the files that are not programs.
package components

import (
	"embed"
	"fmt"
	"strings"

	"github.com/ovsactl/ovsactl/examples"
	"github.com/ovsactl/ovsactl/internal/component/installer"
)

//go:embed files
var files embed.FS

// Layout is what one component installs.
type Layout struct {
	// Directories of root's are not writable by others, so nothing that root runs
	// is under anybody else's control.
	Dirs  []installer.Dir
	Files []File // owned by root
	// Configs are made where there is none, and are the user's from then on.
	Configs []File
	Units   []string         // of systemd, among Files, that are enabled and started
	Users   []string         // of the system, which are made
	Needs   []installer.Need // packages of the distribution's
}

// File is a file, by its place in the guest. Exactly one of Program, Asset and Library
// is set.
type File struct {
	Path    string
	Mode    uint32
	Program string // one of the guest programs
	Dynamic bool   // the program is linked with the guest's C library, and not statically
	Asset   string // see [Asset]
	Library string // one of those that others have made, in the programs' directory openvino
}

// client is what the assets begin with that are files of the example client.
const client = "example_client/"

// Asset returns the content of a file that is not a program.
func Asset(name string) ([]byte, error) {
	if name, is := strings.CutPrefix(name, client); is {
		return examples.Client(name)
	}
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
		"model_hosting":  modelHosting(),
		"openvino":       openvino(),
	}
}

// Packages are those of a distribution's suite that a component of ours uses: what an
// image for it has, as guests may reach no mirror.
func Packages(component, suite string) []string {
	var names []string
	for _, n := range Layouts()[component].Needs {
		if !n.Optional || n.Package == onnxruntime && suite == "trixie" {
			names = append(names, n.Package)
		}
	}
	return names
}

// Disabled are units of such packages that do not start by themselves where nobody
// asked for them: a component starts what it uses.
func Disabled(pkg string) []string {
	if pkg == nginx {
		return []string{"nginx.service"}
	}
	return nil
}

const nginx = "nginx-light"

// onnxruntime is Debian 13's: other suites have another version, or none.
const onnxruntime = "libonnxruntime1.21"

// kvm is the layout of a guest that handles or runs models.
func kvm() Layout {
	return Layout{
		Dirs: []installer.Dir{
			dir("/opt/ovsa", 0o755, installer.Root),
			dir("/opt/ovsa/kvm", 0o755, installer.Root),
			dir("/opt/ovsa/kvm/bin", 0o755, installer.Root),
			dir("/opt/ovsa/kvm/lib", 0o755, installer.Root),
			dir("/opt/ovsa/kvm/scripts", 0o755, installer.Root),
			dir("/opt/ovsa/kvm/keystore", 0o700, installer.User),
			dir("/opt/ovsa/kvm/artefacts", 0o750, installer.User),
			dir("/opt/ovsa/kvm/trust", 0o755, installer.User),
			dir("/opt/ovsa/kvm/tpm-trust", 0o755, installer.User),
			dir("/opt/ovsa/kvm/ak-trust", 0o755, installer.User),
		},
		Files: []File{
			{Path: "/opt/ovsa/kvm/bin/ovsaruntime", Mode: 0o755, Program: "ovsaruntime"},
			{Path: "/opt/ovsa/kvm/bin/ovsatool", Mode: 0o755, Program: "ovsatool"},
			{Path: "/opt/ovsa/kvm/lib/README", Mode: 0o644, Asset: "lib-README"},
			{Path: "/opt/ovsa/kvm/scripts/setupvars.sh", Mode: 0o644, Asset: "setupvars-kvm.sh"},
		},
	}
}

// modelHosting is the layout of a guest that serves models. The front's certificates
// are ovsa's, who makes them and uses the client's.
func modelHosting() Layout {
	l := kvm()
	l.Dirs = append(l.Dirs,
		dir("/opt/ovsa/kvm/example_client", 0o755, installer.Root),
		dir("/opt/ovsa/kvm/example_runtime", 0o755, installer.Root),
		dir("/usr/local/lib/systemd", 0o755, installer.Root),
		dir("/usr/local/lib/systemd/system", 0o755, installer.Root),
		dir("/var/OVSA", 0o755, installer.Root),
		dir("/var/OVSA/Modelserver", 0o755, installer.User),
	)
	l.Files = append(l.Files,
		File{Path: "/opt/ovsa/kvm/example_client/README", Mode: 0o644, Asset: "example_client-README"},
		File{Path: "/opt/ovsa/kvm/example_client/face_detection.py", Mode: 0o755, Asset: client + "face_detection.py"},
		File{Path: "/opt/ovsa/kvm/example_client/requirements.txt", Mode: 0o644, Asset: client + "requirements.txt"},
		File{Path: "/opt/ovsa/kvm/example_runtime/README", Mode: 0o644, Asset: "example_runtime-README"},
		File{Path: "/opt/ovsa/kvm/example_runtime/start_secure_ovsa_model_server.sh", Mode: 0o755, Asset: "start_secure_ovsa_model_server.sh"},
		File{Path: "/opt/ovsa/kvm/example_runtime/generate_certs.sh", Mode: 0o755, Asset: "generate_certs.sh"},
		File{Path: "/opt/ovsa/kvm/bin/ovsa-engine", Mode: 0o755, Program: "ovsa-engine", Dynamic: true},
		unit("ovsaruntime-init.service"),
		unit("ovsaruntime.service"),
	)
	l.Configs = []File{{Path: "/opt/ovsa/kvm/example_runtime/sample.json", Mode: 0o644, Asset: "sample.json"}}
	l.Units = []string{"ovsaruntime.service"}
	l.Users = []string{"ovsa-engine"}
	l.Needs = []installer.Need{
		{Package: nginx, Path: "/usr/sbin/nginx"},
		{Package: onnxruntime, Path: "/usr/lib/x86_64-linux-gnu/libonnxruntime.so.1.21", Optional: true},
	}
	return l
}

// licenseServer is the layout of a licence server. root has a script in DB, where
// ovsa's database is: ovsa may add files to DB, and not replace what is root's.
func licenseServer() Layout {
	return Layout{
		Dirs: []installer.Dir{
			dir("/opt/ovsa", 0o755, installer.Root),
			dir("/opt/ovsa/bin", 0o755, installer.Root),
			dir("/opt/ovsa/lib", 0o755, installer.Root),
			dir("/opt/ovsa/scripts", 0o755, installer.Root),
			dir("/opt/ovsa/DB", 0o1770, installer.RootUser),
			dir("/opt/ovsa/certs", 0o700, installer.User),
			dir("/usr/local/lib/systemd", 0o755, installer.Root),
			dir("/usr/local/lib/systemd/system", 0o755, installer.Root),
		},
		Files: []File{
			{Path: "/opt/ovsa/bin/license_server", Mode: 0o755, Program: "license_server"},
			{Path: "/opt/ovsa/lib/README", Mode: 0o644, Asset: "lib-README"},
			{Path: "/opt/ovsa/scripts/setupvars.sh", Mode: 0o644, Asset: "setupvars-server.sh"},
			{Path: "/opt/ovsa/scripts/OVSA_install_license_server_cert.sh", Mode: 0o755, Asset: "OVSA_install_license_server_cert.sh"},
			{Path: "/opt/ovsa/scripts/ovsa_store_customer_lic_cert_db.py", Mode: 0o755, Asset: "ovsa_store_customer_lic_cert_db.py"},
			{Path: "/opt/ovsa/DB/ovsa_store_customer_lic_cert_db.py", Mode: 0o755, Asset: "ovsa_store_customer_lic_cert_db.py"}, // where the guide has it
			unit("license_server-init.service"),
			unit("license_server.service"),
		},
		Units: []string{"license_server.service"},
	}
}

func unit(name string) File {
	return File{Path: "/usr/local/lib/systemd/system/" + name, Mode: 0o644, Asset: name}
}

func dir(path string, mode uint32, owner installer.Owner) installer.Dir {
	return installer.Dir{Path: path, Mode: mode, Owner: owner}
}
