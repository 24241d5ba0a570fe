// Package imagetest has what tests of images share: tools they need and images
// that are not ours.
package imagetest

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/vm/image/internal/tool"
)

// Require skips the test when one of the programs (or files, with a slash) is
// missing, and fails it when OVSA_REQUIRE, a comma-separated list, names it.
func Require(t testing.TB, names ...string) {
	t.Helper()
	required := strings.Split(os.Getenv("OVSA_REQUIRE"), ",")
	for _, name := range names {
		if tool.Check([]tool.Need{{Name: name}}) == nil {
			continue
		}
		if slices.Contains(required, name) {
			t.Fatalf("%s is missing and OVSA_REQUIRE names it", name)
		}
		t.Skipf("%s is missing", name)
	}
}
