package kserve

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// FuzzParse: a request's body is refused as such, or has tensors no longer than the
// body allows, whatever it says about them.
func FuzzParse(f *testing.F) {
	binary := `{"inputs":[{"name":"a","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}],"parameters":{"binary_data_output":true}}`
	f.Add([]byte(binary+"\x01\x00\x00\x00a"), fmt.Sprint(len(binary)))
	f.Add([]byte(`{"id":"1","inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[[1,2.5]]}],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}`), "")
	f.Add([]byte(`{"inputs":[{"name":"a","datatype":"INT8","shape":[99999999999,0],"data":[]}]}`), "")
	f.Add([]byte(`{"inputs":[{"name":"a","datatype":"BYTES","shape":[2],"data":["\u00e9",""]}]}`), "")
	f.Fuzz(func(t *testing.T, body []byte, length string) {
		r, err := parse(body, length)
		if err != nil {
			if !errors.Is(err, inference.ErrInvalid) {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		total := 0
		for _, in := range r.inputs {
			total += len(in.Data)
		}
		if total > 4*len(body) { // an element takes two bytes at least, and is eight at most
			t.Errorf("%d bytes became %d", len(body), total)
		}
		if _, err := r.form([]inference.Port{{Name: "y", Type: inference.Float16}}); err != nil && !errors.Is(err, inference.ErrInvalid) {
			t.Errorf("%q: %v", body, err)
		}
	})
}
