package ovsaruntime

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/licensing/hosting"
)

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
