package model

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/ovsactl/ovsactl/licensing"
)

// Source is a file to be sealed. It is read once, to its end.
type Source struct {
	Name   string // a base name
	Reader io.Reader
}

// Sealer makes containers.
type Sealer struct {
	Key  licensing.Key
	Info Info

	// Sign signs the manifest and returns signature and payload in one, for an
	// Opener's Verify.
	Sign func(payload []byte) ([]byte, error)

	// TagsOnly leaves the chunks' digests out. Sealing and opening are then
	// nearly twice as fast, and those who have the key can forge content
	// under the vendor's signature; see the package's documentation.
	TagsOnly bool

	Workers  int                         // at the same time; 0 for one per core
	Progress func(file int, bytes int64) // if not nil, told what was sealed after each chunk

	salt func([]byte) // of test vectors; nil for a random one
}

// Sealed is what became of a model.
type Sealed struct {
	Digest Digest // of the manifest: what licences name
	Files  []File
	Size   int64 // of the container
}

// Seal writes a container with files to w. It reads every source once and never
// seeks. When it fails, or dies, what it has written is refused by Open.
func (s Sealer) Seal(ctx context.Context, w io.Writer, files []Source) (Sealed, error) {
	sealed, err := s.seal(ctx, w, files)
	if err != nil {
		return Sealed{}, fmt.Errorf("seal model: %w", err)
	}
	return sealed, nil
}

func (s Sealer) seal(ctx context.Context, w io.Writer, files []Source) (Sealed, error) {
	if err := s.check(files); err != nil {
		return Sealed{}, err
	}
	var h header
	if s.salt == nil {
		s.salt = func(b []byte) { rand.Read(b) }
	}
	s.salt(h.salt[:])
	keys, err := newRoot(s.Key, h.salt)
	if err != nil {
		return Sealed{}, err
	}
	defer clear(keys)
	commitment, err := keys.commitment()
	if err != nil {
		return Sealed{}, err
	}
	h.commitment = [sha256.Size]byte(commitment)
	if err := write(w, h.encode()); err != nil {
		return Sealed{}, err
	}
	run := sealing{Sealer: s, keys: keys, header: h.digest(), w: w, files: files, current: -1}
	p := pipeline{workers: workers(s.Workers), fill: run.fill, work: run.work, emit: run.emit}
	err = p.run(ctx)
	clear(run.carry)
	if err != nil {
		return Sealed{}, err
	}
	return run.finish()
}

func (s Sealer) check(files []Source) error {
	if s.Sign == nil {
		return errors.New("nothing to sign with")
	}
	if err := s.Info.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.Name
	}
	if err := checkNames(names); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	return nil
}

func workers(n int) int {
	if n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}

// sealing is one call of Seal.
type sealing struct {
	Sealer
	keys   root
	header Digest
	w      io.Writer
	files  []Source

	// fill's alone, until the pipeline has ended
	current int // file; -1 before the first
	cipher  *fileCipher
	at      place
	carry   []byte // the byte that showed that the chunk before is not the last
	sizes   []int64
	total   int64

	// emit's alone
	table   []byte
	emitted int
	bytes   int64
}

// fill reads the next chunk and one byte more, to know whether it is the last.
func (s *sealing) fill(c *slot) (more bool, err error) {
	if s.current < 0 || s.at.last {
		if s.current++; s.current == len(s.files) {
			return false, nil
		}
		if s.cipher, err = s.keys.file(s.header, s.current); err != nil {
			return false, err
		}
		s.sizes, s.at, s.carry = append(s.sizes, 0), place{}, nil
	} else {
		s.at.index++
	}
	c.grow(ChunkSize)
	had := copy(c.buf, s.carry)
	n, end, err := readFull(s.files[s.current].Reader, c.buf[had:ChunkSize+1])
	if err != nil {
		return false, fmt.Errorf("read %q: %w", s.files[s.current].Name, err)
	}
	if n += had; end {
		s.at.last = true
	} else {
		s.carry, n = append(s.carry[:0], c.buf[ChunkSize]), ChunkSize
	}
	if s.total += int64(n); s.total > MaxData {
		return false, fmt.Errorf("%w: more than %d bytes", ErrInput, int64(MaxData))
	}
	s.sizes[s.current] += int64(n)
	c.n, c.file, c.at = n, s.cipher, s.at
	return true, nil
}

// maxRead is how much is read at once: what is copied in larger pieces is written past
// the cache by Go's copy, and is about to be encrypted.
const maxRead = 128 << 10

// readFull fills b or reads to the end. It is not io.ReadFull, which cannot tell a
// file's end from a source that was itself cut short.
func readFull(r io.Reader, b []byte) (n int, end bool, err error) {
	for empty := 0; n < len(b); {
		k, err := r.Read(b[n:min(n+maxRead, len(b))])
		n += k
		switch {
		case err == io.EOF:
			return n, n < len(b), nil
		case err != nil:
			return n, false, err
		case k > 0:
			empty = 0
		default:
			if empty++; empty == 100 {
				return n, false, io.ErrNoProgress
			}
		}
	}
	return n, false, nil
}

func (s *sealing) work(c *slot) error {
	sealed := c.file.seal(c.buf[:c.n], c.at)
	copy(c.entry[:], sealed[c.n:])
	if hash := hashOf(s.digests()); hash != nil {
		sum := hash(sealed[:c.n])
		copy(c.entry[tagSize:], sum[:])
	}
	return nil
}

func (s *sealing) emit(c *slot) error {
	if err := write(s.w, c.buf[:c.n]); err != nil {
		return err
	}
	s.table = append(s.table, c.entry[:s.entrySize()]...)
	s.bytes += int64(c.n)
	if s.Progress != nil {
		s.Progress(s.emitted, s.bytes)
	}
	if c.at.last {
		s.emitted, s.bytes = s.emitted+1, 0
	}
	return nil
}

func (s *sealing) entrySize() int { return manifest{Digests: s.digests()}.entrySize() }

func (s *sealing) digests() string {
	if s.TagsOnly {
		return digestNone
	}
	return digestBLAKE3
}

// finish writes what follows the ciphertext.
func (s *sealing) finish() (Sealed, error) {
	m := manifest{
		Chunk: ChunkSize, Description: s.Info.Description, Digests: s.digests(), Format: formatName,
		Header: s.header.String(), GUID: s.Info.GUID, Name: s.Info.Name,
		Table: Digest(sha256.Sum256(s.table)).String(), Version: s.Info.Version,
	}
	files := make([]File, len(s.files))
	for i, f := range s.files {
		files[i] = File{Name: f.Name, Size: s.sizes[i]}
		m.Files = append(m.Files, manifestFile{Chunks: chunks(s.sizes[i]), Name: f.Name, Size: s.sizes[i]})
	}
	payload, err := m.marshal()
	if err != nil {
		return Sealed{}, err
	}
	digest := Digest(sha256.Sum256(payload))
	signed, err := s.Sign(payload)
	if err != nil {
		return Sealed{}, fmt.Errorf("sign manifest: %w", err)
	}
	if len(signed) > MaxSigned {
		return Sealed{}, fmt.Errorf("sign manifest: %d bytes, over %d", len(signed), MaxSigned)
	}
	l := layout{data: s.total, table: int64(len(s.table)), signed: int64(len(signed))}
	for _, b := range [][]byte{s.table, signed, l.encode()} {
		if err := write(s.w, b); err != nil {
			return Sealed{}, err
		}
	}
	return Sealed{Digest: digest, Files: files, Size: l.size()}, nil
}
