package seed

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"unicode/utf16"
)

// file is one file in the root directory.
type file struct {
	name string
	data []byte
}

// Geometry of the file system: FAT12 with one sector to a cluster, which every
// kernel's vfat reads.
const (
	sector      = 512
	sectors     = 2048 // 1 MiB
	reserved    = 1
	fats        = 2
	fatSectors  = 6 // 2048 clusters of 12 bits
	rootEntries = 64
	rootSectors = rootEntries * 32 / sector
	dataStart   = reserved + fats*fatSectors + rootSectors
	clusters    = sectors - dataStart
)

// fatImage returns a FAT12 file system with these files in its root. Nothing in
// it depends on the time or the machine.
func fatImage(label string, files []file) ([]byte, error) {
	img := make([]byte, sectors*sector)
	root := img[(reserved+fats*fatSectors)*sector : dataStart*sector]
	name := padded(label, 11)
	entries := [][]byte{directoryEntry(name, 0x08, 0, 0)}
	fat := []uint16{0xff8, 0xfff}
	for i, f := range files {
		first := len(fat)
		n := (len(f.data) + sector - 1) / sector
		if first+n-2 > clusters {
			return nil, fmt.Errorf("seed: files do not fit in %d KiB", clusters*sector/1024)
		}
		copy(img[(dataStart+first-2)*sector:], f.data)
		for c := range n {
			next := uint16(0xfff)
			if c < n-1 {
				next = uint16(first + c + 1)
			}
			fat = append(fat, next)
		}
		if n == 0 {
			first = 0
		}
		short := padded(fmt.Sprintf("FILE%04d", i), 11)
		entries = append(entries, longName(f.name, short)...)
		entries = append(entries, directoryEntry(short, 0x20, first, len(f.data)))
	}
	if len(entries) > rootEntries {
		return nil, fmt.Errorf("seed: over %d directory entries", rootEntries)
	}
	for i, e := range entries {
		copy(root[i*32:], e)
	}
	for i := range fats {
		packFAT(img[(reserved+i*fatSectors)*sector:(reserved+(i+1)*fatSectors)*sector], fat)
	}
	copy(img, bootSector(name, crc32.ChecksumIEEE(img)))
	return img, nil
}

func padded(s string, n int) []byte { return []byte(s + strings.Repeat(" ", n-len(s))) }

func bootSector(label []byte, serial uint32) []byte {
	b := make([]byte, sector)
	copy(b, []byte{0xeb, 0x3c, 0x90})
	copy(b[3:], "OVSACTL ")
	binary.LittleEndian.PutUint16(b[11:], sector)
	b[13] = 1 // sectors per cluster
	binary.LittleEndian.PutUint16(b[14:], reserved)
	b[16] = fats
	binary.LittleEndian.PutUint16(b[17:], rootEntries)
	binary.LittleEndian.PutUint16(b[19:], sectors)
	b[21] = 0xf8 // fixed disk
	binary.LittleEndian.PutUint16(b[22:], fatSectors)
	binary.LittleEndian.PutUint16(b[24:], 32) // sectors per track
	binary.LittleEndian.PutUint16(b[26:], 2)  // heads
	b[36], b[38] = 0x80, 0x29
	binary.LittleEndian.PutUint32(b[39:], serial)
	copy(b[43:], label)
	copy(b[54:], "FAT12   ")
	b[510], b[511] = 0x55, 0xaa
	return b
}

// fatDate is 1 January 2020: FAT cannot say "never".
const fatDate = (2020-1980)<<9 | 1<<5 | 1

func directoryEntry(short []byte, attributes byte, cluster, size int) []byte {
	e := make([]byte, 32)
	copy(e, short)
	e[11] = attributes
	binary.LittleEndian.PutUint16(e[16:], fatDate)
	binary.LittleEndian.PutUint16(e[18:], fatDate)
	binary.LittleEndian.PutUint16(e[24:], fatDate)
	binary.LittleEndian.PutUint16(e[26:], uint16(cluster))
	binary.LittleEndian.PutUint32(e[28:], uint32(size))
	return e
}

// longName returns the VFAT entries that come before the short one.
func longName(name string, short []byte) [][]byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	units := append(utf16.Encode([]rune(name)), 0)
	for len(units)%13 != 0 {
		units = append(units, 0xffff)
	}
	if len(name)%13 == 0 {
		units = units[:len(name)] // a name that fills its entries has no end mark
	}
	var entries [][]byte
	n := len(units) / 13
	for i := n; i >= 1; i-- {
		e := make([]byte, 32)
		e[0] = byte(i)
		if i == n {
			e[0] |= 0x40
		}
		e[11], e[13] = 0x0f, sum
		part := units[(i-1)*13 : i*13]
		for k, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
			binary.LittleEndian.PutUint16(e[at:], part[k])
		}
		entries = append(entries, e)
	}
	return entries
}

// packFAT writes 12-bit entries, two in three bytes.
func packFAT(out []byte, fat []uint16) {
	for i, v := range fat {
		at := i * 3 / 2
		if i%2 == 0 {
			out[at] = byte(v)
			out[at+1] = out[at+1]&0xf0 | byte(v>>8)
		} else {
			out[at] = out[at]&0x0f | byte(v<<4)
			out[at+1] = byte(v >> 4)
		}
	}
}
