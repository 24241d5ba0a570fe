package ovsaruntime

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// docs/hosting.md tells of each metric with its labels, and of no others.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/hosting.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(ovsaruntime_[a-z_]+(?:\\{[a-z,]+\\})?)` \\|").FindAllSubmatch(page, -1) {
		documented = append(documented, string(row[1]))
	}
	all := make(chan *prometheus.Desc, 100)
	new(collector).Describe(all)
	close(all)
	var described []string
	for d := range all {
		parts := regexp.MustCompile(`fqName: "([a-z_]+)".*variableLabels: \{([a-z,]*)\}`).FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("what is %s?", d)
		}
		name := parts[1]
		if parts[2] != "" {
			name += "{" + parts[2] + "}"
		}
		described = append(described, name)
	}
	slices.Sort(documented)
	slices.Sort(described)
	if !slices.Equal(documented, described) {
		t.Errorf("documented\n%s\nand there are\n%s", strings.Join(documented, "\n"), strings.Join(described, "\n"))
	}
}
