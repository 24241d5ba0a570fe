package model

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/ovsactl/ovsactl/licensing"
)

var testInfo = Info{
	Name: "face-detection", Description: "Finds faces", Version: "0002",
	GUID: "0b9a4d1e-7c2f-4e55-9d0a-5f2f6c1b7e90",
}

// vendor signs as the tests do it: 64 bytes of Ed25519, and the payload.
type vendor struct{ key ed25519.PrivateKey }

func newVendor(b byte) vendor {
	return vendor{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))}
}

func (v vendor) sign(payload []byte) ([]byte, error) {
	return append(ed25519.Sign(v.key, payload), payload...), nil
}

func (v vendor) verify(signed []byte) ([]byte, error) {
	if len(signed) < 64 || !ed25519.Verify(v.key.Public().(ed25519.PublicKey), signed[64:], signed[:64]) {
		return nil, errors.New("bad signature")
	}
	return signed[64:], nil
}

func testKey() licensing.Key {
	k, err := licensing.TakeKey(bytes.Repeat([]byte{0x42}, licensing.KeySize))
	if err != nil {
		panic(err)
	}
	return k
}

func testSealer() Sealer { return Sealer{Key: testKey(), Info: testInfo, Sign: newVendor(1).sign} }
func testOpener() Opener { return Opener{Verify: newVendor(1).verify} }

// content is a file's bytes, always the same for a size.
func content(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(b)
	return b
}

type file struct {
	name string
	data []byte
}

func sources(files []file) []Source {
	var s []Source
	for _, f := range files {
		s = append(s, Source{Name: f.name, Reader: bytes.NewReader(f.data)})
	}
	return s
}

func seal(t testing.TB, s Sealer, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	sealed, err := s.Seal(t.Context(), &b, sources(files))
	if err != nil {
		t.Fatal(err)
	}
	if sealed.Size != int64(b.Len()) {
		t.Fatalf("%d bytes, but said %d", b.Len(), sealed.Size)
	}
	return b.Bytes()
}

func unlock(t testing.TB, o Opener, dat []byte) *Model {
	t.Helper()
	c, err := o.Open(t.Context(), bytes.NewReader(dat), int64(len(dat)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Unlock(testKey())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func decrypt(t testing.TB, m *Model, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.Decrypt(t.Context(), &b, name); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var roundTrips = []struct {
	name  string
	files []file
}{
	{"empty file", []file{{"empty", nil}}},
	{"one byte", []file{{"one", content(1)}}},
	{"a chunk less a byte", []file{{"f", content(ChunkSize - 1)}}},
	{"a chunk", []file{{"f", content(ChunkSize)}}},
	{"a chunk and a byte", []file{{"f", content(ChunkSize + 1)}}},
	{"two chunks", []file{{"f", content(2 * ChunkSize)}}},
	{"many chunks", []file{{"f", content(9*ChunkSize + 17)}}},
	{"several files", []file{{"model.xml", content(5000)}, {"model.bin", content(3*ChunkSize + 1)}, {"empty", nil}, {"labels", content(ChunkSize)}}},
	{"names", []file{{"模型.bin", content(1)}, {"größe", content(2)}, {"a b", content(3)}, {".hidden", content(4)}, {"...", content(5)}, {`<&">`, content(6)}, {strings.Repeat("n", 255), content(7)}, {"🤖👩‍🔬", content(8)}}},
}

func TestWhatIsSealedIsWhatIsOpened(t *testing.T) {
	for _, tc := range roundTrips {
		for _, tagsOnly := range []bool{false, true} {
			for _, workers := range []int{1, 3} {
				t.Run(fmt.Sprintf("%s/tagsOnly=%v/workers=%d", tc.name, tagsOnly, workers), func(t *testing.T) {
					s, o := testSealer(), testOpener()
					s.TagsOnly, s.Workers, o.Workers = tagsOnly, workers, workers
					m := unlock(t, o, seal(t, s, tc.files...))
					if m.HasDigests() == tagsOnly || m.Info() != testInfo || len(m.Files()) != len(tc.files) {
						t.Errorf("digests %v, info %+v, files %v", m.HasDigests(), m.Info(), m.Files())
					}
					for i, f := range tc.files {
						if got := decrypt(t, m, f.name); !bytes.Equal(got, f.data) {
							t.Errorf("%q differs", f.name)
						}
						if m.Files()[i] != (File{Name: f.name, Size: int64(len(f.data))}) {
							t.Errorf("%q is listed as %+v", f.name, m.Files()[i])
						}
					}
				})
			}
		}
	}
}

func TestManyFiles(t *testing.T) {
	var files []file
	for i := range MaxFiles {
		files = append(files, file{fmt.Sprintf("file-%d", i), content(i)})
	}
	m := unlock(t, testOpener(), seal(t, testSealer(), files...))
	for _, i := range []int{0, 1, 1023, 1024, MaxFiles - 1} {
		if !bytes.Equal(decrypt(t, m, files[i].name), files[i].data) {
			t.Errorf("file %d differs", i)
		}
	}
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// However a source hands out its bytes, the container has them.
func TestSourcesMayReadAsTheyLike(t *testing.T) {
	for _, size := range []int{0, 1, ChunkSize, ChunkSize + 1, ChunkSize + 5, 2*ChunkSize + 1} {
		data := content(size)
		for name, r := range map[string]io.Reader{
			"half":     iotest.HalfReader(bytes.NewReader(data)),
			"data err": iotest.DataErrReader(bytes.NewReader(data)),
		} {
			var b bytes.Buffer
			if _, err := testSealer().Seal(t.Context(), &b, []Source{{"f", r}}); err != nil {
				t.Fatal(name, err)
			}
			if got := decrypt(t, unlock(t, testOpener(), b.Bytes()), "f"); !bytes.Equal(got, data) {
				t.Errorf("%s: %d bytes differ", name, size)
			}
		}
	}
}

func TestReaderAtReadsAnywhere(t *testing.T) {
	data := content(3*ChunkSize + 99)
	m := unlock(t, testOpener(), seal(t, testSealer(), file{"before", content(10)}, file{"f", data}, file{"empty", nil}))
	r, err := m.Reader("f")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), data); err != nil {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 0))
			for range 50 {
				off := rnd.IntN(len(data))
				p := make([]byte, rnd.IntN(2*ChunkSize))
				n, err := r.ReadAt(p, int64(off))
				want := data[off:min(len(data), off+len(p))]
				if !bytes.Equal(p[:n], want) || errors.Is(err, io.EOF) != (len(want) < len(p)) || err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("%d bytes at %d: %d, %v", len(p), off, n, err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := r.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset was read")
	}
	if e, err := m.Reader("empty"); err != nil {
		t.Error(err)
	} else if n, err := e.ReadAt(make([]byte, 1), 0); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("empty: %d, %v", n, err)
	}
}

func TestClosedGivesNothing(t *testing.T) {
	m := unlock(t, testOpener(), seal(t, testSealer(), file{"f", content(10)}))
	r, err := m.Reader("f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if n, err := r.ReadAt(make([]byte, 10), 0); n != 0 || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a closed reader gave %d bytes, %v", n, err)
	}
	m.Close()
	if err := m.Decrypt(t.Context(), failWriter{}, "f"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a closed model decrypts: %v", err)
	}
	if _, err := m.Reader("f"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a closed model is read: %v", err)
	}
}

func TestTwoContainersOfOneModelShareNothing(t *testing.T) {
	a := seal(t, testSealer(), file{"f", content(100)}, file{"g", content(100)})
	b := seal(t, testSealer(), file{"f", content(100)}, file{"g", content(100)})
	if cmp.Equal(a[headerSize:headerSize+100], b[headerSize:headerSize+100]) {
		t.Error("the same ciphertext in two containers")
	}
	if cmp.Equal(a[headerSize:headerSize+100], a[headerSize+100:headerSize+200]) {
		t.Error("the same ciphertext for two files")
	}
}

func TestWhatCannotBeSealed(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, change := range map[string]func(*Sealer, *[]Source){
		"no files":            func(_ *Sealer, f *[]Source) { *f = nil },
		"the same name twice": func(_ *Sealer, f *[]Source) { *f = append(*f, (*f)[0]) },
		"too many files":      func(_ *Sealer, f *[]Source) { *f = make([]Source, MaxFiles+1) },
		"no name":             func(s *Sealer, _ *[]Source) { s.Info.Name = "" },
		"long name":           func(s *Sealer, _ *[]Source) { s.Info.Name = long },
		"no version":          func(s *Sealer, _ *[]Source) { s.Info.Version = "" },
		"escape in text":      func(s *Sealer, _ *[]Source) { s.Info.Description = "\x1b[2J" },
		"upper-case GUID":     func(s *Sealer, _ *[]Source) { s.Info.GUID = strings.ToUpper(testInfo.GUID) },
	} {
		s, files := testSealer(), sources([]file{{"f", content(1)}})
		change(&s, &files)
		if _, err := s.Seal(t.Context(), failWriter{}, files); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "/a", `a\b`, "../a", "a\x00b", "a\nb", "\xff", long, "a\u202eb", "\ufeffa", "a\u2028"} {
		_, err := testSealer().Seal(t.Context(), failWriter{}, []Source{{name, strings.NewReader("x")}})
		if !errors.Is(err, ErrInput) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// failWriter fails, and shows that nothing was written when that is not the error.
type failWriter struct{}

var errFull = errors.New("disk full")

func (failWriter) Write([]byte) (int, error) { return 0, errFull }
