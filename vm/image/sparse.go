package image

import (
	"bytes"
	"os"
)

// sparseFile writes a file from an offset on and leaves blocks of zeros out.
type sparseFile struct {
	f   *os.File
	off int64
}

const sparseBlock = 4 << 10

var zeros [sparseBlock]byte //nolint:gochecknoglobals // never written

// Write appends p.
func (s *sparseFile) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		// Up to the next block boundary, so that blocks line up with the file's.
		n := min(len(p), sparseBlock-int(s.off%sparseBlock))
		if n < sparseBlock || !bytes.Equal(p[:n], zeros[:]) {
			for len(p)-n >= sparseBlock && !bytes.Equal(p[n:n+sparseBlock], zeros[:]) {
				n += sparseBlock
			}
			if _, err := s.f.WriteAt(p[:n], s.off); err != nil {
				return total - len(p), err
			}
		}
		s.off += int64(n)
		p = p[n:]
	}
	return total, nil
}

// finish gives the file its size when it ends in zeros.
func (s *sparseFile) finish() error { return s.f.Truncate(s.off) }
