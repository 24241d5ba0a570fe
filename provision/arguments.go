package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/roles"
)

// service is a component of ours that has a unit.
type service struct {
	unit     string
	program  string // that has the trust stores
	settings string // the file of those that a manifest says
}

func services() map[string]service {
	return map[string]service{
		"license_server": {"license_server.service", "/opt/ovsa/bin/license_server", "/opt/ovsa/license_server.manifest.conf"},
		"model_hosting":  {"ovsaruntime.service", "/opt/ovsa/kvm/bin/ovsatool", "/opt/ovsa/kvm/ovsaruntime.manifest.conf"},
	}
}

// serviceOf is the service that a component of ours is.
func serviceOf(c roles.Component) (service, bool) {
	s, ok := services()[c.Name]
	return s, ok && c.Path == ""
}

// Where a manifest's files go in a guest.
const (
	sampleFile   = "/opt/ovsa/kvm/example_runtime/sample.json"
	artefactsDir = "/opt/ovsa/kvm/artefacts"
	clientCA     = "/var/OVSA/Modelserver/client_ca.pem"
	clientCAKey  = "/var/OVSA/Modelserver/client_ca.key"
)

// What a guest does about a file that has changed: see templates.ConfigureScript.
const (
	restartsUnit = "restart"
	reloadsUnit  = "reload"
	isNoticed    = "notice"
	isRemoved    = "remove"
	isTrusted    = "trust"
)

// guestFile is a file that a component's arguments put into its guest.
type guestFile struct {
	kind   string
	source string // on this machine; "" where data is all of it
	data   []byte
	owner  string // as the guest's script has it
	target string // a path or, of a trusted one, the purpose
}

// argument is one of a component's, as plans show it and guests remember it.
type argument struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// arguments are those of a component of ours that are not as they are by themselves.
// Of files it is their content that counts.
func arguments(c roles.Component) ([]argument, error) {
	if _, ok := serviceOf(c); !ok {
		return nil, nil
	}
	var all []argument
	add := func(name, value string) {
		if value != "" {
			all = append(all, argument{name, value})
		}
	}
	if c.Engine != "auto" {
		add("engine", c.Engine)
	}
	add("command", strings.Join(c.Command, " "))
	if c.GRPCPort != 0 {
		add("grpc_port", strconv.Itoa(c.GRPCPort))
	}
	type group struct {
		name  string
		paths []string
	}
	files := []group{{"config", named(c.Config)}, {"client_ca", named(c.ClientCA)}}
	for _, t := range c.Trust {
		files = append(files, group{"trust." + t.For, t.Files})
	}
	if c.Models != "" {
		models, err := modelFiles(c.Models)
		if err != nil {
			return nil, err
		}
		files = append(files, group{"models", models})
	}
	for _, f := range files {
		value, err := digestOf(f.paths)
		if err != nil {
			return nil, hint.Wrap(fmt.Errorf("component %q: %s: %w", c.Name, f.name, err), "paths are relative to the manifest's directory")
		}
		add(f.name, value)
	}
	return all, nil
}

func named(path string) []string {
	if path == "" {
		return nil
	}
	return []string{path}
}

// digestOf says how many files these are, and what is in them.
func digestOf(paths []string) (string, error) {
	if len(paths) == 0 {
		return "", nil
	}
	sum := sha256.New()
	for _, p := range paths {
		if err := addFile(sum, p); err != nil {
			return "", err
		}
	}
	digest := hex.EncodeToString(sum.Sum(nil))[:12]
	if len(paths) == 1 {
		return filepath.Base(paths[0]) + " sha256:" + digest, nil
	}
	return fmt.Sprintf("%d files sha256:%s", len(paths), digest), nil
}

func addFile(to io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%q is not a file", name)
	}
	fmt.Fprintf(to, "%s %d\n", filepath.Base(name), info.Size())
	_, err = io.Copy(to, f)
	return err
}

// modelFiles are the files of licensed models below a directory: MODEL/VERSION/STEM.dat
// and STEM.lic. Whatever else there is stays here.
func modelFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		ending := filepath.Ext(name)
		if d.IsDir() || ending != ".dat" && ending != ".lic" || strings.Count(rel, "/") != 2 {
			return nil
		}
		if strings.HasPrefix(rel, ".") || strings.ContainsFunc(rel, odd) {
			return fmt.Errorf("%q has other characters than letters, digits and . _ - + /", name)
		}
		files = append(files, name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("models: %w", err)
	}
	if len(files) == 0 {
		return nil, hint.Wrap(fmt.Errorf("models: there is no model in %q", dir), "it has MODEL/VERSION/STEM.dat and STEM.lic, as in face/1/face.dat")
	}
	return files, nil
}

func odd(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-+/", r))
}

// guestFiles are what a component's arguments put into its guest.
func guestFiles(c roles.Component) ([]guestFile, error) {
	s, ok := serviceOf(c)
	if !ok {
		return nil, nil
	}
	files := []guestFile{{kind: restartsUnit, data: settings(c), owner: "root", target: s.settings}}
	if c.Config != "" {
		files = append(files, guestFile{kind: reloadsUnit, source: c.Config, owner: "root:ovsa", target: sampleFile})
	}
	if c.ClientCA != "" { // and the key of the one that was made here is no more
		files = append(files,
			guestFile{kind: isRemoved, owner: "ovsa", target: clientCAKey},
			guestFile{kind: restartsUnit, source: c.ClientCA, owner: "ovsa", target: clientCA})
	}
	for _, t := range c.Trust {
		for _, name := range t.Files {
			files = append(files, guestFile{kind: isTrusted, source: name, owner: "ovsa", target: t.For})
		}
	}
	if c.Models == "" {
		return files, nil
	}
	models, err := modelFiles(c.Models)
	for _, name := range models {
		rel, err := filepath.Rel(c.Models, name)
		if err != nil {
			return nil, err
		}
		files = append(files, guestFile{kind: isNoticed, source: name, owner: "ovsa", target: path.Join(artefactsDir, rel)})
	}
	return files, err
}

// settings are the lines of systemd's EnvironmentFile= that a manifest means.
func settings(c roles.Component) []byte {
	var b strings.Builder
	b.WriteString("# What the manifest says. ovsactl apply writes this file.\n")
	set := func(name, value string) { fmt.Fprintf(&b, "%s=\"%s\"\n", name, value) }
	port := func(name string, n int) {
		if n != 0 {
			set(name, ":"+strconv.Itoa(n))
		}
	}
	switch c.Name {
	case "license_server":
		port("OVSA_LISTEN", c.Port)
	case "model_hosting":
		port("OVSA_FRONT", c.Port)
		port("OVSA_FRONT_GRPC", c.GRPCPort)
		if c.Engine != "" && c.Engine != "auto" && c.Engine != "command" {
			set("OVSA_ENGINE", c.Engine)
		}
		if len(c.Command) > 0 { // of words that need no quoting
			set("ENGINE_COMMAND", strings.Join(c.Command, " "))
		}
	}
	return []byte(b.String())
}

// open opens a file's content.
func (f guestFile) open() (io.ReadCloser, int64, error) {
	if f.source == "" {
		return io.NopCloser(strings.NewReader(string(f.data))), int64(len(f.data)), nil
	}
	file, err := os.Open(f.source)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q is not a file", f.source)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}
