package ovsatool

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/ovsactl/ovsactl/internal/visible"
)

// rows are what inspect shows, in an order: the same for people and as JSON.
type rows []row

// row is a name, in lower case with underscores, and a value: a string, a number,
// a list of strings, rows, or a list of rows.
type row struct {
	name  string
	value any
}

// MarshalJSON writes an object with the rows' order.
func (r rows) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// write writes rows for people, each level two spaces further in.
func (r rows) write(w io.Writer, indent string) {
	width := 0
	for _, f := range r {
		switch f.value.(type) {
		case rows, []rows:
		default:
			width = max(width, len(f.name))
		}
	}
	for _, f := range r {
		label := strings.ReplaceAll(f.name, "_", " ")
		switch v := f.value.(type) {
		case rows:
			fmt.Fprintf(w, "%s%s:\n", indent, label)
			v.write(w, indent+"  ")
		case []rows:
			for i, each := range v {
				fmt.Fprintf(w, "%s%s %d:\n", indent, label, i+1)
				each.write(w, indent+"  ")
			}
		case []string:
			fmt.Fprintf(w, "%s%-*s %s\n", indent, width+1, label+":", visible.Line(strings.Join(v, ", ")))
		default:
			fmt.Fprintf(w, "%s%-*s %s\n", indent, width+1, label+":", visible.Line(fmt.Sprint(v)))
		}
	}
}

// name is whose certificate it is.
func name(c *x509.Certificate) string { return visible.Line(c.Subject.String()) }
