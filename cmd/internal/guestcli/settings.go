package guestcli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/internal/hint"
)

// A setting is a flag that need not be repeated on each command line: it is taken
// from the command line, else from the environment, else from the program's file of
// settings, else it is the default. Its name in both is OVSA_ and the flag's, in
// capitals and with _ for -. No flag is a secret, and so no setting is.
const (
	variablePrefix = "OVSA_"
	configVariable = "OVSA_CONFIG"
	maxConfig      = 64 << 10
)

// variable is a flag's name in the environment and in files.
func variable(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// settings are what a program's file says.
type settings struct {
	path   string
	values map[string]string // by variable
}

// settingNames are the variables of all settings of a program, with a flag of each.
func (p Program) settings() (names []string, flags map[string]Flag) {
	flags = map[string]Flag{}
	for _, c := range p.Commands {
		for _, f := range c.Flags {
			if _, known := flags[variable(f.Name)]; f.Setting && !known {
				flags[variable(f.Name)] = f
				names = append(names, variable(f.Name))
			}
		}
	}
	slices.Sort(names)
	return names, flags
}

// readSettings reads the file of settings: the one that OVSA_CONFIG names, which
// must be there, else the program's, which need not.
func (p Program) readSettings(env Env) (settings, error) {
	path, named := env.getenv(configVariable), true
	if path == "" {
		path, named = p.Config, false
	}
	if path == "" {
		return settings{}, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return settings{}, nil
	}
	if err != nil {
		return settings{}, fmt.Errorf("read settings: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return settings{}, hint.Wrap(fmt.Errorf("read settings: others may write to %q", path), "chmod go-w %s, and see whether what it says is what you want", path)
	}
	text, err := ReadFile(path, maxConfig)
	if errors.Is(err, fs.ErrPermission) {
		return settings{}, hint.Wrap(fmt.Errorf("read settings: %w", err), "they are no secrets: chmod a+r %s", path)
	}
	if err != nil {
		return settings{}, fmt.Errorf("read settings: %w", err)
	}
	s, err := p.parseSettings(string(text))
	s.path = path
	if err != nil {
		return settings{}, hint.Wrap(fmt.Errorf("read settings: %s:%w", path, err), "%s", hint.Of(err))
	}
	return s, nil
}

// parseSettings parses lines NAME=VALUE, as systemd's EnvironmentFile= reads them:
// what the two would read differently is refused. Names that do not begin with OVSA_
// are for systemd alone. An error begins with the line's number.
func (p Program) parseSettings(text string) (settings, error) {
	names, flags := p.settings()
	s := settings{values: map[string]string{}}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !isName(name) {
			return s, fmt.Errorf("%d: want NAME=VALUE", n)
		}
		value, ok = unquote(strings.TrimSpace(value))
		if !ok {
			return s, fmt.Errorf("%d: %s: no backslashes, and quotes only around all of the value", n, name)
		}
		if !strings.HasPrefix(name, variablePrefix) {
			continue
		}
		f, known := flags[name]
		if !known {
			see := fmt.Sprintf("the settings there are: %s", strings.Join(names, ", "))
			if near := nearest(name, names); near != "" {
				see = fmt.Sprintf("did you mean %s?", near)
			}
			return s, hint.Wrap(fmt.Errorf("%d: %s is no setting of %s", n, name, p.Name), "%s", see)
		}
		if _, twice := s.values[name]; twice {
			return s, fmt.Errorf("%d: %s is there twice", n, name)
		}
		if err := f.checkValue(value); err != nil {
			return s, fmt.Errorf("%d: %s %q: %w", n, name, value, err)
		}
		s.values[name] = value
	}
	return s, nil
}

func isName(s string) bool {
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	return strings.Trim(strings.ToUpper(s), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// unquote takes quotes from around a value, which may have none elsewhere.
func unquote(s string) (string, bool) {
	if n := len(s); n > 1 && (s[0] == '"' || s[0] == '\'') && s[n-1] == s[0] {
		s = s[1 : n-1]
	}
	return s, !strings.ContainsAny(s, `"'\`)
}

// checkValue checks the word of a setting; "" is none.
func (f Flag) checkValue(text string) error {
	if text == "" {
		return nil
	}
	if f.Arg == "" {
		if _, err := strconv.ParseBool(text); err != nil {
			return errors.New("want true or false")
		}
		return nil
	}
	return f.Kind.check(text)
}

// setting is what the environment or the file say of a flag, and which of them.
func (c *Call) setting(f Flag) (value, source string) {
	if !f.Setting {
		return "", ""
	}
	name := variable(f.Name)
	if value := c.getenv(name); value != "" {
		return value, name
	}
	if value := c.file.values[name]; value != "" {
		return value, name + " in " + c.file.path
	}
	return "", ""
}
