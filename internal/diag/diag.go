// Package diag shows problems of a user's files: sorted, with the source line
// they are about, as text for terminals and pipes and as JSON for programs.
// A problem of the world (a process, a network) is an error and not one of these.
package diag

import (
	"cmp"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// Sort orders diags for people, and the same in every run: errors before
// warnings, then by file and byte offset, then by their text.
func Sort(diags hcl.Diagnostics) {
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(file(a), file(b)),
			cmp.Compare(offset(a), offset(b)),
			cmp.Compare(a.Summary, b.Summary),
			cmp.Compare(a.Detail, b.Detail))
	})
}

func file(d *hcl.Diagnostic) string {
	if d.Subject == nil {
		return ""
	}
	return d.Subject.Filename
}

func offset(d *hcl.Diagnostic) int {
	if d.Subject == nil {
		return -1
	}
	return d.Subject.Start.Byte
}
