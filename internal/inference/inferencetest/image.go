package inferencetest

import (
	"context"
	"testing"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// ImageShape is that of an input of the model mean, 600 KB.
var ImageShape = []int64{1, 3, 224, 224}

// Image is an input of the model mean.
func Image() []byte {
	pixels := make([]float32, 3*224*224)
	for i := range pixels {
		pixels[i] = float32(i*7919%255) / 255
	}
	return Data(pixels...)
}

// Alone measures the model mean without a protocol.
func Alone(b *testing.B) {
	repo := Open(b, "mean")
	v, err := repo.Version("mean", 0)
	if err != nil {
		b.Fatal(err)
	}
	image := []inference.Tensor{{Name: "image", Type: inference.Float32, Shape: ImageShape, Data: Image()}}
	Measure(b, func() error {
		_, err := v.Infer(context.Background(), image, nil)
		return err
	})
}

// Measure measures a request.
func Measure(b *testing.B, ask func() error) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if err := ask(); err != nil {
			b.Fatal(err)
		}
	}
}
