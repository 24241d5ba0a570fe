// Package onnxruntime runs ONNX models with ONNX Runtime, whose library it loads when
// it is opened: Debian's libonnxruntime1.21, or another that has its interface of
// version 21 or later. https://onnxruntime.ai/docs/api/c/
package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"
	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/inference"
)

// libraries are what the library is called, the preferred first.
func libraries() []string {
	return []string{"libonnxruntime.so.1.21", "libonnxruntime.so.1", "libonnxruntime.so"}
}

// Runtime is the library. A process has one.
type Runtime struct {
	threads int
}

// Options are what a runtime is opened with.
type Options struct {
	Library string // its path; "" for the system's
	Threads int    // of one model, at most; 0 for one for each core
}

// Open loads the library. It fails where it is open already.
func Open(o Options) (*Runtime, error) {
	names := libraries()
	if o.Library != "" {
		names = []string{o.Library}
	}
	var errs []error
	for _, name := range names {
		ort.SetSharedLibraryPath(name)
		err := quietly(func() error { return ort.InitializeEnvironment(ort.WithLogLevelError()) })
		if err == nil {
			if o.Threads == 0 {
				o.Threads = runtime.GOMAXPROCS(0)
			}
			return &Runtime{o.Threads}, nil
		}
		errs = append(errs, err)
	}
	return nil, hint.Wrap(fmt.Errorf("load ONNX Runtime: %w", errors.Join(errs...)), "apt-get install libonnxruntime1.21 (Debian 13), or name the library's path")
}

// quietly calls f while nobody hears what this process says: Debian's library says of each
// of its operators that it is registered twice. What is wrong f returns.
func quietly(f func() error) error {
	const stderr = 2
	nowhere, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer nowhere.Close()
	kept, err := unix.FcntlInt(stderr, unix.F_DUPFD_CLOEXEC, stderr+1)
	if err != nil {
		return fmt.Errorf("keep standard error: %w", err)
	}
	defer unix.Close(kept)
	if err := unix.Dup3(int(nowhere.Fd()), stderr, 0); err != nil {
		return fmt.Errorf("be quiet: %w", err)
	}
	failed := f()
	if err := unix.Dup3(kept, stderr, 0); err != nil {
		return fmt.Errorf("say on: %w", err)
	}
	return failed
}

// Close unloads the library. No model of it may be open then.
func (r *Runtime) Close() error { return ort.DestroyEnvironment() }

// Name implements inference.Runtime.
func (r *Runtime) Name() string { return "onnxruntime " + ort.GetVersion() }

// Load implements inference.Runtime: the model is the one file NAME.onnx.
func (r *Runtime) Load(dir string) (loaded inference.Model, err error) {
	path, err := find(dir)
	if err != nil {
		return nil, err
	}
	// The library for Go panics over ports of no dimension.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("load %q: the library fails: %v", filepath.Base(path), p)
		}
	}()
	m := &model{}
	if err := m.describe(path); err != nil {
		return nil, fmt.Errorf("load %q: %w", filepath.Base(path), err)
	}
	options, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	if err := options.SetIntraOpNumThreads(r.threads); err != nil {
		return nil, err
	}
	var inputs, outputs []string
	for _, p := range m.inputs {
		inputs = append(inputs, p.Name)
	}
	for _, p := range m.outputs {
		outputs = append(outputs, p.Name)
	}
	if m.session, err = ort.NewDynamicAdvancedSession(path, inputs, outputs, options); err != nil {
		return nil, fmt.Errorf("load %q: %w", filepath.Base(path), err)
	}
	return m, nil
}

// find is the model's file in a directory.
func find(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var all, models []string
	for _, e := range entries {
		all = append(all, e.Name())
		if strings.HasSuffix(e.Name(), ".onnx") && e.Type()&fs.ModeDir == 0 {
			models = append(models, e.Name())
		}
	}
	if len(models) > 1 && slices.Contains(models, "model.onnx") {
		models = []string{"model.onnx"}
	}
	if len(models) != 1 {
		return "", fmt.Errorf("%w: ONNX Runtime takes one file NAME.onnx, or model.onnx among several, and there are %q", inference.ErrUnknownModel, all)
	}
	return filepath.Join(dir, models[0]), nil
}

// model is one that is loaded.
type model struct {
	inputs, outputs []inference.Port
	session         *ort.DynamicAdvancedSession
}

// describe says what a model takes and gives.
func (m *model) describe(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var complete bool
	if m.inputs, m.outputs, complete, err = signature(file); err != nil {
		return fmt.Errorf("%w: %w", inference.ErrUnknownModel, err)
	}
	if !complete {
		inputs, outputs, err := ort.GetInputOutputInfo(path)
		if err != nil {
			return err
		}
		m.inputs, m.outputs = ports(inputs), ports(outputs)
	}
	if len(m.inputs) == 0 || len(m.outputs) == 0 {
		return fmt.Errorf("%w: it has no input, or no output", inference.ErrUnknownModel)
	}
	for _, p := range append(slices.Clone(m.inputs), m.outputs...) {
		if err := serves(p); err != nil {
			return err
		}
	}
	for _, p := range m.outputs {
		if !native(p.Type) && slices.Contains(p.Shape, -1) {
			return fmt.Errorf("%w: output %q is of type %s, and the library for Go gives those only where their size is known before, and not %v", inference.ErrUnknownModel, p.Name, p.Type, p.Shape)
		}
	}
	return nil
}

// serves says whether a port can be given over a network, and by the library for Go.
func serves(p inference.Port) error {
	switch {
	case p.Type == 0 || p.Type == inference.Bytes:
		return fmt.Errorf("%w: %q is no tensor of numbers", inference.ErrUnknownModel, p.Name)
	case len(p.Shape) == 0:
		return fmt.Errorf("%w: %q has no dimensions, and the library for Go wants one", inference.ErrUnknownModel, p.Name)
	}
	return nil
}

func ports(all []ort.InputOutputInfo) []inference.Port {
	var ps []inference.Port
	for _, info := range all {
		p := inference.Port{Name: info.Name, Shape: info.Dimensions}
		if info.OrtValueType == ort.ONNXTypeTensor {
			p.Type = typeOf(uint64(info.DataType))
		}
		ps = append(ps, p)
	}
	return ps
}

// onnxTypes are the library's and the format's types, which are the same numbers.
func onnxTypes() map[inference.Type]ort.TensorElementDataType {
	return map[inference.Type]ort.TensorElementDataType{
		inference.Bool:     ort.TensorElementDataTypeBool,
		inference.Uint8:    ort.TensorElementDataTypeUint8,
		inference.Uint16:   ort.TensorElementDataTypeUint16,
		inference.Uint32:   ort.TensorElementDataTypeUint32,
		inference.Uint64:   ort.TensorElementDataTypeUint64,
		inference.Int8:     ort.TensorElementDataTypeInt8,
		inference.Int16:    ort.TensorElementDataTypeInt16,
		inference.Int32:    ort.TensorElementDataTypeInt32,
		inference.Int64:    ort.TensorElementDataTypeInt64,
		inference.Float16:  ort.TensorElementDataTypeFloat16,
		inference.BFloat16: ort.TensorElementDataTypeBFloat16,
		inference.Float32:  ort.TensorElementDataTypeFloat,
		inference.Float64:  ort.TensorElementDataTypeDouble,
		inference.Bytes:    ort.TensorElementDataTypeString,
	}
}

// typeOf is a type of the format's; 0 for one that is not served.
func typeOf(elem uint64) inference.Type {
	for t, number := range onnxTypes() {
		if uint64(number) == elem {
			return t
		}
	}
	return 0
}

// native says whether the library for Go gives an output of a type whole.
func native(t inference.Type) bool { return t != inference.Float16 && t != inference.BFloat16 }

// Inputs implements inference.Model.
func (m *model) Inputs() []inference.Port { return m.inputs }

// Outputs implements inference.Model.
func (m *model) Outputs() []inference.Port { return m.outputs }

// Close implements inference.Model.
func (m *model) Close() { m.session.Destroy() }

// Run implements inference.Model. What has begun is not broken off.
func (m *model) Run(ctx context.Context, inputs []inference.Tensor, outputs []string) (answer []inference.Tensor, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// The library for Go panics over outputs of no dimension.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the library fails: %v", p)
		}
	}()
	var pins runtime.Pinner // the library keeps addresses of what Go has
	defer pins.Unpin()
	of := onnxTypes()
	in, out := make([]ort.Value, len(inputs)), make([]ort.Value, len(m.outputs))
	defer destroy(in)
	defer destroy(out)
	for i, t := range inputs {
		if len(t.Data) == 0 {
			return nil, fmt.Errorf("%w: input %q is empty", inference.ErrInvalid, t.Name)
		}
		data := aligned(t.Data, t.Type.Size())
		pins.Pin(&data[0])
		if in[i], err = ort.NewCustomDataTensor(t.Shape, data, of[t.Type]); err != nil {
			return nil, err
		}
	}
	for i, p := range m.outputs {
		if native(p.Type) {
			continue
		}
		n, err := inference.Elements(p.Shape)
		if err != nil {
			return nil, err
		}
		data := make([]byte, n*int64(p.Type.Size()))
		pins.Pin(&data[0])
		if out[i], err = ort.NewCustomDataTensor(p.Shape, data, of[p.Type]); err != nil {
			return nil, err
		}
	}
	if err := m.session.Run(in, out); err != nil {
		return nil, err
	}
	for _, name := range outputs {
		i := slices.IndexFunc(m.outputs, func(p inference.Port) bool { return p.Name == name })
		t, err := tensor(m.outputs[i], out[i])
		if err != nil {
			return nil, err
		}
		answer = append(answer, t)
	}
	return answer, nil
}

func destroy(values []ort.Value) {
	for _, v := range values {
		if v != nil {
			v.Destroy()
		}
	}
}

// tensor is what the library gave. Its data are Go's, and stay.
func tensor(p inference.Port, v ort.Value) (inference.Tensor, error) {
	t := inference.Tensor{Name: p.Name, Type: p.Type, Shape: v.GetShape()}
	switch v := v.(type) {
	case *ort.CustomDataTensor:
		t.Data = v.GetData()
	case *ort.Tensor[bool]:
		t.Data = raw(v.GetData())
	case *ort.Tensor[uint8]:
		t.Data = v.GetData()
	case *ort.Tensor[uint16]:
		t.Data = raw(v.GetData())
	case *ort.Tensor[uint32]:
		t.Data = raw(v.GetData())
	case *ort.Tensor[uint64]:
		t.Data = raw(v.GetData())
	case *ort.Tensor[int8]:
		t.Data = raw(v.GetData())
	case *ort.Tensor[int16]:
		t.Data = raw(v.GetData())
	case *ort.Tensor[int32]:
		t.Data = raw(v.GetData())
	case *ort.Tensor[int64]:
		t.Data = raw(v.GetData())
	case *ort.Tensor[float32]:
		t.Data = raw(v.GetData())
	case *ort.Tensor[float64]:
		t.Data = raw(v.GetData())
	default:
		return t, fmt.Errorf("output %q is no tensor", p.Name)
	}
	return t, t.Check()
}

// raw are the bytes of numbers, in this machine's order: x86-64's is little endian.
func raw[T any](data []T) []byte {
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(data))), len(data)*int(unsafe.Sizeof(zero)))
}

// aligned is data at an address that is a multiple of an element's size.
func aligned(data []byte, size int) []byte {
	if uintptr(unsafe.Pointer(unsafe.SliceData(data)))%uintptr(size) == 0 {
		return data
	}
	return slices.Clone(data) // which is aligned, as the allocator's are from 8 bytes on
}

var (
	_ inference.Runtime = (*Runtime)(nil)
	_ inference.Model   = (*model)(nil)
)
