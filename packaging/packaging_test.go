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

func TestAttestUnits(t *testing.T) {
	for _, tt := range []struct {
		name string
		hook Hook
		want []string // nil for refused
	}{
		{"plain", Hook{"/usr/bin/ovsactl", "/var/OVSA", "/dev/tpmrm0"}, []string{
			`ExecStart="/usr/bin/ovsactl" host attest --data-dir "/var/OVSA" --tpm "/dev/tpmrm0"`, `ReadWritePaths="/var/OVSA/vtpm"`,
		}},
		{"what systemd would expand", Hook{"/usr/bin/ovsactl", `/var/100% "$x"\`, "unix:/run/t"}, []string{
			`--data-dir "/var/100%% \"$$x\"\\" --tpm "unix:/run/t"`, `ReadWritePaths="/var/100%% \"$x\"`,
		}},
		{"relative program", Hook{"ovsactl", "/var/OVSA", "/dev/tpmrm0"}, nil},
		{"line break", Hook{"/usr/bin/ovsactl", "/var/OVSA\nUser=x", "/dev/tpmrm0"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			units, err := tt.hook.AttestUnits()
			if tt.want == nil {
				if err == nil {
					t.Fatalf("accepted: %v", units)
				}
				return
			}
			if err != nil || len(units) != 2 || units[0].Name != AttestSocketUnit || units[1].Name != "ovsactl-attest.service" {
				t.Fatalf("%v, %v", units, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(units[1].Text, want) {
					t.Errorf("the service has no %s:\n%s", want, units[1].Text)
				}
			}
			if strings.Contains(units[1].Text, "@OVSACTL@") || strings.Contains(units[1].Text, "@LOCKS@") {
				t.Error("something was not filled in")
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
