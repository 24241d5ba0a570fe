package model

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
)

const benchSize = 128 << 20

// cores runs a benchmark on one core and on all. It stands beside the limits of
// AES-256-GCM on as many cores, measured right before and after it: gcm/core is
// the share that it reaches, per core, of what crypto/cipher does, openssl/core
// of what openssl does. Both are by processor time, so that others on the machine do not count;
// MB/s is by the clock.
func cores(b *testing.B, name string, decrypt bool, once func(b *testing.B)) {
	for _, n := range []int{1, runtime.NumCPU()} {
		b.Run(fmt.Sprintf("%s/cores=%d", name, n), func(b *testing.B) {
			old := runtime.GOMAXPROCS(n)
			defer runtime.GOMAXPROCS(old)
			other := mean(n, func() float64 { return opensslSpeed(b, decrypt) })
			limit := gcmSpeed(n, decrypt)
			b.SetBytes(benchSize)
			once(b) // do not count what is made once
			start := processorTime()
			for b.Loop() {
				once(b)
			}
			speed := benchSize * float64(b.N) / (processorTime() - start)
			limit = (limit + gcmSpeed(n, decrypt)) / 2
			b.ReportMetric(speed/limit, "gcm/core")
			if other > 0 {
				b.ReportMetric(speed/other, "openssl/core")
			}
		})
	}
}

// mean runs do n times at once.
func mean(n int, do func() float64) float64 {
	all := make(chan float64)
	for range n {
		go func() { all <- do() }()
	}
	sum := 0.0
	for range n {
		sum += <-all
	}
	return sum / float64(n)
}

// gcmSpeed is how many bytes in a second of one core's time crypto/cipher seals
// or opens when n cores do, in chunks that stay in the cache.
func gcmSpeed(n int, decrypt bool) float64 {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	const rounds = 300
	start := processorTime()
	mean(n, func() float64 {
		plain, nonce := make([]byte, ChunkSize), make([]byte, 12)
		sealed := aead.Seal(nil, nonce, plain, nil)
		for range rounds {
			if !decrypt {
				aead.Seal(sealed[:0], nonce, plain, nil)
			} else if _, err := aead.Open(plain[:0], nonce, sealed, nil); err != nil {
				panic(err)
			}
		}
		return 0
	})
	return float64(n) * (rounds + 1) * ChunkSize / (processorTime() - start)
}

// processorTime is how many seconds this process has computed.
func processorTime() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

var speedLine = regexp.MustCompile(`(?m)^AES-256-GCM +([0-9.]+)k`)

// opensslSpeed is what openssl says of itself, in bytes per second; 0 when there
// is none.
func opensslSpeed(b *testing.B, decrypt bool) float64 {
	args := []string{"speed", "-evp", "aes-256-gcm", "-bytes", strconv.Itoa(ChunkSize), "-seconds", "1"}
	if decrypt {
		args = append(args, "-decrypt")
	}
	out, err := run.Cmd{Path: "openssl", Args: args}.Output(b.Context())
	if err != nil {
		if need.Required("openssl") {
			b.Error(err)
		}
		b.Logf("no comparison: %v", err)
		return 0
	}
	m := speedLine.FindSubmatch(out)
	if m == nil {
		b.Errorf("openssl speed said %q", out)
		return 0
	}
	k, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Error(err)
	}
	return k * 1000
}

var modes = []struct {
	name     string
	tagsOnly bool
}{{"digests", false}, {"tagsonly", true}}

func BenchmarkSeal(b *testing.B) {
	data := content(benchSize)
	for _, mode := range modes {
		s := testSealer()
		s.TagsOnly = mode.tagsOnly
		cores(b, mode.name, false, func(b *testing.B) {
			if _, err := s.Seal(b.Context(), io.Discard, sources([]file{{"f", data}})); err != nil {
				b.Fatal(err)
			}
		})
	}
	cores(b, "age", false, func(b *testing.B) { ageSeal(b, io.Discard, data) })
}

func BenchmarkOpen(b *testing.B) {
	data := content(benchSize)
	for _, mode := range modes {
		s := testSealer()
		s.TagsOnly = mode.tagsOnly
		dat := seal(b, s, file{"f", data})
		cores(b, mode.name, true, func(b *testing.B) {
			if err := unlock(b, testOpener(), dat).Decrypt(b.Context(), io.Discard, "f"); err != nil {
				b.Fatal(err)
			}
		})
	}
	var dat bytes.Buffer
	id := ageSeal(b, &dat, data)
	cores(b, "age", true, func(b *testing.B) {
		r, err := age.Decrypt(bytes.NewReader(dat.Bytes()), id)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
	})
}

func ageSeal(b *testing.B, w io.Writer, data []byte) age.Identity {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	enc, err := age.Encrypt(w, id.Recipient())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := enc.Write(data); err != nil {
		b.Fatal(err)
	}
	if err := enc.Close(); err != nil {
		b.Fatal(err)
	}
	return id
}

// BenchmarkReadAt is the price of reading 4 KiB here and there.
func BenchmarkReadAt(b *testing.B) {
	r, err := unlock(b, testOpener(), seal(b, testSealer(), file{"f", content(64 * ChunkSize)})).Reader("f")
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 4096)
	for name, step := range map[string]int64{"sequential": 4096, "random": 17*ChunkSize + 4096} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			off := int64(0)
			for b.Loop() {
				if _, err := r.ReadAt(p, off); err != nil {
					b.Fatal(err)
				}
				off = (off + step) % (r.Size() - int64(len(p)))
			}
		})
	}
}
