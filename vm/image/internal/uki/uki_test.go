package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"strings"
	"testing"
)

// stub is a minimal PE32+ image with one section and room for room more.
func stub(room int) []byte {
	const peOffset, optional, dirs = 0x40, 112, 16
	headers := peOffset + 24 + optional + dirs*8 + sectionHeaderSize
	size := (headers + room*sectionHeaderSize + 511) &^ 511
	b := make([]byte, size+512)
	le := binary.LittleEndian
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], peOffset)
	copy(b[peOffset:], "PE\x00\x00")
	coff := b[peOffset+4:]
	le.PutUint16(coff, pe.IMAGE_FILE_MACHINE_AMD64)
	le.PutUint16(coff[2:], 1)
	le.PutUint16(coff[16:], optional+dirs*8)
	opt := coff[20:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[32:], 4096)
	le.PutUint32(opt[36:], 512)
	le.PutUint32(opt[56:], 0x2000)
	le.PutUint32(opt[60:], uint32(headers+room*sectionHeaderSize))
	le.PutUint32(opt[108:], dirs)
	s := opt[optional+dirs*8:]
	copy(s, ".text")
	le.PutUint32(s[8:], 100)
	le.PutUint32(s[12:], 0x1000)
	le.PutUint32(s[16:], 512)
	le.PutUint32(s[20:], uint32(size))
	return b
}

func TestAppend(t *testing.T) {
	want := []Section{
		{".cmdline", []byte("root=x\x00")},
		{".initrd", bytes.Repeat([]byte{1}, 5000)},
		{".linux", bytes.Repeat([]byte{2}, 10_000)},
	}
	out, err := Append(stub(3), want)
	if err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Sections) != 4 {
		t.Fatalf("%d sections, want 4", len(f.Sections))
	}
	end := f.Sections[0].VirtualAddress + f.Sections[0].VirtualSize
	for i, s := range f.Sections[1:] {
		data, err := s.Data()
		if err != nil || s.Name != want[i].Name || int(s.VirtualSize) != len(want[i].Data) {
			t.Fatalf("section %q of %d bytes, %v", s.Name, s.VirtualSize, err)
		}
		if !bytes.Equal(data[:s.VirtualSize], want[i].Data) {
			t.Errorf("section %q has other data", s.Name)
		}
		if s.VirtualAddress < end || s.VirtualAddress%4096 != 0 || s.Offset%512 != 0 {
			t.Errorf("section %q at %#x, file %#x: overlaps or is not aligned", s.Name, s.VirtualAddress, s.Offset)
		}
		end = s.VirtualAddress + s.VirtualSize
	}
	if oh := f.OptionalHeader.(*pe.OptionalHeader64); oh.SizeOfImage != (end+4095)&^4095 {
		t.Errorf("image size %#x, want up to %#x", oh.SizeOfImage, end)
	}
}

func TestAppendRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		stub    []byte
		section string
		want    string
	}{
		"not PE":    {[]byte("hello"), ".linux", "read UEFI stub"},
		"no room":   {stub(0), ".linux", "no room"},
		"there":     {stub(3), ".text", "has it already"},
		"long name": {stub(3), ".linuxkernel", "over 8 bytes"},
	} {
		_, err := Append(tc.stub, []Section{{tc.section, nil}})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, tc.want)
		}
	}
}

func FuzzAppend(f *testing.F) {
	f.Add(stub(2))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := Append(data, []Section{{".linux", []byte("kernel")}})
		if err == nil && !bytes.Contains(out, []byte("kernel")) {
			t.Error("the section's data is not in the image")
		}
	})
}
