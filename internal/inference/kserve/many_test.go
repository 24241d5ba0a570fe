package kserve_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/ovsactl/ovsactl/internal/inference/inferencetest"
	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
)

// TestMany: of a thousand requests at the same time each has its own answer.
func TestMany(t *testing.T) {
	web, rpc := serve(t, 1<<20, "echo_fp32")
	client := kservepb.NewGRPCInferenceServiceClient(dial(t, rpc))
	var all errgroup.Group
	for n := range 1000 {
		id := strconv.Itoa(n)
		width := int64(1 + n%50)
		data := bytes.Repeat(inferencetest.Data(float32(n)), int(width))
		all.Go(func() error {
			if n%2 == 0 {
				r, err := client.ModelInfer(t.Context(), &kservepb.ModelInferRequest{
					ModelName: "echo_fp32", Id: id, RawInputContents: [][]byte{data},
					Inputs: []*kservepb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32", Shape: []int64{1, width}}},
				})
				if err == nil && (r.GetId() != id || !bytes.Equal(r.GetRawOutputContents()[0], data)) {
					err = fmt.Errorf("%s got the answer of %s", id, r.GetId())
				}
				return err
			}
			head := fmt.Sprintf(`{"id":%q,"inputs":[{"name":"x","datatype":"FP32","shape":[1,%d],"parameters":{"binary_data_size":%d}}],"parameters":{"binary_data_output":true}}`, id, width, len(data))
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+web+"/v2/models/echo_fp32/infer", bytes.NewReader(append([]byte(head), data...)))
			if err != nil {
				return err
			}
			r.Header.Set("Inference-Header-Content-Length", strconv.Itoa(len(head)))
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err == nil && (!bytes.Contains(body, fmt.Appendf(nil, `"id":%q`, id)) || !bytes.HasSuffix(body, data)) {
				err = fmt.Errorf("%s got %q", id, body)
			}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
}
