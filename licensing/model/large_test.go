package model

import (
	"bytes"
	"context"
	"io"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

const large = 4<<30 + 12345

// zeros is a sparse file.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	return int(n), nil
}

// isZeros is a sparse file that is written again.
type isZeros struct {
	t testing.TB
	n int64
}

func (z *isZeros) Write(p []byte) (int, error) {
	z.n += int64(len(p))
	if len(p) > 0 && (p[0] != 0 || !bytes.Equal(p[:len(p)-1], p[1:])) {
		z.t.Errorf("plaintext before %d differs", z.n)
	}
	return len(p), nil
}

// outer keeps a container without its ciphertext.
type outer struct {
	at, from, to int64 // the ciphertext is from, to
	head, tail   []byte
}

func (o *outer) Write(p []byte) (int, error) {
	switch o.at += int64(len(p)); {
	case o.at <= o.from:
		o.head = append(o.head, p...)
	case o.at > o.to:
		o.tail = append(o.tail, p...)
	}
	return len(p), nil
}

// again is a container of zeros whose ciphertext is made when it is read.
type again struct {
	*outer
	c *fileCipher
}

func (a again) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off < a.from:
		return bytes.NewReader(a.head).ReadAt(p, off)
	case off >= a.to:
		return bytes.NewReader(a.tail).ReadAt(p, off-a.to)
	}
	// The model reads chunks, with room for a tag behind them.
	clear(p)
	at := place{index: uint64(off-a.from) / ChunkSize, last: off+int64(len(p)) == a.to}
	a.c.aead.Seal(p[:0:len(p)+tagSize], a.c.nonce(at), p, a.c.additional(at))
	return len(p), nil
}

// peakHeap runs do and returns how large the heap became.
func peakHeap(do func()) (peak uint64) {
	debug.FreeOSMemory()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64()+sample[1].Value.Uint64())
			time.Sleep(time.Millisecond)
		}
	})
	do()
	cancel()
	wg.Wait()
	return peak
}

// TestLargeModelsTakeLittleMemory seals and opens a sparse 4 GiB model.
func TestLargeModelsTakeLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("4 GiB, twice")
	}
	o := &outer{from: int64(headerSize), to: int64(headerSize) + large}
	s := testSealer()
	s.TagsOnly = true // to be fast
	var sealed Sealed
	var err error
	heap := peakHeap(func() { sealed, err = s.Seal(t.Context(), o, []Source{{"weights.bin", &zeros{large}}}) })
	if err != nil || o.at != sealed.Size {
		t.Fatal(o.at, sealed.Size, err)
	}
	if heap > 64<<20 {
		t.Errorf("sealing: %d MiB of heap", heap>>20)
	}
	h, err := readHeader(bytes.NewReader(o.head), int64(len(o.head)))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := newRoot(testKey(), h.salt)
	if err != nil {
		t.Fatal(err)
	}
	c, err := keys.file(h.digest(), 0)
	if err != nil {
		t.Fatal(err)
	}
	out := &isZeros{t: t}
	heap = max(heap, peakHeap(func() {
		var container *Container
		if container, err = testOpener().Open(t.Context(), again{o, c}, sealed.Size); err != nil {
			return
		}
		var m *Model
		if m, err = container.Unlock(testKey()); err != nil {
			return
		}
		defer m.Close()
		err = m.Decrypt(t.Context(), out, "weights.bin")
	}))
	if err != nil || out.n != large {
		t.Fatal(out.n, err)
	}
	if heap > 64<<20 {
		t.Errorf("%d MiB of heap", heap>>20)
	}
	t.Logf("%d MiB of heap at most", heap>>20)
}
