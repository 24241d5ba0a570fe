package openvino

// #include <stdlib.h>
// #include "capi.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unsafe"

	"github.com/ovsactl/ovsactl/internal/inference"
)

var _ inference.Model = (*model)(nil)

// model is one that is compiled, and as many requests as it has use for at the same time:
// one for each of its streams, says OpenVINO. More would only wait, and take memory.
type model struct {
	api      *C.ovsa_api
	compiled *C.ov_compiled_model_t
	inputs   []inference.Port
	outputs  []inference.Port
	requests chan *C.ov_infer_request_t // those that are free; nil where one is to be made
}

// newModel is the model of what was compiled, which is its own even when it fails.
func newModel(api *C.ovsa_api, compiled *C.ov_compiled_model_t) (*model, error) {
	m := &model{api: api, compiled: compiled}
	err := m.describe()
	if err == nil {
		err = m.makeRequests()
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *model) describe() error {
	var inputs, outputs C.size_t
	if err := failure(C.ovsa_ports(m.api, m.compiled, &inputs, &outputs)); err != nil {
		return err
	}
	var err error
	if m.inputs, err = m.ports("input", 0, int(inputs)); err == nil {
		m.outputs, err = m.ports("output", 1, int(outputs))
	}
	return err
}

// ports are the inputs or, with output 1, the outputs.
func (m *model) ports(what string, output C.int, n int) ([]inference.Port, error) {
	all, names := make([]inference.Port, n), make([]string, n)
	for i := range all {
		p, err := m.port(output, i)
		if err != nil {
			return nil, fmt.Errorf("%s %d, %q: %w", what, i, p.Name, err)
		}
		all[i], names[i] = p, p.Name
	}
	prefix := map[C.int]string{0: "in", 1: "out"}[output]
	for i, name := range distinct(names, prefix) {
		all[i].Name = name
	}
	return all, nil
}

func (m *model) port(output C.int, at int) (inference.Port, error) {
	var c C.ovsa_port
	defer C.ovsa_port_free(&c)
	if err := failure(C.ovsa_describe(m.api, m.compiled, output, C.size_t(at), &c)); err != nil {
		return inference.Port{}, err
	}
	p := inference.Port{}
	if c.name != nil {
		p.Name = C.GoString(c.name)
	}
	var err error
	if p.Type, err = typeOf(uint32(c._type)); err != nil {
		return p, err
	}
	if c.rank < 0 {
		return p, errors.New("it may have any number of dimensions, which is not served; give the model's inputs a shape")
	}
	p.Shape = make([]int64, c.rank)
	for i, d := range unsafe.Slice(c.dims, c.rank) {
		p.Shape[i] = int64(d)
	}
	return p, nil
}

// maxRequests bounds what OpenVINO advises, which is one or some for each core.
const maxRequests = 1024

func (m *model) makeRequests() error {
	key := C.CString("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
	defer C.free(unsafe.Pointer(key))
	var value *C.char
	if err := failure(C.ovsa_get_compiled(m.api, m.compiled, key, &value)); err != nil {
		return err
	}
	advised := text(value)
	n, err := strconv.Atoi(advised)
	if err != nil || n < 1 || n > maxRequests {
		return fmt.Errorf("it advises %q requests at the same time", advised)
	}
	m.requests = make(chan *C.ov_infer_request_t, n)
	for range n {
		request, err := m.request()
		if err != nil {
			return err
		}
		m.requests <- request
	}
	return nil
}

func (m *model) request() (request *C.ov_infer_request_t, err error) {
	err = failure(C.ovsa_request(m.api, m.compiled, &request))
	return request, err
}

// Inputs are the model's.
func (m *model) Inputs() []inference.Port { return m.inputs }

// Outputs are the model's.
func (m *model) Outputs() []inference.Port { return m.outputs }

// Run waits for its turn, and ends early when ctx does.
func (m *model) Run(ctx context.Context, inputs []inference.Tensor, outputs []string) ([]inference.Tensor, error) {
	if len(inputs) != len(m.inputs) {
		return nil, fmt.Errorf("%w: the model has %d inputs, and was given %d", inference.ErrInvalid, len(m.inputs), len(inputs))
	}
	var request *C.ov_infer_request_t
	select {
	case request = <-m.requests:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { m.requests <- request }()
	var err error
	if request == nil {
		if request, err = m.request(); err != nil {
			return nil, err
		}
	}
	answer, err := m.run(ctx, request, inputs, outputs)
	if err != nil {
		// Nothing says what a request is good for that has failed: one for whose input
		// there was no memory has an input without any.
		C.ovsa_request_free(m.api, request)
		request = nil
	}
	return answer, err
}

func (m *model) run(ctx context.Context, request *C.ov_infer_request_t, inputs []inference.Tensor, outputs []string) ([]inference.Tensor, error) {
	for i, t := range inputs {
		if err := m.setInput(request, i, t); err != nil {
			return nil, fmt.Errorf("input %q: %w", m.inputs[i].Name, err)
		}
	}
	if err := m.infer(ctx, request); err != nil {
		return nil, err
	}
	answer := make([]inference.Tensor, 0, len(outputs))
	for _, name := range outputs {
		at := slices.IndexFunc(m.outputs, func(p inference.Port) bool { return p.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("%w: the model has no output %q", inference.ErrInvalid, name)
		}
		t, err := m.output(request, at)
		if err != nil {
			return nil, fmt.Errorf("output %q: %w", name, err)
		}
		answer = append(answer, t)
	}
	return answer, nil
}

// setInput copies an input to where OpenVINO has it: aligned as it wants it, and not the
// caller's memory, of which C may keep no address.
func (m *model) setInput(request *C.ov_infer_request_t, at int, t inference.Tensor) error {
	if err := t.Check(); err != nil { // before there is memory for it
		return err
	}
	dims := make([]C.int64_t, len(t.Shape))
	for i, d := range t.Shape {
		dims[i] = C.int64_t(d)
	}
	return failure(C.ovsa_set_input(m.api, request, C.size_t(at), C.int64_t(len(dims)), unsafe.SliceData(dims),
		unsafe.Pointer(unsafe.SliceData(t.Data)), C.size_t(len(t.Data))))
}

func (m *model) infer(ctx context.Context, request *C.ov_infer_request_t) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		C.ovsa_cancel(m.api, request)
	})
	err := failure(C.ovsa_infer(m.api, request))
	if !stop() {
		<-over // or it would cancel the next of this request
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (m *model) output(request *C.ov_infer_request_t, at int) (inference.Tensor, error) {
	var c C.ovsa_output
	defer C.ovsa_output_free(m.api, &c)
	if err := failure(C.ovsa_get_output(m.api, request, C.size_t(at), &c)); err != nil {
		return inference.Tensor{}, err
	}
	t := inference.Tensor{Name: m.outputs[at].Name, Type: m.outputs[at].Type, Shape: make([]int64, c.shape.rank), Data: make([]byte, c.size)}
	for i, d := range unsafe.Slice(c.shape.dims, c.shape.rank) {
		t.Shape[i] = int64(d)
	}
	copy(t.Data, unsafe.Slice((*byte)(c.data), c.size))
	if err := t.Check(); err != nil {
		return inference.Tensor{}, fmt.Errorf("it is not what its type says: %s", err.Error()) // no request is wrong, so not ErrInvalid
	}
	return t, nil
}

// Close frees the model.
func (m *model) Close() {
	for range len(m.requests) {
		if request := <-m.requests; request != nil {
			C.ovsa_request_free(m.api, request)
		}
	}
	C.ovsa_compiled_free(m.api, m.compiled)
}
