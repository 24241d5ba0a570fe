package roles

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions is what an expression can call. All are pure but file, which reads
// below dir or wherever its path leads.
func functions(dir string, sources map[string][]byte) map[string]function.Function {
	return map[string]function.Function{
		"coalesce":   stdlib.CoalesceFunc,
		"concat":     stdlib.ConcatFunc,
		"contains":   stdlib.ContainsFunc,
		"file":       fileFunction(dir, sources),
		"join":       bounded(stdlib.JoinFunc),
		"keys":       stdlib.KeysFunc,
		"length":     stdlib.LengthFunc,
		"lookup":     stdlib.LookupFunc,
		"lower":      stdlib.LowerFunc,
		"max":        stdlib.MaxFunc,
		"merge":      stdlib.MergeFunc,
		"min":        stdlib.MinFunc,
		"replace":    bounded(stdlib.ReplaceFunc),
		"split":      stdlib.SplitFunc,
		"trimprefix": stdlib.TrimPrefixFunc,
		"trimspace":  stdlib.TrimSpaceFunc,
		"trimsuffix": stdlib.TrimSuffixFunc,
		"upper":      stdlib.UpperFunc,
		"values":     stdlib.ValuesFunc,
	}
}

// fileFunction reads a text file of at most 64 KiB. It refuses a sensitive
// path, since its errors name the path.
func fileFunction(dir string, sources map[string][]byte) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String, AllowMarked: true}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if args[0].IsMarked() {
				return cty.NilVal, errors.New("the path cannot be sensitive")
			}
			path := args[0].AsString()
			if !filepath.IsAbs(path) {
				path = filepath.Join(dir, path)
			}
			text, err := readText(path, sources)
			if err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(text), nil
		},
	})
}

func readText(path string, sources map[string][]byte) (string, error) {
	src, ok := sources[path]
	if !ok {
		// A FIFO or a device would block or never end.
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		if !info.Mode().IsRegular() {
			return "", fmt.Errorf("%q is not a regular file", path)
		}
		if src, err = readLimited(path, maxValue); err != nil {
			return "", err
		}
	}
	if len(src) > maxValue {
		return "", fmt.Errorf("%q is larger than 64 KiB", path)
	}
	if !utf8.Valid(src) {
		return "", fmt.Errorf("%q is not UTF-8 text", path)
	}
	return string(src), nil
}

// bounded refuses arguments whose product is out of proportion: the result of
// these functions grows with it.
func bounded(f function.Function) function.Function {
	return function.New(&function.Spec{
		Params:   f.Params(),
		VarParam: f.VarParam(),
		Type:     f.ReturnTypeForValues,
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			product := 1
			for _, a := range args {
				product *= 1 + maxValue - max(weight(a, maxValue), 0)
				if product > 64*maxValue {
					return cty.NilVal, errors.New("the result would be too large")
				}
			}
			return f.Call(args)
		},
	})
}
