package roles_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/roles"
)

// manyRoles is a manifest with n roles and all that they can have.
func manyRoles(n int) []byte {
	var b strings.Builder
	b.WriteString("variable \"memory\" { default = \"1GiB\" }\nnetwork \"lab\" {\n  nat { cidr = \"10.0.0.0/8\" }\n}\nimage \"debian\" {\n  build {}\n}\n")
	for i := range n {
		fmt.Fprintf(&b, `role "r%d" {
  image  = image.debian
  cpus   = 2
  memory = var.memory
  network "lab" {
    mac     = "52:54:01:00:%02x:%02x"
    address = "10.1.%d.%d"
  }
  component "model_hosting" {}
}
`, i, i>>8, i&255, i>>8, i&255)
	}
	return []byte(b.String())
}

// BenchmarkLoad shows that the cost grows with the manifest and no faster.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, 4000} {
		src := map[string][]byte{"roles.hcl": manyRoles(n)}
		b.Run(fmt.Sprintf("roles=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m, _, diags := roles.Load([]string{"roles.hcl"}, roles.Options{Sources: src})
				if m == nil || len(m.Roles) != n {
					b.Fatal(diags)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/role")
		})
	}
}
