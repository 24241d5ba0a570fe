package openvino

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/inference"
)

func TestWhichFileIsTheModel(t *testing.T) {
	for _, tt := range []struct {
		names          string
		model, weights string
		fails          string
	}{
		{names: "model.xml model.bin", model: "model.xml", weights: "model.bin"},
		{names: "a.bin a.xml b.bin labels.txt", model: "a.xml", weights: "a.bin"},
		{names: "Face.XML Face.bin", model: "Face.XML", weights: "Face.bin"},
		{names: "model.xml", model: "model.xml"}, // one without constants
		{names: "net.onnx net.onnx.data", model: "net.onnx"},
		{names: "net.tflite README", model: "net.tflite"},
		{names: ".hidden.xml net.tflite", model: "net.tflite"},
		{names: "", fails: "here is nothing"},
		{names: "saved_model.pb variables/", fails: `here is "saved_model.pb", "variables/"`},
		{names: "model.xml/ model.bin", fails: `here is "model.bin", "model.xml/"`}, // a directory is no model
		{names: "model.bin", fails: `here is "model.bin"`},
		{names: "a.xml b.onnx a.bin", fails: `which of "a.xml", "b.onnx" is it?`},
		{names: "a.onnx b.onnx", fails: `which of "a.onnx", "b.onnx" is it?`},
		{names: strings.Repeat("x ", 20), fails: "and 8 more"},
	} {
		model, weights, err := modelFile(strings.Fields(tt.names))
		if tt.fails != "" {
			if !errors.Is(err, inference.ErrUnknownModel) || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%q: %v, want %q", tt.names, err, tt.fails)
			}
		} else if err != nil || model != tt.model || weights != tt.weights {
			t.Errorf("%q: %q, %q, %v", tt.names, model, weights, err)
		}
	}
}

func TestTypesOfNumbers(t *testing.T) {
	seen := map[inference.Type]bool{}
	for number, want := range map[uint32]inference.Type{1: inference.Bool, 2: inference.BFloat16, 3: inference.Float16, 4: inference.Float32, 16: inference.Uint8} {
		if got, err := typeOf(number); got != want || err != nil {
			t.Errorf("%d: %v, %v", number, got, err)
		}
	}
	for number := range uint32(100) {
		got, err := typeOf(number)
		switch {
		case err != nil && !strings.Contains(err.Error(), "not served"):
			t.Errorf("%d: %v", number, err)
		case err == nil && (seen[got] || got.Size() == 0):
			t.Errorf("%d is %v again, or has no size", number, got)
		}
		seen[got] = true
	}
	if len(seen) != 14 { // all of ours but texts, and none
		t.Errorf("%d types", len(seen))
	}
	if _, err := typeOf(6); err == nil || !strings.Contains(err.Error(), "type i4") {
		t.Errorf("i4: %v", err)
	}
}

func TestPortsHaveDistinctNames(t *testing.T) {
	for _, tt := range []struct{ names, want []string }{
		{[]string{"a", "b"}, []string{"a", "b"}},
		{[]string{"", "b", ""}, []string{"out_0", "b", "out_2"}},
		{[]string{"a", "a", "a"}, []string{"a", "out_1.1", "out_2.1"}},
		{[]string{"", "out_0"}, []string{"out_0.1", "out_0"}},
		{nil, []string{}},
	} {
		if got := distinct(tt.names, "out"); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.names, got, tt.want)
		}
	}
}

func TestVersionOfALibrary(t *testing.T) {
	for soname, want := range map[string]string{
		"libopenvino_c.so.2641": "2026.4.1", "libopenvino_c.so.2500": "2025.0.0",
		"libopenvino_c.so": "", "libopenvino_c.so.2023.3.0": "", "libopenvino.so.2641": "", "libopenvino_c.so.26410": "",
	} {
		v, known := sonameVersion(soname)
		if known != (want != "") || known && v.String() != want {
			t.Errorf("%q: %v, %v", soname, v, known)
		}
	}
}

func TestMessagesAreOneLine(t *testing.T) {
	for message, want := range map[string]string{
		"Exception from src/a.cpp:1:\nException from src/b.cpp:2:\nNo such file\n\n": "No such file",
		"one\ntwo":                  "one two",
		"Exception from src/a.cpp:": "Exception from src/a.cpp:",
		"\xff":                      "?",
	} {
		if got := plain(message); got != want {
			t.Errorf("%q: %q", message, got)
		}
	}
	if got := plain(strings.Repeat("é", 1000)); len(got) > maxMessage+len("...") || !strings.HasSuffix(got, "é...") {
		t.Errorf("a long one ends in %q", got[len(got)-9:])
	}
}

// What is no OpenVINO, or too old, is passed over, and said.
func TestNoLibraryThatCanBeUsed(t *testing.T) {
	empty, garbage := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(garbage, "libopenvino_c.so.2641"), []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{empty: empty, garbage: "libopenvino_c.so.2641: it is no library"} {
		_, err := Open(Options{Libraries: dir})
		if !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), want) || hint.Of(err) == "" {
			t.Errorf("%v, want %q", err, want)
		}
	}
	dirs := searched("")
	for _, dir := range []string{"/usr/lib/x86_64-linux-gnu", Component} {
		if !slices.Contains(dirs, dir) {
			t.Errorf("%s is not searched, but %v", dir, dirs)
		}
	}
	if dirs[len(dirs)-1] != Component {
		t.Errorf("our own is not the last of %v", dirs)
	}
}

func TestNewestLibraryFirst(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"libopenvino_c.so.2600", "libopenvino_c.so.2641"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("libopenvino_c.so.2600", filepath.Join(dir, "libopenvino_c.so")); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range libraries(dir) {
		names = append(names, filepath.Base(path))
	}
	if want := []string{"libopenvino_c.so.2641", "libopenvino_c.so.2600"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
}
