package kserve_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/inferencetest"
	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
	"github.com/ovsactl/ovsactl/internal/inference/tensorjson"
)

// BenchmarkImage: an FP32 image of 600 KB, over loopback, beside the model alone.
func BenchmarkImage(b *testing.B) {
	web, rpc := serve(b, 16<<20, "mean")
	image := inferencetest.Image()
	post := func(body []byte, length string) error {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://"+web+"/v2/models/mean/infer", bytes.NewReader(body))
		if err != nil {
			return err
		}
		if length != "" {
			r.Header.Set("Inference-Header-Content-Length", length)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s", text)
		}
		return err
	}
	b.Run("alone", inferencetest.Alone)
	b.Run("rest binary", func(b *testing.B) {
		head := `{"inputs":[{"name":"image","datatype":"FP32","shape":[1,3,224,224],"parameters":{"binary_data_size":602112}}]}`
		body := append([]byte(head), image...)
		inferencetest.Measure(b, func() error { return post(body, strconv.Itoa(len(head))) })
	})
	b.Run("rest json", func(b *testing.B) {
		v, err := tensorjson.NewValues(inference.Tensor{Type: inference.Float32, Shape: inferencetest.ImageShape, Data: image})
		if err != nil {
			b.Fatal(err)
		}
		body, err := v.Append([]byte(`{"inputs":[{"name":"image","datatype":"FP32","shape":[1,3,224,224],"data":`), inferencetest.ImageShape)
		if err != nil {
			b.Fatal(err)
		}
		body = append(body, "}]}"...)
		inferencetest.Measure(b, func() error { return post(body, "") })
	})
	client := kservepb.NewGRPCInferenceServiceClient(dial(b, rpc))
	for _, raw := range []bool{true, false} {
		r := &kservepb.ModelInferRequest{ModelName: "mean", Inputs: []*kservepb.ModelInferRequest_InferInputTensor{{Name: "image", Datatype: "FP32", Shape: inferencetest.ImageShape}}}
		name := "grpc raw"
		if raw {
			r.RawInputContents = [][]byte{image}
		} else {
			name = "grpc contents"
			r.Inputs[0].Contents = &kservepb.InferTensorContents{Fp32Contents: inferencetest.Floats(image)}
		}
		b.Run(name, func(b *testing.B) {
			inferencetest.Measure(b, func() error {
				_, err := client.ModelInfer(b.Context(), r)
				return err
			})
		})
	}
}
