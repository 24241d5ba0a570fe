package tfserving

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
	"github.com/ovsactl/ovsactl/internal/inference/tensorjson"
)

func (s rest) predict(w http.ResponseWriter, r *http.Request) error {
	v, err := s.version(r)
	if err != nil {
		return err
	}
	body, err := protocol.Body(r, s.max)
	if err != nil {
		return err
	}
	q, err := parse(body, v.Inputs())
	if err != nil {
		return err
	}
	for _, p := range v.Outputs() {
		if p.Type == inference.Float16 || p.Type == inference.BFloat16 {
			return fmt.Errorf("%w: output %q is of type %s, which has no representation in JSON; ask over gRPC", inference.ErrInvalid, p.Name, p.Type)
		}
	}
	outputs, err := v.Infer(r.Context(), q.inputs, nil)
	if err != nil {
		return err
	}
	write := appendColumns
	if q.rows {
		write = func(outputs []inference.Tensor) ([]byte, error) { return appendRows(outputs, q.batch) }
	}
	answer, err := write(outputs)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
	w.Write(answer)
	return nil
}

// question is a request for a prediction, over REST.
type question struct {
	inputs []inference.Tensor
	rows   bool  // it has "instances", each with the elements of one in a batch
	batch  int64 // how many
}

// parse reads a request's body. JSON has no types: elements are read as the inputs'.
func parse(body []byte, ports []inference.Port) (question, error) {
	var q question
	read := false
	r := tensorjson.NewReader(body)
	r.Base64 = true
	err := r.Object(func(key string) (err error) {
		switch key {
		case "signature_name":
			var name string
			if name, err = r.String(); err == nil {
				err = signed(name)
			}
			return err
		case "instances", "inputs":
			if read {
				return fmt.Errorf("%w: a request has either \"instances\" or \"inputs\"", inference.ErrInvalid)
			}
			read = true
			if key == "inputs" {
				q.inputs, err = columns(r, ports)
				return err
			}
			q.rows = true
			q.inputs, q.batch, err = rows(r, ports)
			return err
		}
		_, err = r.Skip()
		return err
	})
	if err == nil {
		err = r.End()
	}
	if err == nil && !read {
		err = fmt.Errorf("%w: a request has \"instances\" or \"inputs\"", inference.ErrInvalid)
	}
	return q, err
}

// named says whether the next value has inputs by their names, or is the only one's.
func isNamed(r *tensorjson.Reader, ports []inference.Port) bool {
	texts := len(ports) == 1 && ports[0].Type == inference.Bytes
	return r.Next() == '{' && !(texts && r.IsBase64())
}

// each reads values of inputs: an object with their names, or one of the only input.
func each(r *tensorjson.Reader, ports []inference.Port, read func(port int) error) error {
	if isNamed(r, ports) {
		return r.Object(func(name string) error {
			at := slices.IndexFunc(ports, func(p inference.Port) bool { return p.Name == name })
			if at < 0 {
				return unknown(name, ports)
			}
			if err := read(at); err != nil {
				return fmt.Errorf("input %q: %w", name, err)
			}
			return nil
		})
	}
	if len(ports) != 1 {
		return fmt.Errorf("%w: the model has %d inputs: name them, %q", inference.ErrInvalid, len(ports), names(ports))
	}
	return read(0)
}

func unknown(name string, ports []inference.Port) error {
	return fmt.Errorf("%w: the model has no input %q; its are %q", inference.ErrInvalid, name, names(ports))
}

func names(ports []inference.Port) []string {
	var all []string
	for _, p := range ports {
		all = append(all, p.Name)
	}
	return all
}

// columns reads all of each input.
func columns(r *tensorjson.Reader, ports []inference.Port) ([]inference.Tensor, error) {
	var inputs []inference.Tensor
	err := each(r, ports, func(port int) error {
		p := ports[port]
		data, shape, err := r.AppendElements(nil, p.Type)
		inputs = append(inputs, inference.Tensor{Name: p.Name, Type: p.Type, Shape: shape, Data: data})
		return err
	})
	return inputs, err
}

// rows reads one of a batch after the other. The batch is the first dimension.
func rows(r *tensorjson.Reader, ports []inference.Port) ([]inference.Tensor, int64, error) {
	inputs := make([]inference.Tensor, len(ports))
	counts := make([]int64, len(ports))
	batch := int64(0)
	err := r.Array(func() error {
		batch++
		return each(r, ports, func(port int) (err error) {
			t, p := &inputs[port], ports[port]
			var shape []int64
			if t.Data, shape, err = r.AppendElements(t.Data, p.Type); err != nil {
				return err
			}
			if counts[port]++; counts[port] == 1 {
				t.Name, t.Type, t.Shape = p.Name, p.Type, shape
			}
			if !slices.Equal(t.Shape, shape) {
				return fmt.Errorf("%w: instance %d has shape %v, and those before it %v", inference.ErrInvalid, batch-1, shape, t.Shape)
			}
			return nil
		})
	})
	if err != nil {
		return nil, 0, err
	}
	if batch == 0 {
		return nil, 0, fmt.Errorf("%w: \"instances\" is empty", inference.ErrInvalid)
	}
	for i := range inputs {
		if counts[i] != batch {
			return nil, 0, fmt.Errorf("%w: %d of %d instances have input %q", inference.ErrInvalid, counts[i], batch, ports[i].Name)
		}
		inputs[i].Shape = append([]int64{batch}, inputs[i].Shape...)
	}
	return inputs, batch, nil
}
