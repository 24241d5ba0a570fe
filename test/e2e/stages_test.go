//go:build e2e

package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a guest's boot consists of, as this test tells from outside and, once the
// guest has come to rest, from inside:
//
//	firmware     until OVMF says on the console what it starts
//	loader       until the kernel's clock begins: systemd-stub and what unpacks the kernel
//	kernel       until it runs the initrd's init
//	initrd       until systemd begins
//	userspace    until sshd serves
//	login        until ssh(1) has run its first command
//
// The kernel's clock is the guest's own; what joins it to the host's is the
// first login, which reads it.
const lookInside = `systemctl is-system-running --wait
sudo -n dmesg | sed -n 's/^\[ *\([0-9.]*\)\] Run \/init as init process/init=\1/p'
systemctl show -p UserspaceTimestampMonotonic -p FinishTimestampMonotonic
systemctl show -p ActiveEnterTimestampMonotonic ssh.service | sed 's/^/ssh/'
sed -n 's/^processes /processes=/p' /proc/stat
awk '{ print "sectors=" $3 }' /sys/class/block/vda/stat
echo units=$(systemctl show -p ExecMainStartTimestampMonotonic '*.service' | grep -vc '=0$')
`

var inside = regexp.MustCompile(`(?m)^([A-Za-z]+)=([0-9.]+)$`)

// stages are when a guest's first login was, and what it then tells.
type stages struct {
	started time.Time // when its processors ran
	loaded  time.Time // when OVMF went on to what it boots; zero without OVMF
	login   time.Time
	uptime  float64 // the guest's, at the login
	inside  map[string]float64
}

func readInside(tb testing.TB, text string) map[string]float64 {
	tb.Helper()
	if !strings.HasPrefix(text, "running\n") {
		tb.Errorf("the guest is not running: %q", text)
	}
	values := make(map[string]float64)
	for _, m := range inside.FindAllStringSubmatch(text, -1) {
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			tb.Fatal(err)
		}
		values[m[1]] = v
	}
	return values
}

func (s stages) metrics(tb testing.TB) metrics {
	tb.Helper()
	for _, name := range []string{"init", "UserspaceTimestampMonotonic", "FinishTimestampMonotonic", "sshActiveEnterTimestampMonotonic", "processes", "sectors", "units"} {
		if s.inside[name] == 0 {
			tb.Errorf("the guest does not tell %s: %v", name, s.inside)
		}
	}
	const micro = 1e-6
	systemd, sshd := s.inside["UserspaceTimestampMonotonic"]*micro, s.inside["sshActiveEnterTimestampMonotonic"]*micro
	kernel := s.login.Sub(s.started).Seconds() - s.uptime // when its clock began
	m := metrics{
		"stage-loader-s":    kernel,
		"stage-kernel-s":    s.inside["init"],
		"stage-initrd-s":    systemd - s.inside["init"],
		"stage-userspace-s": sshd - systemd,
		"stage-login-s":     s.uptime - sshd,
		"stage-all-s":       s.login.Sub(s.started).Seconds(),
		"stage-rest-s":      s.inside["FinishTimestampMonotonic"]*micro + kernel,
		"work-processes":    s.inside["processes"],
		"work-units":        s.inside["units"],
		"work-read-B":       s.inside["sectors"] * 512,
	}
	if !s.loaded.IsZero() {
		firmware := s.loaded.Sub(s.started).Seconds()
		m["stage-firmware-s"], m["stage-loader-s"] = firmware, kernel-firmware
	}
	return m
}
