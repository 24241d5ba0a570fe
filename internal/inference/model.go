// Package inference is what a model server is about: tensors, models, and which
// versions of them there are. It knows no protocol, and no library that runs models.
//
// Its words are those of the Open Inference Protocol, version 2:
// https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
package inference

import (
	"context"
	"fmt"
	"slices"
)

// Port is an input or an output of a model.
type Port struct {
	Name  string
	Type  Type
	Shape []int64 // -1 for a dimension of any size
}

// Model is one that is loaded. Its methods may be called at the same time.
type Model interface {
	Inputs() []Port
	Outputs() []Port
	// Run computes the named outputs, in this order. The inputs are what Inputs says,
	// in its order. Data that it returns is the caller's; it keeps none of the inputs'.
	Run(ctx context.Context, inputs []Tensor, outputs []string) ([]Tensor, error)
	// Close frees what it takes. Nothing may run then.
	Close()
}

// Runtime is a library that runs models.
type Runtime interface {
	// Name is the library's and its version: "onnxruntime 1.21.0".
	Name() string
	// Load loads the model of a directory. What it does not know is ErrUnknownModel.
	Load(dir string) (Model, error)
}

// Arrange brings a request's inputs into the order of a model's, and says what is wrong
// with them: ErrInvalid.
func Arrange(ports []Port, given []Tensor) ([]Tensor, error) {
	all := make([]Tensor, len(ports))
	for i, p := range ports {
		at := slices.IndexFunc(given, func(t Tensor) bool { return t.Name == p.Name })
		if at < 0 {
			return nil, fmt.Errorf("%w: input %q is missing; the model's are %s", ErrInvalid, p.Name, names(ports))
		}
		if err := p.takes(given[at]); err != nil {
			return nil, err
		}
		all[i] = given[at]
	}
	for i, t := range given {
		if !slices.ContainsFunc(ports, func(p Port) bool { return p.Name == t.Name }) {
			return nil, fmt.Errorf("%w: the model has no input %q; its are %s", ErrInvalid, t.Name, names(ports))
		}
		if slices.ContainsFunc(given[:i], func(other Tensor) bool { return other.Name == t.Name }) {
			return nil, fmt.Errorf("%w: input %q is there twice", ErrInvalid, t.Name)
		}
	}
	return all, nil
}

// takes says whether a tensor may be given to an input.
func (p Port) takes(t Tensor) error {
	switch {
	case t.Type != p.Type:
		return fmt.Errorf("%w: input %q is of type %s, and was given %s", ErrInvalid, p.Name, p.Type, t.Type)
	case len(t.Shape) != len(p.Shape):
		return fmt.Errorf("%w: input %q has %d dimensions, %v, and was given %d, %v", ErrInvalid, p.Name, len(p.Shape), p.Shape, len(t.Shape), t.Shape)
	}
	for i, d := range p.Shape {
		if d >= 0 && t.Shape[i] != d {
			return fmt.Errorf("%w: input %q has shape %v, and was given %v", ErrInvalid, p.Name, p.Shape, t.Shape)
		}
	}
	return t.Check()
}

// Select are the names of the outputs that a request wants; all where it names none.
func Select(ports []Port, wanted []string) ([]string, error) {
	if len(wanted) == 0 {
		for _, p := range ports {
			wanted = append(wanted, p.Name)
		}
		return wanted, nil
	}
	for i, w := range wanted {
		if !slices.ContainsFunc(ports, func(p Port) bool { return p.Name == w }) {
			return nil, fmt.Errorf("%w: the model has no output %q; its are %s", ErrInvalid, w, names(ports))
		}
		if slices.Contains(wanted[:i], w) {
			return nil, fmt.Errorf("%w: output %q is wanted twice", ErrInvalid, w)
		}
	}
	return wanted, nil
}

func names(ports []Port) []string {
	var all []string
	for _, p := range ports {
		all = append(all, fmt.Sprintf("%q", p.Name))
	}
	return all
}
