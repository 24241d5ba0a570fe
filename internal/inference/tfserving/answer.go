package tfserving

import (
	"fmt"
	"strings"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/tensorjson"
)

// elements are an output's, for JSON. Texts of one whose name says that it has bytes
// are written in base64, as TensorFlow Serving does, and those that are no UTF-8.
func elements(t inference.Tensor) (*tensorjson.Values, error) {
	v, err := tensorjson.NewValues(t)
	if err != nil {
		return nil, fmt.Errorf("output %q: %w", t.Name, err)
	}
	v.Base64 = t.Type == inference.Bytes && (strings.HasSuffix(t.Name, "_bytes") || !v.UTF8())
	return v, nil
}

// appendColumns writes all of each output.
func appendColumns(outputs []inference.Tensor) ([]byte, error) {
	all := make([]*tensorjson.Values, len(outputs))
	for i, t := range outputs {
		var err error
		if all[i], err = elements(t); err != nil {
			return nil, err
		}
	}
	answer, err := appendNamed([]byte(`{"outputs":`), outputs, all, func(i int) []int64 { return outputs[i].Shape })
	return append(answer, '}'), err
}

// appendRows writes the outputs of one of a batch after the other's.
func appendRows(outputs []inference.Tensor, batch int64) ([]byte, error) {
	all := make([]*tensorjson.Values, len(outputs))
	for i, t := range outputs {
		if len(t.Shape) == 0 || t.Shape[0] != batch {
			return nil, fmt.Errorf("%w: output %q has shape %v, which is not one for each of %d instances; send \"inputs\"", inference.ErrInvalid, t.Name, t.Shape, batch)
		}
		var err error
		if all[i], err = elements(t); err != nil {
			return nil, err
		}
	}
	answer := []byte(`{"predictions":[`)
	for row := range batch {
		if row > 0 {
			answer = append(answer, ',')
		}
		var err error
		if answer, err = appendNamed(answer, outputs, all, func(i int) []int64 { return outputs[i].Shape[1:] }); err != nil {
			return nil, err
		}
	}
	return append(answer, "]}"...), nil
}

// appendNamed writes the next elements of each output with its name; the only one's
// without.
func appendNamed(to []byte, outputs []inference.Tensor, all []*tensorjson.Values, shape func(int) []int64) ([]byte, error) {
	if len(outputs) == 1 {
		return all[0].Append(to, shape(0))
	}
	to = append(to, '{')
	for i, t := range outputs {
		if i > 0 {
			to = append(to, ',')
		}
		to = append(tensorjson.AppendString(to, t.Name), ':')
		var err error
		if to, err = all[i].Append(to, shape(i)); err != nil {
			return nil, err
		}
	}
	return append(to, '}'), nil
}
