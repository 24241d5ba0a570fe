package roles

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// ourComponents are those that need no path.
func ourComponents() []string {
	return []string{"developer", "license_server", "model_hosting", "openvino"}
}

func (l *loader) decodeComponents(f fields, r *Role) {
	seen := make(map[string]hcl.Range)
	for _, b := range f.content.Blocks {
		if b.Type != "component" {
			continue
		}
		name, at := b.Labels[0], b.LabelRanges[0]
		if first, again := seen[name]; again {
			l.fail(at, "Duplicate component", fmt.Sprintf("The role has component %q already, %s.", name, place(first)))
			continue
		}
		seen[name] = at
		r.Components = append(r.Components, l.decodeComponent(b))
	}
}

func (l *loader) decodeComponent(b *hcl.Block) Component {
	f := l.open(b, []string{"path", "port", "timeout"}, nil)
	c := Component{
		Name:    b.Labels[0],
		Path:    f.path("path"),
		Timeout: f.duration("timeout", defaultTimeout, 24*time.Hour),
		Range:   b.LabelRanges[0],
	}
	ours := slices.Contains(ourComponents(), c.Name)
	switch {
	case !ours && !thingName.MatchString(c.Name):
		l.checkName(b.LabelRanges[0], "component", c.Name)
	case !ours && !f.has("path"):
		l.fail(b.LabelRanges[0], "Unknown component",
			fmt.Sprintf("The components are %s; any other needs its tarball:\n\n    path = \"FILE.tar.gz\"\n\nThere is none named %q.", quoted(ourComponents()), c.Name)+didYouMean(c.Name, ourComponents()))
	}
	switch {
	case c.Name == "license_server":
		c.Port = f.integer("port", licensePort, 1, 65535)
	case f.has("port") && ours:
		l.fail(f.content.Attributes["port"].Range, "Unexpected port", fmt.Sprintf("The component %q has no port to set.", c.Name))
	default:
		c.Port = f.integer("port", 0, 1, 65535)
	}
	return c
}
