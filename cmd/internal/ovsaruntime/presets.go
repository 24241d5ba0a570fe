package ovsaruntime

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/licensing/hosting"
)

// Model servers of others that are known by name.
const (
	ovmsKind  = "ovms"
	llamaKind = "llama.cpp"
)

// kind is the engine that is asked for: that which -engine names, or what "auto" is with
// a program.
func (s session) kind() string {
	kind := s.Text("engine")
	if kind == "auto" && len(s.Operands) > 0 {
		return "command"
	}
	return kind
}

// speaksGRPC says whether an engine is known to.
func speaksGRPC(kind string) bool { return kind != "command" && kind != llamaKind }

// preset is a server of others, which is known: what it is told is made for it. Behind
// -- may be more arguments for it, and before those which program it is.
func (s session) preset(c hosting.Command, kind string) (hosting.Command, error) {
	program, from := "ovms", "it is in no distribution: see github.com/openvinotoolkit/model_server"
	if kind == llamaKind {
		program, from = "llama-server", "Debian has it in llama.cpp-tools"
	}
	more := s.Operands
	if len(more) > 0 && !strings.HasPrefix(more[0], "-") {
		program, more = more[0], more[1:]
	}
	found := true
	if strings.Contains(program, "/") {
		_, err := os.Stat(program)
		found = err == nil
	} else {
		_, found = run.Find(program, os.Getenv("PATH"))
	}
	if !found {
		return c, hint.Wrap(fmt.Errorf("-engine %s: there is no program %q", kind, program), "install it (%s), or say where it is: -- /path/to/%s", from, filepath.Base(program))
	}
	c.Args = append([]string{program}, more...)
	port, grpcPort := strconv.Itoa(s.Number("port")), strconv.Itoa(s.Number("grpc-port"))
	if kind == llamaKind {
		c.Health = cmp.Or(c.Health, "/health")
		c.Arrange = func(models []hosting.Shown) (hosting.Arrangement, error) {
			return llamaServer(c.Dir, port, versionsOf(models))
		}
		return c, nil
	}
	c.Health, c.Served = cmp.Or(c.Health, "/v2/health/ready"), "/v2/models/{model}/versions/{version}/ready"
	c.Arrange = func(models []hosting.Shown) (hosting.Arrangement, error) {
		config, err := ovmsConfig(c.Dir, models)
		if err != nil {
			return hosting.Arrangement{}, err
		}
		file := filepath.Join(filepath.Dir(c.Dir), "engine", "config.json")
		if err := writePublic(file, config); err != nil {
			return hosting.Arrangement{}, fmt.Errorf("write the configuration of %s: %w", kind, err)
		}
		return hosting.Arrangement{Args: []string{
			"--config_path", file, "--port", grpcPort, "--grpc_bind_address", "127.0.0.1", "--rest_port", port, "--rest_bind_address", "127.0.0.1",
			"--file_system_poll_wait_seconds", "0", // it is started anew when there are others
		}}, nil
	}
	return c, nil
}

// writePublic writes a file that the engine's user can read.
func writePublic(file string, data []byte) error {
	dir := filepath.Dir(file)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
		return err
	}
	return atomicfile.WriteFile(file, data, 0o644)
}

// checkModels says whether an engine can have these models.
func checkModels(kind string, models []hosting.ModelConfig) error {
	if kind != llamaKind || len(models) == 1 {
		return nil
	}
	return hint.Wrap(fmt.Errorf("%w: model_config_list has %d models, and llama-server answers for one", hosting.ErrConfig, len(models)),
		"leave one in it, and have each of the others served by a runtime, with a configuration and ports, of its own")
}

// version is one that llama-server could have.
type version struct {
	name   string
	number int64
	files  []string
}

func versionsOf(models []hosting.Shown) (all []version) {
	for _, m := range models {
		v := version{name: m.Name, number: m.Number}
		for _, f := range m.Model.Files() {
			v.files = append(v.files, f.Name)
		}
		all = append(all, v)
	}
	return all
}

// llamaServer has llama-server answer for the first version that has a model for it. It
// reads all of the file, past the kernel's pages, before it is ready: so a model is in
// memory once, and one with a wrong chunk is not served. By itself it would map the file
// and have the kernel read it (MAP_POPULATE), which tries a wrong chunk without end.
func llamaServer(dir, port string, versions []version) (hosting.Arrangement, error) {
	type id struct {
		name   string
		number int64
	}
	why := map[id]error{}
	var served *version
	var file string
	for _, v := range versions {
		name, err := modelOf(v.files)
		switch {
		case err == nil && served == nil:
			served, file = &v, name
		case err == nil:
			err = fmt.Errorf("llama-server answers for one version, and that is %s/%d", served.name, served.number)
		}
		why[id{v.name, v.number}] = err
	}
	if served == nil {
		v := versions[0]
		return hosting.Arrangement{}, fmt.Errorf("llama-server has no model: %s/%d: %w", v.name, v.number, why[id{v.name, v.number}])
	}
	return hosting.Arrangement{
		Args: []string{
			"-m", filepath.Join(dir, served.name, strconv.FormatInt(served.number, 10), file), "-a", served.name,
			"--load-mode", "dio", "--host", "127.0.0.1", "--port", port,
			// Clients do not see each other's prompts, nor does the log, which has what it is
			// asked wrongly among the warnings; other pages in a client's browser do not ask
			// for it; and it fetches nothing. Older programs, to which -lv 1 is more, do not know
			// all of that, and do not start.
			"--no-webui", "--no-slots", "-lv", "1", "--cors-origins", "localhost", "--offline",
		},
		Refuses: func(name string, number int64) error { return why[id{name, number}] },
	}, nil
}

// part is the name of one of several files that are a model: PREFIX-00001-of-00003.gguf.
var part = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})\.gguf$`)

// modelOf is the file that llama-server is to open, of those that a version has.
func modelOf(files []string) (string, error) {
	var all []string
	for _, f := range files {
		if strings.HasSuffix(f, ".gguf") {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return "", errors.New("it has no file *.gguf")
	}
	first := part.FindStringSubmatch(all[0])
	if first == nil {
		if len(all) > 1 {
			return "", moreThanOne(all[0], all[1])
		}
		return all[0], nil
	}
	var begin string
	for _, f := range all {
		p := part.FindStringSubmatch(f)
		if p == nil || p[1] != first[1] || p[3] != first[3] {
			return "", moreThanOne(all[0], f)
		}
		if p[2] == "00001" {
			begin = f
		}
	}
	if n, err := strconv.Atoi(first[3]); err != nil || n != len(all) || begin == "" {
		return "", fmt.Errorf("it has %d files of a model of %d, as %q", len(all), n, all[0])
	}
	return begin, nil
}

func moreThanOne(a, b string) error {
	return fmt.Errorf("it has more models than one, %q and %q: -engine command can say which", a, b)
}

// membersOf are what sample.json may say to an engine of each model.
func membersOf(kind string) []hosting.Member {
	if kind != ovmsKind {
		return nil
	}
	object := func(value json.RawMessage, of func(json.RawMessage) bool) bool {
		var all map[string]json.RawMessage
		fits := json.Unmarshal(value, &all) == nil && all != nil
		for _, v := range all {
			fits = fits && of(v)
		}
		return fits
	}
	count, text := is[uint32], is[string]
	texts := func(v json.RawMessage) bool { return text(v) || object(v, text) }
	scalar := func(v json.RawMessage) bool { return text(v) || is[float64](v) || is[bool](v) }
	member := func(name, want string, fits func(json.RawMessage) bool) hosting.Member {
		return hosting.Member{Name: name, Fits: func(v json.RawMessage) (string, bool) { return want, fits(v) }}
	}
	return []hosting.Member{
		member("batch_size", "a whole number from 0, or a text", func(v json.RawMessage) bool { return count(v) || text(v) }),
		member("layout", "a text, or an object of texts", texts),
		member("nireq", "a whole number from 0", count),
		member("plugin_config", "an object of texts, numbers, true and false", func(v json.RawMessage) bool { return object(v, scalar) }),
		member("shape", "a text, or an object of texts", texts),
		member("target_device", "a text", text),
	}
}

// is says whether a JSON value is one of a type.
func is[T any](value json.RawMessage) bool {
	var v *T
	return json.Unmarshal(value, &v) == nil && v != nil
}

// ovmsConfig is the configuration of OpenVINO Model Server, with every version that it
// is to see, and what sample.json has for it.
func ovmsConfig(dir string, models []hosting.Shown) ([]byte, error) {
	type entry struct {
		Config map[string]any `json:"config"`
	}
	var list []entry
	for i, m := range models { // the versions of one are beside each other
		if i > 0 && models[i-1].Name == m.Name {
			continue
		}
		config := map[string]any{}
		if m.Engine != "" {
			var taken map[string]json.RawMessage
			if err := json.Unmarshal([]byte(m.Engine), &taken); err != nil {
				return nil, fmt.Errorf("configure model %q: %w", m.Name, err)
			}
			for name, value := range taken {
				config[name] = value
			}
		}
		config["name"], config["base_path"] = m.Name, filepath.Join(dir, m.Name)
		config["model_version_policy"] = map[string]any{"all": struct{}{}}
		list = append(list, entry{config})
	}
	data, err := json.MarshalIndent(map[string]any{"model_config_list": list}, "", "  ")
	return append(data, '\n'), err
}
