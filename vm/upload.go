package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirt"

	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/vm/image"
)

// completeSuffix names the empty volume that marks a base as completely
// uploaded. libvirt cannot rename a volume, so a second one says it.
const completeSuffix = ".complete"

// uploadChunk is the most that one libvirt message carries.
const uploadChunk = 256 << 10

// EnsureBase uploads the image's file unless the pool has it complete, and
// returns its volume's name. What a killed upload left is removed and made
// again. Of two processes with the same data directory one uploads and the
// other waits.
func (h *Host) EnsureBase(ctx context.Context, pool string, img image.Image, progress image.Progress) (string, error) {
	name, err := BaseVolume(img)
	if err != nil {
		return "", err
	}
	operation := fmt.Sprintf("upload image %q", img.Name)
	complete := func(c *libvirt.Connect) (done bool, err error) {
		err = withPool(c, pool, func(p *libvirt.StoragePool) error {
			done, err = baseComplete(ctx, p, name)
			return err
		})
		return done, err
	}
	if done, err := call(ctx, h, operation, complete); err != nil || done {
		return name, err
	}
	if h.opts.DataDir != "" {
		l, err := lock.Wait(ctx, filepath.Join(h.opts.DataDir, "."+name+".lock"), fmt.Sprintf("pid %d (upload)", os.Getpid()), nil)
		if err != nil {
			return "", fmt.Errorf("%s: %w", operation, err)
		}
		defer l.Release()
	}
	if done, err := call(ctx, h, operation, complete); err != nil || done {
		return name, err
	}
	return name, do(ctx, h, operation, func(c *libvirt.Connect) error {
		return withPool(c, pool, func(p *libvirt.StoragePool) error {
			return uploadBase(ctx, c, p, name, img, progress)
		})
	})
}

// baseComplete looks for the mark and for what it marks.
func baseComplete(ctx context.Context, p *libvirt.StoragePool, name string) (bool, error) {
	for _, n := range []string{name + completeSuffix, name} {
		v, err := findVolume(ctx, p, n)
		if err != nil || v == nil {
			return false, err
		}
		v.Free()
	}
	return true, nil
}

func uploadBase(ctx context.Context, c *libvirt.Connect, p *libvirt.StoragePool, name string, img image.Image, progress image.Progress) error {
	for _, stale := range []string{name + completeSuffix, name} {
		if err := deleteVolume(ctx, p, stale); err != nil {
			return err
		}
	}
	f, err := os.Open(img.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	src := &sparseFile{f: f, size: info.Size()}
	src.progress = func(done int64) {
		if progress != nil {
			progress("upload", done, info.Size())
		}
	}
	// The volume is made as raw: a qcow2 one would come with a header of its
	// own, which would show through the holes of the file.
	if err := writeVolume(ctx, c, p, rawVolume{name, uint64(info.Size())}, src); err != nil {
		return errors.Join(err, deleteVolume(ctx, p, name))
	}
	mark, err := createVolume(p, rawVolume{name + completeSuffix, 0})
	if err != nil {
		return err
	}
	mark.Free()
	return refresh(ctx, p) // so that libvirt sees the format that is in the file
}

// WriteVolume makes a raw volume with these bytes, replacing an old one.
func (h *Host) WriteVolume(ctx context.Context, pool, name string, data []byte) error {
	if err := checkVolume(name); err != nil {
		return err
	}
	return do(ctx, h, fmt.Sprintf("write volume %q", name), func(c *libvirt.Connect) error {
		return withPool(c, pool, func(p *libvirt.StoragePool) error {
			if err := deleteVolume(ctx, p, name); err != nil {
				return err
			}
			return writeVolume(ctx, c, p, rawVolume{name, uint64(len(data))}, &sparseBytes{r: bytes.NewReader(data)})
		})
	})
}

// rawVolume is a raw volume to be made.
type rawVolume struct {
	name string
	size uint64
}

func createVolume(p *libvirt.StoragePool, v rawVolume) (*libvirt.StorageVol, error) {
	text, err := volumeXML(v.name, "raw", v.size).Marshal()
	if err != nil {
		return nil, err
	}
	return p.StorageVolCreateXML(text, 0)
}

// source is what is uploaded: runs of data and holes, in order.
type source interface {
	// next returns the length of the run at the current position.
	next() (data bool, length int64, err error)
	// read reads data of the current run.
	io.Reader
	// skip passes over a hole.
	skip(length int64) error
}

// writeVolume makes a volume and fills it, holes staying holes.
func writeVolume(ctx context.Context, c *libvirt.Connect, p *libvirt.StoragePool, raw rawVolume, src source) error {
	v, err := createVolume(p, raw)
	if err != nil {
		return err
	}
	defer v.Free()
	stream, err := c.NewStream(0)
	if err != nil {
		return err
	}
	defer stream.Free()
	if err := v.Upload(stream, 0, raw.size, libvirt.STORAGE_VOL_UPLOAD_SPARSE_STREAM); err != nil {
		return err
	}
	if err := sendAll(ctx, stream, src); err != nil {
		return errors.Join(err, stream.Abort())
	}
	return stream.Finish()
}

func sendAll(ctx context.Context, stream *libvirt.Stream, src source) error {
	buf := make([]byte, uploadChunk)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		data, length, err := src.next()
		if err != nil {
			return err
		}
		if length == 0 {
			return nil
		}
		if !data {
			if err := stream.SendHole(length, 0); err != nil {
				return err
			}
			if err := src.skip(length); err != nil {
				return err
			}
			continue
		}
		chunk := buf[:min(length, uploadChunk)]
		if _, err := io.ReadFull(src, chunk); err != nil {
			return err
		}
		for len(chunk) > 0 {
			n, err := stream.Send(chunk)
			if err != nil {
				return err
			}
			chunk = chunk[n:]
		}
	}
}

// sparseFile is a file with the holes that its file system knows of.
type sparseFile struct {
	f        *os.File
	at, size int64
	dataEnd  int64 // the run of data that at is in ends here
	progress func(int64)
}

func (s *sparseFile) next() (bool, int64, error) {
	if s.progress != nil {
		s.progress(s.at)
	}
	if s.at >= s.size {
		return false, 0, nil
	}
	if s.at < s.dataEnd {
		return true, s.dataEnd - s.at, nil
	}
	start, err := unix.Seek(int(s.f.Fd()), s.at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return false, s.size - s.at, nil
	case err != nil:
		return false, 0, fmt.Errorf("look for data: %w", err)
	case start > s.at:
		return false, min(start, s.size) - s.at, nil
	}
	end, err := unix.Seek(int(s.f.Fd()), s.at, unix.SEEK_HOLE)
	if err != nil {
		return false, 0, fmt.Errorf("look for a hole: %w", err)
	}
	s.dataEnd = min(end, s.size)
	return true, s.dataEnd - s.at, nil
}

func (s *sparseFile) Read(p []byte) (int, error) {
	n, err := s.f.ReadAt(p, s.at)
	s.at += int64(n)
	return n, err
}

func (s *sparseFile) skip(length int64) error { s.at += length; return nil }

// sparseBytes is bytes without holes.
type sparseBytes struct{ r *bytes.Reader }

func (s *sparseBytes) next() (bool, int64, error) { return true, int64(s.r.Len()), nil }

func (s *sparseBytes) Read(p []byte) (int, error) { return s.r.Read(p) }

func (s *sparseBytes) skip(int64) error { return nil }
