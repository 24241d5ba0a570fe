package hosting

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	// MaxConfig is how long a configuration may be, in bytes.
	MaxConfig = 1 << 20
	// MaxModels is how many models one may have.
	MaxModels = 256
	// LoaderName is the custom loader that models of ours have.
	LoaderName = "ovsa"
)

// Config is which models are served: the file of OpenVINO Model Server, in which
// models have the custom loader "ovsa". See docs/hosting.md.
type Config struct {
	Models []ModelConfig
	// Ignored are the members that mean something to that server and nothing here, as
	// paths: "model_config_list[0].config.nireq".
	Ignored []string
}

// ModelConfig is one model.
type ModelConfig struct {
	Name     string
	BasePath string // has a directory for each version: 1, 2, ...
	KeyStore string // of the customer
	Stem     string // of the files STEM.dat and STEM.lic in a version's directory
	Engine   string // the members that the engine takes, a JSON object; "" for none
}

// Member is a member of a model's configuration that an engine takes as it is.
type Member struct {
	Name string
	// Fits says whether it takes such a value, which is JSON, and otherwise what it wants.
	Fits func(value json.RawMessage) (want string, fits bool)
}

// ErrConfig says that a configuration is wrong.
var ErrConfig = errors.New("the configuration is wrong")

// ParseConfig reads a configuration for an engine that takes some members of models.
// What is wrong with it is said with the path of the member: ErrConfig.
func ParseConfig(data []byte, takes ...Member) (Config, error) {
	var c Config
	top, err := object(data, "")
	if err != nil {
		return c, err
	}
	list, err := array(top, "", "model_config_list")
	if err != nil {
		return c, err
	}
	c.ignore("", top, "model_config_list", "custom_loader_config_list")
	if len(list) == 0 || len(list) > MaxModels {
		return c, wrong("model_config_list", "has %d models, want 1 to %d", len(list), MaxModels)
	}
	for i, item := range list {
		at := fmt.Sprintf("model_config_list[%d]", i)
		entry, err := object(item, at)
		if err != nil {
			return c, err
		}
		c.ignore(at, entry, "config")
		m, err := c.model(entry["config"], at+".config", takes)
		if err != nil {
			return c, err
		}
		if slices.ContainsFunc(c.Models, func(other ModelConfig) bool { return other.Name == m.Name }) {
			return c, wrong(at+".config.name", "%q is there twice", m.Name)
		}
		c.Models = append(c.Models, m)
	}
	return c, nil
}

func (c *Config) model(data json.RawMessage, at string, takes []Member) (m ModelConfig, err error) {
	config, err := object(data, at)
	if err != nil {
		return m, err
	}
	known := []string{"name", "base_path", "custom_loader_options"}
	for _, t := range takes {
		known = append(known, t.Name)
	}
	c.ignore(at, config, known...)
	if m.Engine, err = taken(config, at, takes); err != nil {
		return m, err
	}
	options, err := object(config["custom_loader_options"], at+".custom_loader_options")
	if err != nil {
		return m, err
	}
	c.ignore(at+".custom_loader_options", options, "loader_name", "keystore", "controlled_access_file")
	var loader string
	for _, f := range []struct {
		of   map[string]json.RawMessage
		at   string
		name string
		to   *string
	}{
		{config, at, "name", &m.Name},
		{config, at, "base_path", &m.BasePath},
		{options, at + ".custom_loader_options", "loader_name", &loader},
		{options, at + ".custom_loader_options", "keystore", &m.KeyStore},
		{options, at + ".custom_loader_options", "controlled_access_file", &m.Stem},
	} {
		if err := text(f.of, f.at, f.name, f.to); err != nil {
			return m, err
		}
	}
	switch {
	case loader != LoaderName:
		return m, wrong(at+".custom_loader_options.loader_name", "is %q, want %q: other models are not licensed ones", loader, LoaderName)
	case !isName(m.Name):
		return m, wrong(at+".name", "%q is no name: want letters, digits and . _ - +, at most 128, and none of . _ - + first", m.Name)
	case !filepath.IsAbs(m.BasePath):
		return m, wrong(at+".base_path", "%q does not begin with /", m.BasePath)
	case !filepath.IsAbs(m.KeyStore):
		return m, wrong(at+".custom_loader_options.keystore", "%q does not begin with /", m.KeyStore)
	case m.Stem != filepath.Base(m.Stem) || m.Stem == "." || m.Stem == "..":
		return m, wrong(at+".custom_loader_options.controlled_access_file", "%q is not the name of a file, without its ending", m.Stem)
	}
	return m, nil
}

// taken are the members that an engine takes, as an object of theirs.
func taken(config map[string]json.RawMessage, at string, takes []Member) (string, error) {
	of := map[string]json.RawMessage{}
	for _, t := range takes {
		value, there := config[t.Name]
		if !there {
			continue
		}
		if want, fits := t.Fits(value); !fits {
			return "", wrong(member(at, t.Name), "is not what the engine takes: want %s", want)
		}
		of[t.Name] = value
	}
	if len(of) == 0 {
		return "", nil
	}
	text, err := json.Marshal(of)
	return string(text), err
}

// isName says whether a model may be named so: it is a directory's name, and a part of
// addresses.
func isName(s string) bool {
	const first = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return s != "" && len(s) <= 128 && strings.Trim(s, first+"._-+") == "" && strings.ContainsRune(first, rune(s[0]))
}

// ignore notes the members of an object that are not known.
func (c *Config) ignore(at string, of map[string]json.RawMessage, known ...string) {
	for name := range of {
		if !slices.Contains(known, name) {
			c.Ignored = append(c.Ignored, member(at, name))
		}
	}
	slices.Sort(c.Ignored)
}

func wrong(at, format string, args ...any) error {
	if at == "" {
		return fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...)
	}
	return fmt.Errorf("%w: %s "+format, append([]any{ErrConfig, at}, args...)...)
}

func member(at, name string) string { return strings.TrimPrefix(at+"."+name, ".") }

// object parses a JSON object, in which no member is twice.
func object(data json.RawMessage, at string) (map[string]json.RawMessage, error) {
	if len(data) == 0 {
		return nil, wrong(at, "is missing")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, wrong(at, "is no JSON: %v", err)
		}
		return nil, wrong(at, "is no JSON object")
	}
	of := map[string]json.RawMessage{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, wrong(at, "is no JSON: %v", err)
		}
		key := name.(string) // as the members of objects have
		if _, twice := of[key]; twice {
			return nil, wrong(member(at, key), "is there twice")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, wrong(member(at, key), "is no JSON: %v", err)
		}
		of[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, wrong(at, "is no JSON: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, wrong(at, "has more behind its end")
	}
	return of, nil
}

func array(of map[string]json.RawMessage, at, name string) (list []json.RawMessage, err error) {
	data, there := of[name]
	if !there {
		return nil, wrong(member(at, name), "is missing")
	}
	if json.Unmarshal(data, &list) != nil {
		return nil, wrong(member(at, name), "is no list")
	}
	return list, nil
}

func text(of map[string]json.RawMessage, at, name string, to *string) error {
	data, there := of[name]
	if !there {
		return wrong(member(at, name), "is missing")
	}
	if json.Unmarshal(data, to) != nil || *to == "" {
		return wrong(member(at, name), "is no text, or an empty one")
	}
	return nil
}

// Version is one of a model, and its files.
type Version struct {
	Model    ModelConfig
	Number   int64
	Dat, Lic string
}

// Versions are the directories of a model that have a number, 1 or more, for a name,
// the newest first. One in which a file is missing is among them.
func (m ModelConfig) Versions() ([]Version, error) {
	entries, err := os.ReadDir(m.BasePath)
	if err != nil {
		return nil, fmt.Errorf("look for versions of model %q: %w", m.Name, err)
	}
	var all []Version
	for _, e := range entries {
		n, err := strconv.ParseInt(e.Name(), 10, 64)
		if err != nil || n < 1 || strconv.FormatInt(n, 10) != e.Name() {
			continue
		}
		dir := filepath.Join(m.BasePath, e.Name())
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		all = append(all, Version{m, n, filepath.Join(dir, m.Stem+".dat"), filepath.Join(dir, m.Stem+".lic")})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("look for versions of model %q: no directory in %q is named 1, or another number: %w", m.Name, m.BasePath, fs.ErrNotExist)
	}
	slices.SortFunc(all, func(a, b Version) int { return cmp.Compare(b.Number, a.Number) })
	return all, nil
}

// stamp tells a version's files from others, without reading them.
func (v Version) stamp() string { return stampOf(v.Dat, v.Lic) }

// stampOf tells files from others, without reading them.
func stampOf(paths ...string) string {
	var b strings.Builder
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			b.WriteString("none;")
			continue
		}
		file, _ := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%d %d %d;", file.Ino, info.Size(), info.ModTime().UnixNano())
	}
	return b.String()
}
