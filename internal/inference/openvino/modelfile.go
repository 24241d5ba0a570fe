package openvino

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// modelFile is which of a directory's files is the model, and which has its weights, ""
// where none is beside it. A name with a slash at its end is a directory's. Where there
// is no model, or more than one, it is inference.ErrUnknownModel.
func modelFile(names []string) (model, weights string, err error) {
	var models []string
	for _, name := range names {
		switch strings.ToLower(path.Ext(name)) {
		case ".xml", ".onnx", ".tflite":
			if !strings.HasPrefix(name, ".") {
				models = append(models, name)
			}
		}
	}
	switch len(models) {
	case 1:
	case 0:
		return "", "", fmt.Errorf("%w: it is one .xml with its .bin, one .onnx or one .tflite, and here is %s", inference.ErrUnknownModel, list(names))
	default:
		return "", "", fmt.Errorf("%w: which of %s is it?", inference.ErrUnknownModel, list(models))
	}
	model = models[0]
	if bin := strings.TrimSuffix(model, path.Ext(model)) + ".bin"; strings.EqualFold(path.Ext(model), ".xml") && slices.Contains(names, bin) {
		weights = bin
	}
	return model, weights, nil
}

// maxListed is how many names a message has at most.
const maxListed = 12

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	names = slices.Sorted(slices.Values(names))
	var quoted []string
	for _, n := range names[:min(len(names), maxListed)] {
		quoted = append(quoted, fmt.Sprintf("%q", n))
	}
	if len(names) > maxListed {
		quoted = append(quoted, fmt.Sprintf("and %d more", len(names)-maxListed))
	}
	return strings.Join(quoted, ", ")
}
