// Package openvino runs models with OpenVINO: IR (.xml with .bin), ONNX and TensorFlow
// Lite. The library is found and loaded when [Open] is called, and nothing of it is
// needed to build.
//
// Nothing of a model is written anywhere: the cache of compiled models is off. Weights are
// read, and not mapped: a page that cannot be read would be a signal that ends the
// process and all its models, where a read is an error that one of them has.
package openvino

// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "capi.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/cpu"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/inference"
)

// Options says how models run. Its zero value is what OpenVINO itself does: one stream
// that has all cores, so that each request is answered as soon as it can be.
type Options struct {
	// Libraries is the directory of libopenvino_c.so; where it is "", those are searched
	// where a distribution's, Intel's and our own packages have them.
	Libraries string
	// Streams is how many requests of a model run at the same time, each on its part of
	// the cores.
	Streams int
	// Threads is how many cores a model has.
	Threads int
	// Precision is that in which models of FP32 are computed, "f32" or "bf16". OpenVINO's
	// own choice is bf16 where the processor has instructions for it: faster, and less
	// exact.
	Precision string
}

var _ inference.Runtime = (*Runtime)(nil)

// Runtime is an OpenVINO that is loaded. It loads models at the same time.
type Runtime struct {
	api  *C.ovsa_api
	core *C.ov_core_t
	name string
}

const (
	device  = "CPU"
	anyUnit = "" // all devices, and what reads models
)

// Open finds the library and loads it: ErrNotInstalled, with what was searched.
func Open(opts Options) (*Runtime, error) {
	if err := checkMachine(); err != nil {
		return nil, err
	}
	dirs := searched(opts.Libraries)
	var refused []error
	for _, dir := range dirs {
		for _, path := range libraries(dir) {
			api, err := load(path)
			if err != nil {
				refused = append(refused, fmt.Errorf("%s: %w", path, err))
				continue
			}
			r := &Runtime{api: api}
			if err := r.start(opts); err != nil {
				r.Close()
				return nil, fmt.Errorf("start OpenVINO of %s: %w", path, err)
			}
			return r, nil
		}
	}
	return nil, notFound(dirs, refused)
}

// checkMachine looks for what OpenVINO does not look for itself.
func checkMachine() error {
	// Without, it computes some things wrong, and others are an illegal instruction.
	if !cpu.X86.HasSSE42 {
		return hint.Wrap(errors.New("the processor has no SSE4.2, and OpenVINO needs it"), "give the guest its host's processor, or use another runtime")
	}
	// It counts processors by one of these, and for ever where there is none of them.
	_, err := os.Stat("/sys/devices/system/cpu/cpu0")
	_, err2 := os.Stat("/proc/cpuinfo")
	if err != nil && err2 != nil {
		return fmt.Errorf("OpenVINO cannot see the machine's processors: %w", errors.Join(err, err2))
	}
	return nil
}

// load loads a library that is what we know.
func load(path string) (*C.ovsa_api, error) {
	if err := usable(path); err != nil {
		return nil, err
	}
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var api *C.ovsa_api
	if err := failure(C.ovsa_open(name, &api)); err != nil {
		return nil, err
	}
	// The types' numbers have changed once. With others the answers would be wrong.
	for number, t := range elementTypes {
		if t.served == 0 {
			continue
		}
		var size C.size_t
		err := failure(C.ovsa_type_size(api, C.ov_element_type_e(number), &size))
		if err == nil && int(size) != t.served.Size() {
			err = fmt.Errorf("an element has %d bytes", size)
		}
		if err != nil {
			C.ovsa_close(api)
			return nil, fmt.Errorf("its type %d is not %s: %w", number, t.name, err)
		}
	}
	return api, nil
}

func (r *Runtime) start(opts Options) error {
	var build *C.char
	if err := failure(C.ovsa_version(r.api, &build)); err != nil {
		return err
	}
	number, _, _ := strings.Cut(text(build), "-") // 2026.4.1-22982-e213a147257-releases/2026/4
	r.name = "OpenVINO " + number
	on := C.CString(device)
	defer C.free(unsafe.Pointer(on))
	if err := failure(C.ovsa_core(r.api, on, &r.core)); err != nil {
		return err
	}
	for _, p := range opts.properties() {
		if err := r.set(p.device, p.key, p.value); err != nil {
			return fmt.Errorf("set %s to %q: %w", p.key, p.value, err)
		}
	}
	return nil
}

type property struct{ device, key, value string }

func (o Options) properties() []property {
	all := []property{
		{anyUnit, "CACHE_DIR", ""},
		{anyUnit, "ENABLE_MMAP", "NO"},
	}
	if o.Streams > 0 {
		all = append(all, property{device, "NUM_STREAMS", strconv.Itoa(o.Streams)})
	}
	if o.Threads > 0 {
		all = append(all, property{device, "INFERENCE_NUM_THREADS", strconv.Itoa(o.Threads)})
	}
	if o.Precision != "" {
		all = append(all, property{device, "INFERENCE_PRECISION_HINT", o.Precision})
	}
	return all
}

func (r *Runtime) set(device, key, value string) error {
	var args [3]*C.char
	for i, s := range []string{device, key, value} {
		args[i] = C.CString(s)
		defer C.free(unsafe.Pointer(args[i]))
	}
	return failure(C.ovsa_set(r.api, r.core, args[0], args[1], args[2]))
}

// Name is "OpenVINO 2026.4.1".
func (r *Runtime) Name() string { return r.name }

// Load loads the model of a directory: the one .xml (with the .bin of its name), .onnx or
// .tflite that is in it.
func (r *Runtime) Load(dir string) (inference.Model, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for a model: %w", err)
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	file, weights, err := modelFile(names)
	if err != nil {
		return nil, err
	}
	compiled, err := r.compile(dir, file, weights)
	if err != nil {
		return nil, fmt.Errorf("load %q: %w", file, err)
	}
	m, err := newModel(r.api, compiled)
	if err != nil {
		return nil, fmt.Errorf("load %q: %w", file, err)
	}
	return m, nil
}

func (r *Runtime) compile(dir, file, weights string) (*C.ov_compiled_model_t, error) {
	on, path, bin := C.CString(device), C.CString(filepath.Join(dir, file)), (*C.char)(nil)
	defer C.free(unsafe.Pointer(on))
	defer C.free(unsafe.Pointer(path))
	if weights != "" {
		bin = C.CString(filepath.Join(dir, weights))
		defer C.free(unsafe.Pointer(bin))
	}
	var compiled *C.ov_compiled_model_t
	err := failure(C.ovsa_compile(r.api, r.core, on, path, bin, &compiled))
	return compiled, err
}

// Close gives back what the runtime has, but for the library itself. Its models are to be
// closed before.
func (r *Runtime) Close() {
	if r.core != nil {
		C.ovsa_core_free(r.api, r.core)
	}
	C.ovsa_close(r.api)
}

// text takes a text of C's.
func text(s *C.char) string {
	defer C.free(unsafe.Pointer(s))
	return C.GoString(s)
}

// failure is the error that a call of capi.h has returned.
func failure(message *C.char) error {
	if message == nil {
		return nil
	}
	return errors.New(plain(text(message)))
}

// maxMessage is how much of a message is shown: some list all that a model has.
const maxMessage = 600

// plain is what a message of OpenVINO's says, in one line and without the places in its
// sources that it begins with.
func plain(message string) string {
	var parts []string
	for line := range strings.Lines(message) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "Exception from ") {
			parts = append(parts, line)
		}
	}
	if len(parts) == 0 {
		return strings.TrimSpace(message)
	}
	all := strings.ToValidUTF8(strings.Join(parts, " "), "?")
	if len(all) > maxMessage {
		all = strings.ToValidUTF8(all[:maxMessage], "") + "..."
	}
	return all
}
