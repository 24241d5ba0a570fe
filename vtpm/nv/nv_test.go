package nv

import (
	"bytes"
	"errors"
	"testing"
)

func TestARecordComesBack(t *testing.T) {
	for _, size := range []int{0, 1, Chunk - header - 32, Chunk - header - 31, Chunk, 5000, Max} {
		record := bytes.Repeat([]byte{0xa5}, size)
		chunks := Chunks(record)
		for i, c := range chunks {
			if len(c) > Chunk || (i < len(chunks)-1 && len(c) != Chunk) {
				t.Errorf("size %d: piece %d has %d bytes", size, i, len(c))
			}
		}
		if got, err := Join(chunks); err != nil || !bytes.Equal(got, record) {
			t.Errorf("size %d: %v", size, err)
		}
		if len(chunks) > MaxIndices {
			t.Errorf("size %d: %d pieces", size, len(chunks))
		}
	}
	if Chunks(make([]byte, Max+1)) != nil {
		t.Error("a record over the limit was cut")
	}
}

func TestDamageIsSeen(t *testing.T) {
	tests := map[string]func([][]byte) [][]byte{
		"last piece missing":   func(c [][]byte) [][]byte { return c[:len(c)-1] },
		"a piece twice":        func(c [][]byte) [][]byte { return append(c, c[0]) },
		"pieces swapped":       func(c [][]byte) [][]byte { c[1], c[2] = c[2], c[1]; return c },
		"piece of another one": func(c [][]byte) [][]byte { c[1] = Chunks(make([]byte, 3000))[1]; return c },
		"a bit changed":        func(c [][]byte) [][]byte { c[2] = bytes.Clone(c[2]); c[2][9] ^= 1; return c },
		"other magic":          func(c [][]byte) [][]byte { c[0] = append([]byte("OVB2"), c[0][4:]...); return c },
		"huge length":          func(c [][]byte) [][]byte { c[0] = append([]byte("OVB1\xff\xff\xff\xff"), c[0][8:]...); return c },
		"first piece cut":      func(c [][]byte) [][]byte { c[0] = c[0][:6]; return c },
		"uneven pieces": func(c [][]byte) [][]byte {
			return [][]byte{c[0][:1000], append(bytes.Clone(c[0][1000:]), c[1]...), c[2]}
		},
	}
	for name, damage := range tests {
		record := bytes.Repeat([]byte("ab1"), 1000)
		if _, err := Join(damage(Chunks(record))); !errors.Is(err, ErrTorn) {
			t.Errorf("%s: %v, want ErrTorn", name, err)
		}
	}
	if _, err := Join(nil); !errors.Is(err, ErrNoRecord) {
		t.Errorf("no pieces: %v, want ErrNoRecord", err)
	}
}

func FuzzJoin(f *testing.F) {
	f.Add(bytes.Join(Chunks([]byte("a record")), nil))
	f.Add(bytes.Join(Chunks(make([]byte, 3000)), nil))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var chunks [][]byte
		for rest := frame; len(rest) > 0; {
			n := min(Chunk, len(rest))
			chunks = append(chunks, rest[:n])
			rest = rest[n:]
		}
		record, err := Join(chunks)
		if err == nil && !bytes.Equal(bytes.Join(Chunks(record), nil), frame) {
			t.Errorf("%q is not the frame of %q", frame, record)
		}
	})
}
