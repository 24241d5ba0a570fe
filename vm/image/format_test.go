package image

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/run"
)

// header is a qcow2 header, version 3, of a disk of 1 GiB.
func header(change func(h []byte)) []byte {
	h := make([]byte, 512)
	copy(h, "QFI\xfb")
	binary.BigEndian.PutUint32(h[4:], 3)
	binary.BigEndian.PutUint64(h[24:], 1<<30)
	if change != nil {
		change(h)
	}
	return h
}

func TestDetect(t *testing.T) {
	be := binary.BigEndian
	for name, tc := range map[string]struct {
		data    []byte
		format  string
		virtual uint64
		problem string
	}{
		"qcow2":              {data: header(nil), format: "qcow2", virtual: 1 << 30},
		"qcow2 version 2":    {data: header(func(h []byte) { be.PutUint32(h[4:], 2) }), format: "qcow2", virtual: 1 << 30},
		"raw":                {data: rawDisk(64 << 10), format: "raw", virtual: 64 << 10},
		"version 1":          {data: header(func(h []byte) { be.PutUint32(h[4:], 1) }), problem: "version 1"},
		"backing file":       {data: header(func(h []byte) { h[15] = 1 }), problem: "backing file"},
		"external data":      {data: header(func(h []byte) { h[79] = 4 }), problem: "another file"},
		"corrupt":            {data: header(func(h []byte) { h[79] = 2 }), problem: "corrupt"},
		"encrypted":          {data: header(func(h []byte) { h[35] = 1 }), problem: "encrypted"},
		"features of later":  {data: header(func(h []byte) { h[72] = 1 }), problem: "unknown features"},
		"no size":            {data: header(func(h []byte) { clear(h[24:32]) }), problem: "size"},
		"cut off":            {data: header(nil)[:60], problem: "cut off"},
		"xz":                 {data: []byte("\xfd7zXZ\x00 and more"), problem: "unxz"},
		"text":               {data: []byte("hello\n"), problem: "neither"},
		"empty":              {data: nil, problem: "neither"},
		"raw, half a sector": {data: rawDisk(64<<10 + 100), problem: "neither"},
	} {
		format, virtual, err := detect(bytes.NewReader(tc.data), int64(len(tc.data)))
		if tc.problem != "" {
			if err == nil || !strings.Contains(err.Error(), tc.problem) {
				t.Errorf("%s: error %v, want %q in it", name, err, tc.problem)
			}
			continue
		}
		if err != nil || format != tc.format || virtual != tc.virtual {
			t.Errorf("%s: %s of %d bytes, %v", name, format, virtual, err)
		}
	}
}

// TestDetectAgreesWithQEMU checks against what qemu-img writes.
func TestDetectAgreesWithQEMU(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, "base.qcow2")
	create := func(args ...string) {
		err := run.Cmd{Path: "qemu-img", Args: append([]string{"create", "-q", "-f", "qcow2"}, args...)}.Run(t.Context())
		if err != nil {
			t.Skip(err)
		}
	}
	inspectErr := func(path string) string {
		m, err := inspect(path)
		if err != nil {
			return err.Error()
		}
		if m.Format != "qcow2" || m.Virtual != 3<<20 {
			t.Errorf("%s: %+v", path, m)
		}
		return ""
	}
	create(base, "3M")
	old, overlay, external := filepath.Join(dir, "old"), filepath.Join(dir, "overlay"), filepath.Join(dir, "external")
	create("-o", "compat=0.10", old, "3M")
	create("-F", "qcow2", "-b", base, overlay)
	create("-o", "data_file="+filepath.Join(dir, "data")+",data_file_raw=on", external, "3M")
	for path, want := range map[string]string{base: "", old: "", overlay: "backing file", external: "another file"} {
		if got := inspectErr(path); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", filepath.Base(path), got, want)
		}
	}
	if _, err := os.Stat(base); err != nil {
		t.Fatal(err)
	}
}

func FuzzDetect(f *testing.F) {
	f.Add(header(nil))
	f.Add(rawDisk(1024))
	f.Fuzz(func(t *testing.T, data []byte) {
		format, virtual, err := detect(bytes.NewReader(data), int64(len(data)))
		if err == nil && (virtual == 0 || format == "") {
			t.Errorf("accepted %q with %d bytes", format, virtual)
		}
	})
}
