// Package examples holds manifests that work as they are. They are part of the
// documentation and of the program: `ovsactl init` writes the first.
package examples

import _ "embed"

//go:embed quickstart.hcl
var quickstart string

// Quickstart is the manifest that `ovsactl init` writes.
func Quickstart() []byte { return []byte(quickstart) }
