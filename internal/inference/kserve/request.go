package kserve

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/tensorjson"
)

// headerLength is how long the JSON is that binary data follows.
const headerLength = "Inference-Header-Content-Length"

// request is one for an inference, over REST.
type request struct {
	id      string
	inputs  []inference.Tensor
	outputs []output
	binary  bool // where an output does not say
}

type output struct {
	name         string
	said, binary bool
}

// maxTensors is how many inputs, or outputs, a request may name: each takes more memory
// than it is long.
const maxTensors = tensorjson.MaxMembers

// refused are parameters that change what an answer is, of extensions that we do not
// have. Others that we do not know are hints.
var refused = []string{"shared_memory_region", "classification"}

// parse reads a request's body. The data of inputs may be parts of it.
func parse(body []byte, length string) (request, error) {
	head, rest := body, []byte(nil)
	if length != "" {
		n, err := strconv.ParseUint(length, 10, 63)
		if err != nil || n > uint64(len(body)) {
			return request{}, fmt.Errorf("%w: %s is %q, and the body has %d bytes", inference.ErrInvalid, headerLength, length, len(body))
		}
		head, rest = body[:n], body[n:]
	}
	var req request
	var inputs []input
	r := tensorjson.NewReader(head)
	err := r.Object(func(key string) (err error) {
		switch key {
		case "id":
			req.id, err = r.String()
		case "parameters":
			err = parameters(r, "binary_data_output", func() (err error) {
				req.binary, err = r.Bool()
				return err
			})
		case "inputs":
			err = r.Array(func() error {
				in, err := readInput(r)
				inputs = append(inputs, in)
				return few(len(inputs), err)
			})
		case "outputs":
			err = r.Array(func() error {
				out, err := readOutput(r)
				req.outputs = append(req.outputs, out)
				return few(len(req.outputs), err)
			})
		default:
			_, err = r.Skip()
		}
		return err
	})
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return request{}, err
	}
	for _, in := range inputs {
		tensor, left, err := in.tensor(rest, length != "")
		if err != nil {
			return request{}, err
		}
		rest = left
		req.inputs = append(req.inputs, tensor)
	}
	if len(rest) > 0 {
		return request{}, fmt.Errorf("%w: %d bytes are behind the last input's", inference.ErrInvalid, len(rest))
	}
	return req, nil
}

func few(n int, err error) error {
	if err == nil && n > maxTensors {
		err = fmt.Errorf("%w: more than %d inputs or outputs", inference.ErrInvalid, maxTensors)
	}
	return err
}

// parameters reads those of something, of which one is known.
func parameters(r *tensorjson.Reader, known string, read func() error) error {
	return r.Object(func(name string) error {
		if slices.Contains(refused, name) {
			return fmt.Errorf("%w: parameter %q belongs to an extension that this server does not have", inference.ErrInvalid, name)
		}
		if name == known {
			return read()
		}
		_, err := r.Skip()
		return err
	})
}

// input is one as the JSON has it.
type input struct {
	inference.Tensor
	datatype string
	data     []byte // JSON
	binary   int64  // how much of the binary data is its; -1 for none
}

func readInput(r *tensorjson.Reader) (input, error) {
	in := input{binary: -1}
	shaped := false
	err := r.Object(func(key string) (err error) {
		switch key {
		case "name":
			in.Name, err = r.String()
		case "datatype":
			in.datatype, err = r.String()
		case "shape":
			shaped = true
			err = r.Array(func() error {
				d, err := r.Int()
				in.Shape = append(in.Shape, d)
				return err
			})
		case "data":
			in.data, err = r.Skip()
		case "parameters":
			err = parameters(r, "binary_data_size", func() (err error) {
				in.binary, err = r.Int()
				if err == nil && in.binary < 0 {
					err = fmt.Errorf("%w: binary_data_size is %d", inference.ErrInvalid, in.binary)
				}
				return err
			})
		default:
			_, err = r.Skip()
		}
		return err
	})
	if err == nil && !shaped {
		err = fmt.Errorf("%w: input %q has no shape", inference.ErrInvalid, in.Name)
	}
	return in, err
}

func readOutput(r *tensorjson.Reader) (output, error) {
	var out output
	err := r.Object(func(key string) (err error) {
		switch key {
		case "name":
			out.name, err = r.String()
		case "parameters":
			err = parameters(r, "binary_data", func() (err error) {
				out.said = true
				out.binary, err = r.Bool()
				return err
			})
		default:
			_, err = r.Skip()
		}
		return err
	})
	return out, err
}

// tensor is an input with its data, and the binary data of those after it.
func (in input) tensor(rest []byte, mayBinary bool) (inference.Tensor, []byte, error) {
	wrong := func(format string, args ...any) (inference.Tensor, []byte, error) {
		return inference.Tensor{}, nil, fmt.Errorf("input %q: %w: %s", in.Name, inference.ErrInvalid, fmt.Sprintf(format, args...))
	}
	var err error
	t := in.Tensor
	if t.Type, err = inference.ParseType(in.datatype); err != nil {
		return wrong("there is no datatype %q", in.datatype)
	}
	switch {
	case in.binary >= 0 && in.data != nil:
		return wrong("it has data, and a binary_data_size")
	case in.binary >= 0 && !mayBinary:
		return wrong("it has a binary_data_size, and the request has no header %s", headerLength)
	case in.binary > int64(len(rest)):
		return wrong("its binary data has %d bytes, of which %d are there", in.binary, len(rest))
	case in.binary >= 0:
		t.Data = rest[:in.binary:in.binary]
		return t, rest[in.binary:], nil
	case in.data == nil:
		return wrong("it has no data")
	case in.data[0] != '[':
		return wrong("its data is not an array")
	}
	n, err := inference.Elements(t.Shape)
	if err != nil {
		return inference.Tensor{}, nil, fmt.Errorf("input %q: %w", in.Name, err)
	}
	// Two bytes of text are the least that an element takes.
	room := min(n, int64(len(in.data)/2)) * int64(t.Type.Size())
	var shape []int64
	if t.Data, shape, err = tensorjson.NewReader(in.data).AppendElements(make([]byte, 0, room), t.Type); err != nil {
		return inference.Tensor{}, nil, fmt.Errorf("data of input %q: %w", in.Name, err)
	}
	flat := len(shape) == 1 && shape[0] == n
	if !flat && !slices.Equal(shape, t.Shape) {
		return wrong("its data has shape %v, and it says %v", shape, t.Shape)
	}
	return t, rest, nil
}

// wanted are the names of the outputs that it names.
func (r request) wanted() []string {
	var all []string
	for _, o := range r.outputs {
		all = append(all, o.name)
	}
	return all
}

// form says of each output that will be answered whether it is wanted as binary data.
// It is ErrInvalid of an output that JSON cannot have.
func (r request) form(ports []inference.Port) ([]bool, error) {
	names, err := inference.Select(ports, r.wanted())
	if err != nil {
		return nil, err
	}
	binary := make([]bool, len(names))
	for i, name := range names {
		binary[i] = r.binary
		if len(r.outputs) > 0 && r.outputs[i].said {
			binary[i] = r.outputs[i].binary
		}
		p := ports[slices.IndexFunc(ports, func(p inference.Port) bool { return p.Name == name })]
		if !binary[i] && (p.Type == inference.Float16 || p.Type == inference.BFloat16) {
			return nil, fmt.Errorf("%w: output %q is of type %s, which has no representation in JSON; ask for binary_data", inference.ErrInvalid, name, p.Type)
		}
	}
	return binary, nil
}
