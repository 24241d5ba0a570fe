package packaging

import (
	"strings"
	"testing"
)

func TestHookScript(t *testing.T) {
	tests := []struct {
		name string
		hook Hook
		want string // "" for refused
	}{
		{"plain", Hook{"/usr/bin/ovsactl", "/var/OVSA", "/dev/tpmrm0"}, `host hook --data-dir '/var/OVSA' --tpm '/dev/tpmrm0' -- "$@"`},
		{"stand-in", Hook{"/usr/bin/ovsactl", "/var/OVSA", "unix:/run/t"}, `--tpm 'unix:/run/t' -- "$@"`},
		{"quotes", Hook{"/usr/bin/ovsactl", "/var/it's; reboot", "/dev/tpmrm0"}, `--data-dir '/var/it'\''s; reboot' --tpm`},
		{"relative program", Hook{"ovsactl", "/var/OVSA", "/dev/tpmrm0"}, ""},
		{"line break", Hook{"/usr/bin/ovsactl", "/var/OVSA\nreboot", "/dev/tpmrm0"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.hook.Script()
			if tt.want == "" {
				if err == nil {
					t.Fatalf("accepted:\n%s", got)
				}
				return
			}
			if err != nil || !strings.Contains(got, tt.want) {
				t.Errorf("got %v\n%s\nwant %s", err, got, tt.want)
			}
		})
	}
}

func TestHostPackages(t *testing.T) {
	list := HostPackages()
	if len(list) < 10 {
		t.Fatalf("only %d packages", len(list))
	}
	if list[0] != (Package{"libvirt-daemon-system", "8.0"}) {
		t.Errorf("first is %+v", list[0])
	}
}
