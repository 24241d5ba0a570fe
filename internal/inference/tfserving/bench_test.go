package tfserving_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/inferencetest"
	"github.com/ovsactl/ovsactl/internal/inference/tensorjson"
	pb "github.com/ovsactl/ovsactl/internal/inference/tfserving/tfservingpb"
)

// BenchmarkImage: an FP32 image of 600 KB, over loopback, beside the model alone.
func BenchmarkImage(b *testing.B) {
	web, rpc := serve(b, 16<<20, "mean")
	image := inferencetest.Image()
	b.Run("alone", inferencetest.Alone)
	b.Run("rest json", func(b *testing.B) {
		v, err := tensorjson.NewValues(inference.Tensor{Type: inference.Float32, Shape: inferencetest.ImageShape, Data: image})
		if err != nil {
			b.Fatal(err)
		}
		body, err := v.Append([]byte(`{"instances":`), inferencetest.ImageShape)
		if err != nil {
			b.Fatal(err)
		}
		body = append(body, '}')
		inferencetest.Measure(b, func() error {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://"+web+"/v1/models/mean:predict", bytes.NewReader(body))
			if err != nil {
				return err
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
		})
	})
	c, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	dims := &pb.TensorShapeProto{}
	for _, d := range inferencetest.ImageShape {
		dims.Dim = append(dims.Dim, &pb.TensorShapeProto_Dim{Size: d})
	}
	for name, tensor := range map[string]*pb.TensorProto{
		"grpc content": {Dtype: pb.DataType_DT_FLOAT, TensorShape: dims, TensorContent: image},
		"grpc values":  {Dtype: pb.DataType_DT_FLOAT, TensorShape: dims, FloatVal: inferencetest.Floats(image)},
	} {
		b.Run(name, func(b *testing.B) {
			r := &pb.PredictRequest{ModelSpec: &pb.ModelSpec{Name: "mean"}, Inputs: map[string]*pb.TensorProto{"image": tensor}}
			inferencetest.Measure(b, func() error {
				_, err := pb.NewPredictionServiceClient(c).Predict(b.Context(), r)
				return err
			})
		})
	}
}
