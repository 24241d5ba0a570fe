package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Format names, as libvirt and qemu-img know them.
const (
	qcow2 = "qcow2"
	raw   = "raw"
)

const maxVirtual = 64 << 40 // bytes; what ext4 and libvirt's own limits make sensible

// detect says what kind of disk image r holds and how large the disk is. It
// refuses what a base image must not be: an image that refers to other files,
// an encrypted or damaged one, and anything that is no disk at all.
func detect(r io.ReaderAt, size int64) (format string, virtual uint64, err error) {
	head := make([]byte, 64<<10)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", 0, err
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte("QFI\xfb")) {
		virtual, err = qcow2Header(head)
		return qcow2, virtual, err
	}
	if what := notADisk(head); what != "" {
		return "", 0, fmt.Errorf("the file is %s, not a qcow2 or raw disk image", what)
	}
	if !partitioned(head) || size%512 != 0 {
		return "", 0, errors.New("the file is neither qcow2 nor a raw disk with a partition table")
	}
	if size > maxVirtual {
		return "", 0, fmt.Errorf("the disk is %d bytes, more than can be used", size)
	}
	return raw, uint64(size), nil
}

// qcow2Header returns the virtual size of a qcow2 image that stands alone.
// The layout is QEMU's docs/interop/qcow2.txt.
func qcow2Header(h []byte) (uint64, error) {
	const minHeader = 72
	if len(h) < minHeader {
		return 0, errors.New("the qcow2 header is cut off")
	}
	be := binary.BigEndian
	version, backing := be.Uint32(h[4:]), be.Uint64(h[8:])
	virtual, crypt := be.Uint64(h[24:]), be.Uint32(h[32:])
	var features uint64
	switch version {
	case 2:
	case 3:
		if len(h) < minHeader+32 {
			return 0, errors.New("the qcow2 header is cut off")
		}
		features = be.Uint64(h[72:])
	default:
		return 0, fmt.Errorf("qcow2 version %d is not known", version)
	}
	const corrupt, externalData, known = 1 << 1, 1 << 2, 1<<5 - 1
	switch {
	case backing != 0:
		return 0, errors.New("the qcow2 image needs a backing file; flatten it with `qemu-img convert`")
	case features&externalData != 0:
		return 0, errors.New("the qcow2 image keeps its data in another file; flatten it with `qemu-img convert`")
	case features&corrupt != 0:
		return 0, errors.New("the qcow2 image is marked corrupt; see `qemu-img check`")
	case features&^known != 0:
		return 0, fmt.Errorf("the qcow2 image has unknown features %#x", features&^known)
	case crypt != 0:
		return 0, errors.New("the qcow2 image is encrypted")
	case virtual == 0 || virtual > maxVirtual:
		return 0, fmt.Errorf("the qcow2 image's size of %d bytes makes no sense", virtual)
	}
	return virtual, nil
}

// partitioned finds an MBR, which a GPT has too.
func partitioned(head []byte) bool {
	return len(head) >= 512 && head[510] == 0x55 && head[511] == 0xaa
}

// notADisk names what is often taken for a disk image, or returns "".
func notADisk(head []byte) string {
	for _, k := range []struct {
		offset      int
		magic, what string
	}{
		{0, "\xfd7zXZ\x00", "xz-compressed (unpack it with `unxz`)"},
		{0, "\x1f\x8b", "gzip-compressed (unpack it with `gunzip`)"},
		{0, "\x28\xb5\x2f\xfd", "zstd-compressed (unpack it with `unzstd`)"},
		{0, "BZh", "bzip2-compressed (unpack it with `bunzip2`)"},
		{0, "PK\x03\x04", "a zip archive"},
		{257, "ustar", "a tar archive"},
		{0, "KDMV", "a VMware disk (convert it with `qemu-img convert -O qcow2`)"},
		{0, "vhdxfile", "a Hyper-V disk (convert it with `qemu-img convert -O qcow2`)"},
		{0, "conectix", "a Virtual PC disk (convert it with `qemu-img convert -O qcow2`)"},
		{64, "\x7f\x10\xda\xbe", "a VirtualBox disk (convert it with `qemu-img convert -O qcow2`)"},
		{32769, "CD001", "a CD or installer image"},
		{0, "<!DOCTYPE", "a web page"},
		{0, "<html", "a web page"},
	} {
		if len(head) >= k.offset+len(k.magic) && string(head[k.offset:k.offset+len(k.magic)]) == k.magic {
			return k.what
		}
	}
	return ""
}
