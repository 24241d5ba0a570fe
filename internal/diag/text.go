package diag

import (
	"io"

	"github.com/hashicorp/hcl/v2"
)

// Style is how text is fitted to where it goes. The zero Style is for pipes.
type Style struct {
	Width int // columns to wrap at; 0 does not wrap
	Color bool
}

// Text writes diags for people.
func Text(w io.Writer, files map[string]*hcl.File, diags hcl.Diagnostics, style Style) error {
	return hcl.NewDiagnosticTextWriter(w, files, uint(style.Width), style.Color).WriteDiagnostics(diags)
}
