package roles_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ovsactl/ovsactl/roles"
)

// TestNoMessageHoldsASecret tries what could make an evaluator quote a value.
func TestNoMessageHoldsASecret(t *testing.T) {
	for _, expr := range []string{
		`{ a = 1 }[var.pin]`,
		`lookup({ a = 1 }, var.pin, null)`,
		`{ (var.pin) = 1 }.x`,
		`[1, 2][var.pin]`,
		`var.pin + 1`,
		`var.pin ? 1 : 2`,
		`true ? { (var.pin) = 1 } : { x = true }`,
		`file(var.pin)`,
		`file("${var.pin}")`,
		`merge(var.pin, {})`,
		`var.pin.x`,
		`join(var.pin, var.pin)`,
		`"${var.pin}x"`,
		`[var.pin]`,
		`{ (var.pin) = 1 }`,
		`upper(var.pin)`,
		`var.pin == "x" ? 1 : 2`,
	} {
		t.Run(expr, func(t *testing.T) {
			m, text := load(t, "roles.hcl", []byte("variable \"pin\" {\n  sensitive = true\n  default = \"hunter2\"\n}\nrole \"r\" {\n  cpus = "+expr+"\n}\n"))
			if m != nil || strings.Contains(strings.ToLower(text), "hunter2") {
				t.Errorf("diagnostics:\n%s", text)
			}
		})
	}
}

// TestAmplification keeps what is small to write small to evaluate.
func TestAmplification(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("locals {\n  l0 = \"xxxxxxxxxxxxxxxx\"\n")
	for i := 1; i <= 60; i++ {
		fmt.Fprintf(&laughs, "  l%d = \"${local.l%d}${local.l%d}\"\n", i, i-1, i-1)
	}
	laughs.WriteString("}\n")
	for name, src := range map[string]string{
		"doubled locals": laughs.String(),
		"many terms":     "locals {\n  a = " + strings.Repeat("1+", 100000) + "1\n}\n",
		"many templates": "locals {\n  a = \"" + strings.Repeat("${1}", 100000) + "\"\n}\n",
		"nested":         "locals {\n  a = " + strings.Repeat("[", 100000) + "\n}\n",
		"nested blocks":  strings.Repeat("role \"x\" {\n", 50000),
		"nested strings": "locals {\n  a = " + strings.Repeat(`"${`, 100000) + "\n}\n",
		"unary":          "locals {\n  a = " + strings.Repeat("!", 100000) + "true\n}\n",
		"conditionals":   "locals {\n  a = " + strings.Repeat("true ? 1 : ", 50000) + "1\n}\n",
		"splats":         "locals {\n  a = [1]" + strings.Repeat("[*]", 50000) + "\n}\n",
		"indexes":        "locals {\n  b = 0\n  a = [1]" + strings.Repeat("[local.b]", 50000) + "\n}\n",
		"numbers":        "locals {\n  a = \"${1e600000000}\"\n}\n",
		"squares":        squares(40),
		"long names":     "role \"x\" {\n  cpus = var." + strings.Repeat("a", 500000) + "\n}\nvariable \"" + strings.Repeat("a", 499999) + "\" { default = 1 }\n",
		"long chain":     "locals {\n  a = local.a" + strings.Repeat(".a", 100000) + "\n}\n",
		"replace":        "locals {\n  a = replace(\"" + strings.Repeat("x", 60000) + "\", \"\", \"" + strings.Repeat("y", 60000) + "\")\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			if m, _ := load(t, "roles.hcl", []byte(src)); m != nil {
				t.Error("accepted")
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// FuzzLoad looks for a panic, a hang, and a manifest beside an error.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("../examples/*.hcl")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src, "memory = \"1GiB\"\n")
	}
	for _, name := range ruleFiles(f) {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if path.Base(file.Name) != "want" {
				f.Add(file.Data, "memory = \"1GiB\"\n")
			}
		}
	}
	for _, src := range fuzzSeeds() {
		f.Add([]byte(src), "pin = 1\n")
	}
	f.Fuzz(func(t *testing.T, src []byte, values string) {
		opts := roles.Options{
			Sources:  map[string][]byte{"roles.hcl": src, "values": []byte(values)},
			VarFiles: []string{"values"},
			Vars:     map[string]string{"v": values},
		}
		m, files, diags := roles.Load([]string{"roles.hcl"}, opts)
		if (m == nil) != diags.HasErrors() {
			t.Errorf("manifest is nil: %v, errors: %v", m == nil, diags.HasErrors())
		}
		_ = render(t, files, diags)
	})
}

// squares has n numbers, each the square of the one before.
func squares(n int) string {
	var b strings.Builder
	b.WriteString("locals {\n  l0 = 1e99\n")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "  l%d = local.l%d * local.l%d\n", i, i-1, i-1)
	}
	fmt.Fprintf(&b, "  text = \"${local.l%d}\"\n}\n", n)
	return b.String()
}

func fuzzSeeds() []string {
	return []string{
		"variable \"v\" {\n type = list(string)\n sensitive = true\n default = [\"a\"]\n}\nlocals {\n l = [var.v, image.default, role.r]\n}\nrole \"r\" {\n cpus = length(local.l)\n}",
		"variable \"pin\" {\n sensitive = true\n default = null\n}\nimage \"i\" {\n build { packages = [var.pin] }\n}",
		"locals {\n a = merge({x = local.b}, {y = [1, true]})[\"x\"]\n b = \"%{ if true }${upper(\"x\")}%{ endif }\"\n}",
		"network \"n\" {\n nat { cidr = join(\"/\", [\"10.0.0.0\", 8]) }\n}\nrole \"r\" {\n network \"n\" { address = network.n.gateway }\n}",
		"role \"r\" {\n memory = <<EOT\n1GiB\nEOT\n kernel { path = file(\"x\") }\n vnc { display = -1.5e300 }\n}",
		"host \"h\" {\n uri = \"test:///default\"\n tpm = role.r.name[*][0]\n}\nrole \"r\" {}",
		"\xef\xbb\xbfrole \"r\" {}",
	}
}
