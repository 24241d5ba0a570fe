package openvino

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/irtest"
)

// What serving is measured with computes what it says.
func TestChain(t *testing.T) {
	const rows, side, layers = 2, 16, 3
	dir := t.TempDir()
	if err := (irtest.Chain{Rows: rows, Side: side, Layers: layers}).Write(dir); err != nil {
		t.Fatal(err)
	}
	m, err := exact(t).Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	bin, err := os.ReadFile(filepath.Join(dir, "model.bin"))
	if err != nil || len(bin) != 4*side*side*layers {
		t.Fatalf("%d bytes of weights, %v", len(bin), err)
	}
	number := func(b []byte, i int) float64 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
	}
	x := make([]float32, rows*side)
	want := make([]float64, rows*side)
	for i := range x {
		x[i] = float32(i%7) - 3
		want[i] = float64(x[i])
	}
	for layer := range layers {
		next := make([]float64, rows*side)
		for r := range rows {
			for c := range side {
				for k := range side {
					next[r*side+c] += want[r*side+k] * number(bin[4*side*side*layer:], k*side+c)
				}
			}
		}
		want = next
	}
	got, err := m.Run(t.Context(), []inference.Tensor{fp32("x", []int64{rows, side}, x...)}, []string{"y"})
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range want {
		if y := number(got[0].Data, i); math.Abs(y-w) > 1e-4 {
			t.Errorf("y[%d] is %g, want %g", i, y, w)
		}
	}
}
