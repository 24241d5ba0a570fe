package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// limited fails when it was given n bytes.
type limited struct{ n int }

func (l *limited) Write(p []byte) (int, error) {
	if l.n -= len(p); l.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// A bubble of synctest ends only when all goroutines in it have.
func TestFailuresLeaveNoGoroutine(t *testing.T) {
	data := content(8 * ChunkSize)
	dat := seal(t, testSealer(), file{"f", data})
	errRead := errors.New("broken disk")
	for after := range 9 {
		synctest.Test(t, func(t *testing.T) {
			_, err := testSealer().Seal(t.Context(), &limited{after * ChunkSize}, sources([]file{{"f", data}}))
			if !errors.Is(err, errFull) {
				t.Errorf("seal to a full disk: %v", err)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			r := io.MultiReader(bytes.NewReader(data[:after*ChunkSize]), iotest.ErrReader(errRead))
			_, err := testSealer().Seal(t.Context(), io.Discard, []Source{{"f", r}})
			if !errors.Is(err, errRead) {
				t.Errorf("seal from a broken disk: %v", err)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			err := unlock(t, testOpener(), dat).Decrypt(t.Context(), &limited{after*ChunkSize - 1}, "f")
			if !errors.Is(err, errFull) {
				t.Errorf("decrypt to a full disk: %v", err)
			}
		})
	}
}

func TestCancelLeavesNoGoroutine(t *testing.T) {
	data := content(8 * ChunkSize)
	dat := seal(t, testSealer(), file{"f", data})
	why := errors.New("enough")
	for _, after := range []int64{0, ChunkSize, 5 * ChunkSize} {
		// cancelled calls do, and cancels it after so many bytes.
		cancelled := func(what string, do func(ctx context.Context, progress func(int, int64)) error) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				stop := func(_ int, bytes int64) {
					if bytes >= after {
						cancel(why)
					}
				}
				stop(0, 0)
				if err := do(ctx, stop); !errors.Is(err, why) {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		cancelled("seal", func(ctx context.Context, progress func(int, int64)) error {
			s := testSealer()
			s.Progress = progress
			_, err := s.Seal(ctx, io.Discard, sources([]file{{"f", data}}))
			return err
		})
		cancelled("decrypt", func(ctx context.Context, progress func(int, int64)) error {
			o := testOpener()
			o.Progress = progress
			return unlock(t, o, dat).Decrypt(ctx, io.Discard, "f")
		})
		cancelled("check", func(ctx context.Context, progress func(int, int64)) error {
			o := testOpener()
			o.Progress = progress
			return unlock(t, o, dat).Container.Check(ctx)
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := testOpener().Open(ctx, bytes.NewReader(dat), int64(len(dat))); !errors.Is(err, why) {
		t.Errorf("open: %v", err)
	}
}

// A download that was cut short is not a shorter model.
func TestSourcesThatBreakAreErrors(t *testing.T) {
	for _, broken := range []error{io.ErrUnexpectedEOF, fmt.Errorf("get: %w", io.EOF), errFull} {
		for _, size := range []int{0, 10, ChunkSize, ChunkSize + 1} {
			r := io.MultiReader(bytes.NewReader(content(size)), iotest.ErrReader(broken))
			if _, err := testSealer().Seal(t.Context(), io.Discard, []Source{{"f", r}}); !errors.Is(err, broken) {
				t.Errorf("%d bytes and %v: %v", size, broken, err)
			}
		}
	}
	_, err := testSealer().Seal(t.Context(), io.Discard, []Source{{"f", idle{}}})
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a source that gives nothing: %v", err)
	}
}

// idle neither reads nor ends.
type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// shortWriter writes less than it was given, and does not say so.
type shortWriter struct{}

func (shortWriter) Write(p []byte) (int, error) { return len(p) / 2, nil }

func TestShortWritesAreErrors(t *testing.T) {
	if _, err := testSealer().Seal(t.Context(), shortWriter{}, sources([]file{{"f", content(10)}})); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("seal: %v", err)
	}
	m := unlock(t, testOpener(), seal(t, testSealer(), file{"f", content(10)}))
	if err := m.Decrypt(t.Context(), shortWriter{}, "f"); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("decrypt: %v", err)
	}
}

// What a failed signer or an aborted run left behind does not open.
func TestUnfinishedContainersAreRefused(t *testing.T) {
	var b bytes.Buffer
	s := testSealer()
	s.Sign = func([]byte) ([]byte, error) { return nil, errFull }
	if _, err := s.Seal(t.Context(), &b, sources([]file{{"f", content(10)}})); !errors.Is(err, errFull) {
		t.Fatal(err)
	}
	if _, err := attempt(t, b.Bytes()); !errors.Is(err, ErrTruncated) {
		t.Errorf("%v", err)
	}
	s.Sign = nil
	if _, err := s.Seal(t.Context(), failWriter{}, sources([]file{{"f", content(10)}})); err == nil || errors.Is(err, errFull) {
		t.Errorf("sealed without signing: %v", err)
	}
}

func TestBuffersAreWiped(t *testing.T) {
	for name, fail := range map[string]error{"done": nil, "failed": errFull} {
		var bufs [][]byte
		next := 0
		p := pipeline{
			workers: 2,
			fill: func(s *slot) (bool, error) {
				if next++; next > 20 {
					return false, nil
				}
				s.grow(100)
				for i := range s.buf {
					s.buf[i] = 1
				}
				bufs = append(bufs, s.buf)
				return true, nil
			},
			work: func(*slot) error { return nil },
			emit: func(*slot) error { return fail },
		}
		if err := p.run(t.Context()); !errors.Is(err, fail) {
			t.Fatal(err)
		}
		for _, b := range bufs {
			if bytes.ContainsFunc(b, func(r rune) bool { return r != 0 }) {
				t.Errorf("%s: plaintext is left in memory", name)
			}
		}
	}
}

func TestProgressCountsEveryFile(t *testing.T) {
	files := []file{{"a", content(ChunkSize + 1)}, {"b", nil}, {"c", content(5)}}
	type at struct {
		file  int
		bytes int64
	}
	var sealed, opened []at
	s, o := testSealer(), testOpener()
	s.Progress = func(f int, n int64) { sealed = append(sealed, at{f, n}) }
	o.Progress = func(f int, n int64) { opened = append(opened, at{f, n}) }
	if err := unlock(t, o, seal(t, s, files...)).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []at{{0, ChunkSize}, {0, ChunkSize + 1}, {1, 0}, {2, 5}}
	for name, got := range map[string][]at{"seal": sealed, "open": opened} {
		if len(got) != len(want) {
			t.Fatalf("%s: %v", name, got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: step %d: %v, want %v", name, i, got[i], want[i])
			}
		}
	}
}
