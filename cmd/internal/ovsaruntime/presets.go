package ovsaruntime

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

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
	program, more := map[string]string{ovmsKind: "ovms", llamaKind: "llama-server"}[kind], s.Operands
	if len(more) > 0 && !strings.HasPrefix(more[0], "-") {
		program, more = more[0], more[1:]
	}
	if !isProgram(program) {
		from := "no distribution has it: see github.com/openvinotoolkit/model_server"
		if kind == llamaKind {
			from = "Debian has it in llama.cpp-tools"
		}
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
		return ovms(c.Dir, port, grpcPort, models)
	}
	return c, nil
}

// isProgram says whether there is a program by a name or a path.
func isProgram(name string) bool {
	if strings.Contains(name, "/") {
		_, err := os.Stat(name)
		return err == nil
	}
	_, found := run.Find(name, os.Getenv("PATH"))
	return found
}

// checkModels says whether an engine can have these models.
func checkModels(kind string, models []hosting.ModelConfig) error {
	if kind != llamaKind || len(models) == 1 {
		return nil
	}
	return hint.Wrap(fmt.Errorf("%w: model_config_list has %d models, and llama-server answers for one", hosting.ErrConfig, len(models)),
		"leave one in it, and have each of the others served by a runtime, with a configuration and ports, of its own")
}
