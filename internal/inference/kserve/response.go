package kserve

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/tensorjson"
)

// write answers with a model's outputs, those that are binary behind the JSON.
func write(w http.ResponseWriter, v *inference.Version, id string, outputs []inference.Tensor, binary []bool) error {
	head := tensorjson.AppendString([]byte(`{"model_name":`), v.Name)
	head = append(strconv.AppendInt(append(head, `,"model_version":"`...), v.Number, 10), '"')
	if id != "" {
		head = tensorjson.AppendString(append(head, `,"id":`...), id)
	}
	head = append(head, `,"outputs":[`...)
	var err error
	var behind [][]byte
	length := 0
	for i, t := range outputs {
		if i > 0 {
			head = append(head, ',')
		}
		if binary[i] {
			behind = append(behind, t.Data)
			length += len(t.Data)
		}
		if head, err = appendOutput(head, t, binary[i]); err != nil {
			return err
		}
	}
	head = append(head, "]}"...)
	w.Header().Set("Content-Type", "application/json")
	if len(behind) > 0 {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set(headerLength, strconv.Itoa(len(head)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(head)+length))
	for _, part := range append([][]byte{head}, behind...) {
		w.Write(part)
	}
	return nil
}

func appendOutput(to []byte, t inference.Tensor, binary bool) ([]byte, error) {
	to = tensorjson.AppendString(append(to, `{"name":`...), t.Name)
	to = tensorjson.AppendString(append(to, `,"datatype":`...), t.Type.String())
	to = append(to, `,"shape":[`...)
	for i, d := range t.Shape {
		if i > 0 {
			to = append(to, ',')
		}
		to = strconv.AppendInt(to, d, 10)
	}
	if binary {
		to = append(to, `],"parameters":{"binary_data_size":`...)
		return append(strconv.AppendInt(to, int64(len(t.Data)), 10), "}}"...), nil
	}
	n, err := inference.Elements(t.Shape)
	if err != nil {
		return nil, err
	}
	values, err := tensorjson.NewValues(t)
	if err != nil {
		return nil, err
	}
	if !values.UTF8() {
		return nil, fmt.Errorf("%w: output %q has bytes that are no UTF-8; ask for binary_data", inference.ErrInvalid, t.Name)
	}
	if to, err = values.Append(append(to, `],"data":`...), []int64{n}); err != nil {
		return nil, err
	}
	return append(to, '}'), nil
}
