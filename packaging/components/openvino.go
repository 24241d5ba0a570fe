package components

import (
	"path"
	"strings"

	"github.com/ovsactl/ovsactl/internal/component/installer"
)

// openvino is the layout of OpenVINO's libraries, which our model server loads: what
// files/openvino.txt lists, as packaging/wheels/fetch.sh has fetched it.
func openvino() Layout {
	const to = "/opt/ovsa/kvm/lib/openvino"
	l := Layout{Dirs: []installer.Dir{
		dir("/opt/ovsa", 0o755, installer.Root),
		dir("/opt/ovsa/kvm", 0o755, installer.Root),
		dir("/opt/ovsa/kvm/lib", 0o755, installer.Root),
		dir(to, 0o755, installer.Root),
		dir(to+"/licenses", 0o755, installer.Root),
	}}
	list, _ := Asset("openvino.txt") // it is embedded
	for line := range strings.Lines(string(list)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name := path.Base(line)
		if strings.Contains(line, "/licenses/") {
			name = "licenses/" + name
		}
		l.Files = append(l.Files, File{Path: path.Join(to, name), Mode: 0o644, Library: name})
	}
	return l
}
