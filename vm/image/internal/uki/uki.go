// Package uki makes unified kernel images: one PE file of a UEFI stub with the
// kernel, its initrd and its command line as sections, which the firmware
// starts and the stub measures (uapi-group.org/specifications/specs/unified_kernel_image).
package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Section is a named part of the image. Names have at most 8 bytes.
type Section struct {
	Name string // ".linux", ".initrd", ".cmdline", ".osrel", ".uname"
	Data []byte
}

const (
	sectionHeaderSize = 40
	// offsets into the PE32+ optional header
	offInitializedData = 8
	offImageSize       = 56
	offChecksum        = 64

	readOnlyData = pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ
	maxAlign     = 1 << 20
)

// Append returns stub with sections behind its own. The stub must be an
// unsigned PE32+ image whose headers have room for the new section headers.
func Append(stub []byte, sections []Section) ([]byte, error) {
	img, err := parse(stub)
	if err != nil {
		return nil, fmt.Errorf("read UEFI stub: %w", err)
	}
	for _, s := range sections {
		if err := img.add(s); err != nil {
			return nil, fmt.Errorf("add section %q: %w", s.Name, err)
		}
	}
	return img.finish(), nil
}

// image is a PE file that grows at its end.
type image struct {
	buf                     []byte
	coff, optional, headers int // offsets: COFF header, optional header, next section header
	headersEnd              int
	sectionAlign, fileAlign uint32
	virtualEnd              uint32
	added                   uint32 // bytes of initialized data
	names                   []string
}

func parse(stub []byte) (*image, error) {
	f, err := pe.NewFile(bytes.NewReader(stub))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	oh, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		return nil, errors.New("not a PE32+ image")
	}
	if !bytes.HasPrefix(stub, []byte("MZ")) { // debug/pe takes object files too
		return nil, errors.New("not an executable")
	}
	// debug/pe has followed the offset at 0x3c, so it is within the file.
	coff := int(binary.LittleEndian.Uint32(stub[0x3c:])) + 4
	img := &image{
		buf: slices.Clone(stub), coff: coff, optional: coff + 20,
		headersEnd: int(oh.SizeOfHeaders), sectionAlign: oh.SectionAlignment, fileAlign: oh.FileAlignment,
	}
	img.headers = img.optional + int(f.SizeOfOptionalHeader) + len(f.Sections)*sectionHeaderSize
	if !powerOfTwo(img.sectionAlign) || !powerOfTwo(img.fileAlign) {
		return nil, fmt.Errorf("alignment %d, %d is not a power of two", img.sectionAlign, img.fileAlign)
	}
	if img.headersEnd > len(stub) || img.headers > img.headersEnd {
		return nil, errors.New("headers are longer than the file")
	}
	for _, s := range f.Sections {
		img.names = append(img.names, s.Name)
		img.virtualEnd = max(img.virtualEnd, s.VirtualAddress+max(s.VirtualSize, s.Size))
		// New headers go where a section's data must not be.
		if s.Offset != 0 && int(s.Offset) < img.headersEnd {
			img.headersEnd = int(s.Offset)
		}
	}
	return img, nil
}

func (img *image) add(s Section) error {
	switch {
	case len(s.Name) == 0 || len(s.Name) > 8:
		return errors.New("name is empty or over 8 bytes")
	case slices.Contains(img.names, s.Name):
		return errors.New("the image has it already")
	case img.headers+sectionHeaderSize > img.headersEnd:
		return errors.New("no room for its header in the stub")
	case uint64(len(s.Data))+uint64(img.virtualEnd) > 1<<31:
		return errors.New("the image would be over 2 GiB")
	}
	img.names = append(img.names, s.Name)
	img.pad()
	address := align(img.virtualEnd, img.sectionAlign)
	raw := align(uint32(len(s.Data)), img.fileAlign)

	h := img.buf[img.headers : img.headers+sectionHeaderSize]
	clear(h)
	copy(h, s.Name)
	le := binary.LittleEndian
	le.PutUint32(h[8:], uint32(len(s.Data))) // VirtualSize
	le.PutUint32(h[12:], address)
	le.PutUint32(h[16:], raw)
	le.PutUint32(h[20:], uint32(len(img.buf)))
	le.PutUint32(h[36:], readOnlyData)

	img.buf = append(img.buf, s.Data...)
	img.pad()
	img.headers += sectionHeaderSize
	img.virtualEnd = address + uint32(len(s.Data))
	img.added += raw
	return nil
}

// pad fills the file up to its alignment.
func (img *image) pad() {
	n := align(uint32(len(img.buf)), img.fileAlign) - uint32(len(img.buf))
	img.buf = append(img.buf, make([]byte, n)...)
}

// finish writes the counts and sizes that the sections have changed.
func (img *image) finish() []byte {
	le := binary.LittleEndian
	le.PutUint16(img.buf[img.coff+2:], uint16(len(img.names)))
	opt := img.buf[img.optional:]
	le.PutUint32(opt[offInitializedData:], le.Uint32(opt[offInitializedData:])+img.added)
	le.PutUint32(opt[offImageSize:], align(img.virtualEnd, img.sectionAlign))
	le.PutUint32(opt[offChecksum:], 0) // not checked for applications; a wrong one is worse than none
	return img.buf
}

func powerOfTwo(n uint32) bool { return n != 0 && n <= maxAlign && n&(n-1) == 0 }

func align(n, to uint32) uint32 { return (n + to - 1) &^ (to - 1) }
