package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// capabilities are libvirt's, of a host that labels so.
func capabilities(model, label string) string {
	return fmt.Sprintf(`<capabilities><host>
  <secmodel><model>apparmor</model><doi>0</doi></secmodel>
  <secmodel><model>%s</model><doi>0</doi><baselabel type='qemu'>+1:+1</baselabel><baselabel type='kvm'>%s</baselabel></secmodel>
</host></capabilities>`, model, label)
}

func TestQEMUUser(t *testing.T) {
	for _, c := range []struct {
		capabilities string
		uid, gid     int
		ok           bool
	}{
		{capabilities("dac", "+64055:+104"), 64055, 104, true},
		{capabilities("dac", "+0:+0"), 0, 0, true},
		{capabilities("selinux", "system_u:system_r:svirt_t:s0"), 0, 0, false},
		{capabilities("dac", "somebody"), 0, 0, false},
		{capabilities("dac", "a:b"), 0, 0, false},
		{"<capabilities/>", 0, 0, false},
		{"no XML", 0, 0, false},
	} {
		uid, gid, ok := qemuUser(c.capabilities)
		if uid != c.uid || gid != c.gid || ok != c.ok {
			t.Errorf("%s: %d, %d, %v", c.capabilities, uid, gid, ok)
		}
	}
}

func TestModeBitsDecideByClass(t *testing.T) {
	for _, c := range []struct {
		mode os.FileMode
		uid  int
		want bool
	}{
		{0o660, 1, true}, // owner
		{0o060, 1, false},
		{0o660, 2, true}, // in the group
		{0o640, 2, false},
		{0o606, 2, false}, // that others may does not help the group
		{0o666, 3, true},  // another
		{0o660, 3, false},
	} {
		groups := map[int][]int{1: {1}, 2: {9, 5}, 3: {3}}
		if got := opens(c.mode, 1, 5, c.uid, groups[c.uid]); got != c.want {
			t.Errorf("%o for user %d: %v", c.mode, c.uid, got)
		}
	}
}

func TestDeviceThatQEMUMayNotOpen(t *testing.T) {
	device := filepath.Join(t.TempDir(), "kvm")
	if err := os.WriteFile(device, nil, 0o660); err != nil {
		t.Fatal(err)
	}
	const stranger = 64123 // has no name here, and is in no group
	for _, c := range []struct {
		name, capabilities, device string
		mode                       os.FileMode
		denied                     bool
	}{
		{"not in the group", capabilities("dac", "+64123:+64123"), device, 0o660, true},
		{"in the group", capabilities("dac", fmt.Sprintf("+64123:+%d", os.Getgid())), device, 0o660, false},
		{"open to all", capabilities("dac", "+64123:+64123"), device, 0o666, false},
		{"root", capabilities("dac", "+0:+0"), device, 0o000, false},
		{"no device", capabilities("dac", "+64123:+64123"), device + "-", 0o660, false},
		{"libvirt does not say", "<capabilities/>", device, 0o660, false},
	} {
		if err := os.Chmod(device, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := denied(c.capabilities, c.device)
		if err != nil || (got != "") != c.denied {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		if c.denied && (!strings.HasPrefix(got, fmt.Sprint(stranger)) || !strings.Contains(got, "usermod -aG")) {
			t.Errorf("%s: %q names neither who nor what to do", c.name, got)
		}
	}
}
