// Package python tests the example client that is written in Python.
package python

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
)

// interpreter is a Python with what requirements.txt names: `make demo-client` makes it.
func interpreter(t *testing.T) string {
	t.Helper()
	python, err := filepath.Abs("../../../bin/demo-client/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(python); err != nil {
		need.Absent(t, "demo-client", "there is no "+python+": make demo-client")
	}
	return python
}

func TestFaceDetection(t *testing.T) {
	if out, err := (run.Cmd{Path: interpreter(t), Args: []string{"-B", "face_detection_test.py"}}).Output(t.Context()); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestSaysWhatIsWrong: in a sentence, without a trace of Python's.
func TestSaysWhatIsWrong(t *testing.T) {
	python, dir := interpreter(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.png"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no pictures", []string{"--input_images_dir", t.TempDir()}, "has no picture"},
		{"no directory", []string{"--input_images_dir", "/nowhere"}, "look for pictures"},
		{"over the originals", []string{"--input_images_dir", dir, "--output_dir", dir}, "written over"},
		{"no certificates", []string{"--input_images_dir", dir, "--output_dir", t.TempDir(), "--tls", "--server_cert", "/nowhere"}, "/nowhere"},
		{"no server", []string{"--input_images_dir", dir, "--output_dir", t.TempDir(), "--grpc_port", "1", "--timeout", "5"}, "127.0.0.1"},
		{"no batch", []string{"--batch_size", "0"}, "is a number from 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := run.Cmd{Path: python, Args: append([]string{"-B", "face_detection.py", "--grpc_address", "127.0.0.1"}, tt.args...)}.Output(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "Traceback") {
				t.Errorf("got %v\n%s\nwant %q", err, out, tt.want)
			}
		})
	}
}
