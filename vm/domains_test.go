package vm

import (
	"errors"
	"testing"

	"libvirt.org/go/libvirt"
)

// TestValidated: libvirt is asked again where it could not read its own schema, and
// not for ever.
func TestValidated(t *testing.T) {
	schema := libvirt.Error{Code: libvirt.ERR_INTERNAL_ERROR, Message: "internal error: Unable to parse RNG /usr/share/libvirt/schemas/domain.rng: Error type 'string' is not exported"}
	for name, tt := range map[string]struct {
		errs  []error // of one attempt after another
		asked int
		fails bool
	}{
		"well at once":         {[]error{nil}, 1, false},
		"the schema once":      {[]error{schema, nil}, 2, false},
		"the schema for ever":  {[]error{schema, schema, schema, nil}, 3, true},
		"another error":        {[]error{libvirt.Error{Code: libvirt.ERR_XML_ERROR, Message: "Unable to parse RNG"}, nil}, 1, true},
		"an internal error":    {[]error{libvirt.Error{Code: libvirt.ERR_INTERNAL_ERROR, Message: "no"}, nil}, 1, true},
		"an error of our own":  {[]error{errors.New("Unable to parse RNG"), nil}, 1, true},
		"the schema, and more": {[]error{schema, errors.New("no"), nil}, 2, true},
	} {
		asked := 0
		_, err := validated(func() (*libvirt.Domain, error) {
			asked++
			return nil, tt.errs[asked-1]
		})
		if asked != tt.asked || (err != nil) != tt.fails {
			t.Errorf("%s: asked %d times, %v", name, asked, err)
		}
	}
}
