package openvino

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/need"
)

// vendorHeaders is the directory of OpenVINO's own headers.
func vendorHeaders(t *testing.T) string {
	t.Helper()
	dirs, _ := filepath.Glob(filepath.Join(filepath.Dir(vendorPython(t)), "..", "lib", "python3*", "site-packages", "openvino", "include"))
	if len(dirs) != 1 {
		t.Fatalf("headers in %q", dirs)
	}
	return dirs[0]
}

// compile compiles C that knows the vendor's headers and ours.
func compile(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	file, program := filepath.Join(dir, "check.c"), filepath.Join(dir, "check")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), need.Program(t, "gcc"), "-std=c11", "-Werror", "-I", vendorHeaders(t), "-I", ".", "-c", "-o", program+".o", file).CombinedOutput()
	if err == nil && strings.Contains(source, "main") {
		out, err = exec.CommandContext(t.Context(), "gcc", "-o", program, program+".o").CombinedOutput()
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// Each function is what the vendor's headers say.
func TestFunctionsAreTheVendors(t *testing.T) {
	compile(t, `
#include <openvino/c/openvino.h>
#define OVSA_VENDOR_HEADERS
#include "capi.h"
#define SAME(result, name, parameters) result(*const ours_##name) parameters = name;
OVSA_FUNCTIONS(SAME)
`)
}

// And so are the types that go through them.
func TestTypesAreTheVendors(t *testing.T) {
	var source strings.Builder
	source.WriteString("#include <openvino/c/openvino.h>\n#include <stdio.h>\n#include <stddef.h>\n")
	names := []string{"version", "shape", "dimension", "partial_shape"}
	for _, n := range append(names, "status", "element_type") {
		fmt.Fprintf(&source, "#define ov_%[1]s_t ours_%[1]s\n#define ov_%[1]s_e ours_%[1]s\n", n)
	}
	source.WriteString("#include \"capi.h\"\n")
	for _, n := range append(names, "status", "element_type") {
		fmt.Fprintf(&source, "#undef ov_%[1]s_t\n#undef ov_%[1]s_e\n", n)
	}
	for _, n := range names {
		fmt.Fprintf(&source, "_Static_assert(sizeof(ov_%[1]s_t) == sizeof(ours_%[1]s), \"%[1]s\");\n", n)
	}
	for _, f := range []string{"version.buildNumber", "version.description", "shape.rank", "shape.dims", "dimension.min", "dimension.max", "partial_shape.rank", "partial_shape.dims"} {
		n, member, _ := strings.Cut(f, ".")
		fmt.Fprintf(&source, "_Static_assert(offsetof(ov_%[1]s_t, %[2]s) == offsetof(ours_%[1]s, %[2]s) && sizeof(((ov_%[1]s_t *)0)->%[2]s) == sizeof(((ours_%[1]s *)0)->%[2]s), \"%[1]s.%[2]s\");\n", n, member)
	}
	source.WriteString("_Static_assert(sizeof(ov_status_e) == sizeof(ours_status) && sizeof(ov_element_type_e) == sizeof(ours_element_type), \"numbers\");\n")
	source.WriteString("_Static_assert(OK == 0 && INVALID_C_PARAM == -14, \"what capi.c knows\");\nint main(void) {\n")
	var want strings.Builder
	for number, e := range elementTypes {
		fmt.Fprintf(&source, "printf(\"%%d\\n\", %s);\n", e.name)
		fmt.Fprintln(&want, number)
	}
	source.WriteString("}\n")
	got, err := exec.CommandContext(t.Context(), compile(t, source.String())).Output()
	if err != nil || string(got) != want.String() {
		t.Errorf("the types' numbers are %q, %v", got, err)
	}
}
