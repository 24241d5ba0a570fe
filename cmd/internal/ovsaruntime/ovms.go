package ovsaruntime

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/licensing/hosting"
)

// ovms has OpenVINO Model Server read a configuration with all that it is to see.
func ovms(dir, port, grpcPort string, models []hosting.Shown) (hosting.Arrangement, error) {
	config, err := ovmsConfig(dir, models)
	if err != nil {
		return hosting.Arrangement{}, err
	}
	file := filepath.Join(filepath.Dir(dir), "engine", "config.json")
	if err := writePublic(file, config); err != nil {
		return hosting.Arrangement{}, fmt.Errorf("write the server's configuration: %w", err)
	}
	return hosting.Arrangement{Args: []string{
		"--config_path", file, "--port", grpcPort, "--grpc_bind_address", "127.0.0.1", "--rest_port", port, "--rest_bind_address", "127.0.0.1",
		"--file_system_poll_wait_seconds", "0", // it is started anew when there are others
	}}, nil
}

// writePublic writes a file that the engine's user can read.
func writePublic(file string, data []byte) error {
	if err := atomicfile.PublicDir(filepath.Dir(file)); err != nil {
		return err
	}
	return atomicfile.WriteFile(file, data, 0o644)
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
