// Package engine is the command line of the model server.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/onnxruntime"
	"github.com/ovsactl/ovsactl/internal/inference/openvino"
	"github.com/ovsactl/ovsactl/internal/visible"
)

// Program is ovsa-engine.
func Program() guestcli.Program {
	return guestcli.Program{
		Name: "ovsa-engine", Summary: "run models, and answer for them over HTTP and gRPC",
		Commands: []guestcli.Command{serveCommand(), describeCommand()},
	}
}

// runtimeFlags say which library runs models.
func runtimeFlags() []guestcli.Flag {
	return []guestcli.Flag{
		{Name: "runtime", Arg: "NAME", Values: "auto|onnxruntime|openvino", Default: "auto", Help: `what runs models: openvino, onnxruntime; "auto" is the first of those that is there`},
		{Name: "library", Arg: "PATH", Kind: guestcli.File, Help: "its library: a file of ONNX Runtime, a directory of OpenVINO; without it, it is looked for where distributions and its makers have it"},
		{Name: "threads", Arg: "N", Kind: guestcli.Number, Default: "0", Help: "how many cores a request may have; 0 is all"},
	}
}

// opened is a library that is loaded.
type opened interface {
	inference.Runtime
	Close()
}

// onnx closes as others do.
type onnx struct{ *onnxruntime.Runtime }

func (o onnx) Close() { o.Runtime.Close() } // there is nobody to tell

// open loads the library that the flags ask for.
func open(c *guestcli.Call) (opened, error) {
	library, threads := c.Text("library"), c.Number("threads")
	openVINO := func() (opened, error) {
		return openvino.Open(openvino.Options{Libraries: library, Threads: threads})
	}
	onnxRuntime := func() (opened, error) {
		r, err := onnxruntime.Open(onnxruntime.Options{Library: library, Threads: threads})
		if err != nil {
			return nil, err
		}
		return onnx{r}, nil
	}
	switch name := c.Text("runtime"); name {
	case "openvino":
		return openVINO()
	case "onnxruntime":
		return onnxRuntime()
	case "auto":
		if library != "" {
			return nil, guestcli.Usagef("-library: say of which -runtime it is")
		}
		r, err := openVINO()
		if err == nil {
			return r, nil
		}
		r, other := onnxRuntime()
		if other != nil {
			return nil, errors.Join(err, other)
		}
		return r, nil
	default:
		return nil, guestcli.Usagef("-runtime %q: want auto, onnxruntime or openvino", name)
	}
}

func describeCommand() guestcli.Command {
	return guestcli.Command{
		Name: "describe", Summary: "say what the model of a directory takes and gives",
		Operands: "DIR", Min: 1, Max: 1, Kind: guestcli.Dir,
		Flags:   append(runtimeFlags(), guestcli.JSON()),
		Example: "describe models/face/1",
		Run:     describe,
	}
}

// port is what is told of an input or output.
type port struct {
	Name  string  `json:"name"`
	Type  string  `json:"datatype"`
	Shape []int64 `json:"shape"`
}

type description struct {
	Runtime string `json:"runtime"`
	Inputs  []port `json:"inputs"`
	Outputs []port `json:"outputs"`
}

func describe(_ context.Context, c *guestcli.Call) error {
	runtime, err := open(c)
	if err != nil {
		return err
	}
	defer runtime.Close()
	model, err := runtime.Load(c.Operands[0])
	if err != nil {
		return fmt.Errorf("load the model: %w", err)
	}
	defer model.Close()
	d := description{Runtime: runtime.Name(), Inputs: ports(model.Inputs()), Outputs: ports(model.Outputs())}
	if c.Has("json") {
		return guestcli.WriteJSON(c.Stdout, d)
	}
	return d.write(c.Stdout)
}

func ports(of []inference.Port) (all []port) {
	for _, p := range of {
		all = append(all, port{p.Name, p.Type.String(), p.Shape})
	}
	return all
}

func (d description) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "\tNAME\tTYPE\tSHAPE\n")
	for _, side := range []struct {
		of    string
		ports []port
	}{{"input", d.Inputs}, {"output", d.Outputs}} {
		for _, p := range side.ports {
			fmt.Fprintf(w, "%s\t%s\t%s\t%v\n", side.of, visible.Line(p.Name), p.Type, p.Shape)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nby %s; -1 is any size\n", d.Runtime)
	return err
}
