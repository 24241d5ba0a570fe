package ovsaruntime

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/hosting"
)

// engineProgram is the model server of ours. It is beside this program.
const engineProgram = "ovsa-engine"

// kinds are the engines that -engine names, the default first.
func kinds() []string {
	return []string{"auto", "onnxruntime", "openvino", ovmsKind, llamaKind, "command"}
}

// engine is the one that the flags and operands ask for. self is this program.
func (s session) engine(self string) (hosting.Command, error) {
	c := hosting.Command{
		Args: s.Operands, REST: "127.0.0.1:" + strconv.Itoa(s.Number("port")), GRPC: "127.0.0.1:" + strconv.Itoa(s.Number("grpc-port")),
		Health: s.Text("ready"), Dir: s.Text("models"), Launcher: []string{self, launchVerb},
	}
	kind := s.kind()
	switch kind {
	case ovmsKind, llamaKind:
		return s.preset(c, kind)
	case "command":
		if len(s.Operands) == 0 {
			return c, guestcli.Usagef("-engine command: want the server and its arguments behind --")
		}
		return c, nil
	case "auto", "onnxruntime", "openvino":
		if len(s.Operands) > 0 {
			return c, guestcli.Usagef("-engine %s is a server of its own: want no program behind --", kind)
		}
		return s.ownEngine(c, kind)
	}
	return c, guestcli.Usagef("-engine %q: want %s", kind, strings.Join(kinds(), ", "))
}

// ownEngine is the server of ours, which has no network: it gets its sockets.
func (s session) ownEngine(c hosting.Command, kind string) (hosting.Command, error) {
	program := filepath.Join(filepath.Dir(c.Launcher[0]), engineProgram)
	if _, err := os.Stat(program); err != nil {
		return c, hint.Wrap(fmt.Errorf("look for the model server: %w", err), "install the component model_hosting again, or name another server behind --")
	}
	dir := filepath.Join(filepath.Dir(c.Dir), "engine")
	c.REST, c.GRPC = "unix:"+filepath.Join(dir, "http"), "unix:"+filepath.Join(dir, "grpc")
	c.Health, c.Served = "/v2/health/live", "/v2/models/{model}/versions/{version}/ready"
	c.Args = []string{program, "serve", "-models", "{models}", "-runtime", kind, "-max-request", strconv.Itoa(s.Number("max-body"))}
	if library := s.Text("library"); library != "" {
		c.Args = append(c.Args, "-library", library)
	}
	group, err := frontGroup(s.Text("nginx-user"))
	c.Clients = group
	return c, err
}

// frontGroup is the group of the front's workers, who alone connect to the engine.
func frontGroup(name string) (uint32, error) {
	_, gid, err := lookUp("the front's user", name, "name whom nginx's workers run as: -nginx-user USER")
	return gid, err
}

// engineUser is whom engines run as: nobody who may do more.
func engineUser(name string) (uid, gid uint32, err error) {
	uid, gid, err = lookUp("the server's user", name, "make it: useradd --system --no-create-home %s; or name another: -user USER", name)
	if err == nil && uid == 0 {
		err = guestcli.Usagef("-user %s: a model's server does not run as root", name)
	}
	return uid, gid, err
}

// lookUp finds a user, and hints at what to do where there is none.
func lookUp(what, name, format string, args ...any) (uid, gid uint32, err error) {
	fail := func(err error) (uint32, uint32, error) { return 0, 0, fmt.Errorf("look for %s: %w", what, err) }
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		_, _, err := fail(err)
		return 0, 0, hint.Wrap(err, format, args...)
	}
	if err != nil {
		return fail(err)
	}
	for _, id := range []struct {
		text string
		to   *uint32
	}{{u.Uid, &uid}, {u.Gid, &gid}} {
		n, err := strconv.ParseUint(id.text, 10, 32)
		if err != nil {
			return fail(err)
		}
		*id.to = uint32(n)
	}
	return uid, gid, nil
}
