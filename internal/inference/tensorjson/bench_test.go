package tensorjson

import (
	"encoding/json"
	"testing"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// BenchmarkElements: 150,000 numbers of an image, beside what encoding/json does.
func BenchmarkElements(b *testing.B) {
	text := []byte{'['}
	for i := range 3 * 224 * 224 {
		if i > 0 {
			text = append(text, ',')
		}
		text = appendFloat(text, float64(float32(i*7919%255)/255), 32)
	}
	text = append(text, ']')
	b.Run("skip", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if _, err := NewReader(text).Skip(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		data := make([]byte, 0, 4*len(text))
		for b.Loop() {
			if _, _, err := NewReader(text).AppendElements(data, inference.Float32); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding json", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			var floats []float32
			if err := json.Unmarshal(text, &floats); err != nil {
				b.Fatal(err)
			}
		}
	})
}
