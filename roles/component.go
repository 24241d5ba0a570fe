package roles

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/hcl/v2"
)

// ourComponents are those that need no path.
func ourComponents() []string {
	return []string{"developer", "license_server", "model_hosting", "openvino"}
}

func (l *loader) decodeComponents(f fields, r *Role) {
	seen := make(map[string]hcl.Range)
	for _, b := range f.content.Blocks {
		if b.Type != "component" {
			continue
		}
		name, at := b.Labels[0], b.LabelRanges[0]
		if first, again := seen[name]; again {
			l.fail(at, "Duplicate component", fmt.Sprintf("The role has component %q already, %s.", name, place(first)))
			continue
		}
		seen[name] = at
		r.Components = append(r.Components, l.decodeComponent(b))
	}
}

func (l *loader) decodeComponent(b *hcl.Block) Component {
	var args, blocks []string
	switch b.Labels[0] {
	case "license_server":
		blocks = []string{"trust"}
	case "model_hosting":
		args, blocks = []string{"grpc_port", "engine", "command", "config", "models", "client_ca"}, []string{"trust"}
	}
	f := l.open(b, append([]string{"path", "port", "timeout"}, args...), blocks)
	c := Component{
		Name:    b.Labels[0],
		Path:    f.path("path"),
		Timeout: f.duration("timeout", defaultTimeout, 24*time.Hour),
		Range:   b.LabelRanges[0],
	}
	ours := slices.Contains(ourComponents(), c.Name)
	switch {
	case !ours && !thingName.MatchString(c.Name):
		l.checkName(b.LabelRanges[0], "component", c.Name)
	case !ours && !f.has("path"):
		l.fail(b.LabelRanges[0], "Unknown component",
			fmt.Sprintf("The components are %s; any other needs its tarball:\n\n    path = \"FILE.tar.gz\"\n\nThere is none named %q.", quoted(ourComponents()), c.Name)+didYouMean(c.Name, ourComponents()))
	}
	switch {
	case c.Name == "license_server":
		c.Port = f.integer("port", licensePort, 1, 65535)
		c.Trust = l.decodeTrust(f.single("trust"), "isv", "customer", "tpm_vendor", "attestation")
	case c.Name == "model_hosting":
		l.decodeHosting(f, &c)
	case f.has("port") && ours:
		l.fail(f.content.Attributes["port"].Range, "Unexpected port", fmt.Sprintf("The component %q has no port to set.", c.Name))
	default:
		c.Port = f.integer("port", 0, 1, 65535)
	}
	if !f.has("path") {
		return c
	}
	for _, name := range args {
		if f.has(name) {
			f.fail(name, "Unexpected argument", fmt.Sprintf("The argument %q is for the component %q of ours; with \"path\" it is somebody else's.", name, c.Name))
		}
	}
	if trust := f.single("trust"); trust != nil {
		l.fail(trust.DefRange, "Unexpected block", fmt.Sprintf("A trust block is for the component %q of ours; with \"path\" it is somebody else's.", c.Name))
	}
	return c
}

// Engines are what a manifest may say of model_hosting's engine, the default first.
func Engines() []string {
	return []string{"auto", "onnxruntime", "openvino", "ovms", "llama.cpp", "command"}
}

// commandWord is a word of an engine's command: a unit's settings have no quoting.
var commandWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./{}~-]+$`)

func (l *loader) decodeHosting(f fields, c *Component) {
	c.Port = f.integer("port", 0, 1, 65535)
	c.GRPCPort = f.integer("grpc_port", 0, 1, 65535)
	if c.Port != 0 && c.Port == c.GRPCPort {
		f.fail("grpc_port", "Port twice", `The arguments "port" (REST) and "grpc_port" need two ports.`)
	}
	c.Command = f.texts("command")
	if len(c.Command) > 0 && !f.has("engine") {
		c.Engine = "command"
	} else {
		c.Engine = f.oneOf("engine", Engines()...)
	}
	switch {
	case c.Engine == "command" && len(c.Command) == 0:
		f.require("command", `it is the program and its arguments, in which {models} is the models' directory and {port} where to listen.`)
		if f.has("command") {
			f.fail("command", "Empty command", "The first word is the program.")
		}
	case len(c.Command) > 0 && !slices.Contains([]string{"ovms", "llama.cpp", "command"}, c.Engine):
		f.fail("command", "Unexpected command", `A command goes with engine = "command" and, for more arguments, with "ovms" and "llama.cpp".`)
	}
	for _, word := range c.Command {
		if !commandWord.MatchString(word) {
			f.fail("command", "Unsuitable value", fmt.Sprintf("The list holds %q. A word has letters, digits and . _ - + / : = , @ %% ~ { }; for others put a script into the guest.", word))
		}
	}
	c.Config = f.path("config")
	c.Models = f.path("models")
	c.ClientCA = f.path("client_ca")
	c.Trust = l.decodeTrust(f.single("trust"), "party", "tpm_vendor", "attestation")
}

// decodeTrust reads whose certificates are believed, and for what: files for each of
// some purposes.
func (l *loader) decodeTrust(block *hcl.Block, purposes ...string) []Trust {
	if block == nil {
		return nil
	}
	f := l.open(block, purposes, nil)
	var all []Trust
	for _, purpose := range purposes {
		t := Trust{For: strings.ReplaceAll(purpose, "_", "-")}
		for _, file := range f.texts(purpose) {
			if file == "" || strings.ContainsFunc(file, unicode.IsControl) {
				f.fail(purpose, "Unsuitable value", "This is not the name of a file.")
				continue
			}
			if !filepath.IsAbs(file) {
				file = filepath.Join(filepath.Dir(f.at(purpose).Filename), file)
			}
			abs, err := filepath.Abs(file)
			if err != nil {
				f.fail(purpose, "Unsuitable value", "The directory of this file is not known: give an absolute path.")
				continue
			}
			t.Files = append(t.Files, abs)
		}
		if len(t.Files) > 0 {
			all = append(all, t)
		}
	}
	return all
}
