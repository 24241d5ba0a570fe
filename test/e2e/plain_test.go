//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// plain makes the guests of the fleet again as an administrator would who has
// everything ready: base image, seed, vTPM state, reservations and key stay as
// apply made them. What is measured is `virsh define` and `virsh start` of the
// same domains, of all at once, until ssh(1) is let in. Their disks are new, so
// that it is a first boot again, and their XML has no metadata, so that nothing
// of ours runs when they start.
func (f *fleet) plain(tb testing.TB) metrics {
	tb.Helper()
	guests := make([]plainGuest, len(f.roles))
	for i, role := range f.roles {
		guests[i] = f.takeOver(tb, "ovsa_"+role, address(i))
	}
	return f.bootAll(tb, guests)
}

// bootAll boots all of them at once, and gives them back.
func (f *fleet) bootAll(tb testing.TB, guests []plainGuest) metrics {
	tb.Helper()
	times := make([]metrics, len(guests))
	var all sync.WaitGroup
	for i, g := range guests {
		all.Go(func() { times[i] = g.boot(tb, f.host) })
	}
	all.Wait()
	total := make(metrics)
	if tb.Failed() {
		tb.FailNow()
	}
	for _, m := range times {
		for unit, v := range m {
			total[unit] = max(total[unit], v)
		}
	}
	for _, g := range guests {
		g.giveBack(tb, f.host)
	}
	return total
}

// plainGuest is a guest with the XML files that define it.
type plainGuest struct {
	name, address string
	ours, plain   string
	disk          string // path
	stages        bool   // to be told
	serial        string // log of the console that OVMF writes to, "" without OVMF
}

var (
	metadata = regexp.MustCompile(`(?s)<metadata>.*?</metadata>\s*`)
	logFile  = regexp.MustCompile(`<log file='([^']+)'`)
	volume   = regexp.MustCompile(`(?m)^\s*file\s+disk\s+\S+\s+(/\S+\.qcow2)\s*$|^\s*volume\s+disk\s+\S+\s+(\S+\.qcow2)\s*$`)
)

// takeOver removes apply's guest but for its vTPM, and makes it a new disk over
// the same base.
func (f *fleet) takeOver(tb testing.TB, name, address string) plainGuest {
	tb.Helper()
	definition := f.virsh(tb, "dumpxml", "--inactive", name)
	g := plainGuest{
		name: name, address: address,
		ours:  f.write(tb, name+".xml", definition),
		plain: f.write(tb, name+".plain.xml", metadata.ReplaceAllString(definition, "")),
	}
	if m := logFile.FindStringSubmatch(definition); m != nil && strings.Contains(definition, "firmware='efi'") {
		g.serial = m[1]
	}
	g.disk, g.stages = f.disk(tb, name), true
	info := decode[struct {
		Backing string `json:"full-backing-filename"`
		Format  string `json:"backing-filename-format"`
		Size    int64  `json:"virtual-size"`
	}](tb, f.run(tb, "qemu-img", "info", "-U", "--output", "json", g.disk))
	if info.Backing == "" || info.Format == "" {
		tb.Fatalf("%s is over no base", g.disk)
	}
	f.virsh(tb, "destroy", name)
	f.virsh(tb, "undefine", "--nvram", "--keep-tpm", name)
	if r := f.run(tb, "rm", "-f", g.serial); r.code != 0 { // or the boot before would be seen in it
		tb.Fatalf("remove serial log: %v", r)
	}
	if r := f.run(tb, "qemu-img", "create", "-q", "-f", "qcow2", "-b", info.Backing, "-F", info.Format, g.disk, fmt.Sprint(info.Size)); r.code != 0 {
		tb.Fatalf("new disk: %v", r)
	}
	return g
}

// disk is the path of the guest's own disk.
func (f *fleet) disk(tb testing.TB, name string) string {
	tb.Helper()
	list := f.virsh(tb, "domblklist", "--details", name)
	found := volume.FindStringSubmatch(list)
	switch {
	case found == nil:
		tb.Fatalf("no disk of %s in %q", name, list)
	case found[1] != "":
		return found[1]
	}
	return f.virsh(tb, "vol-path", "--pool", "ovsa", found[2])
}

// boot defines and starts the guest, waits until it lets us in, and tells where
// the time went.
func (g plainGuest) boot(tb testing.TB, h *host) metrics {
	m := make(metrics)
	virsh := []string{"virsh", "-q", "-c", "qemu:///system"}
	for _, step := range []struct {
		unit string
		argv []string
	}{
		{"plain-define-s", append(virsh, "define", g.plain)},
		{"plain-start-s", append(virsh, "start", g.name)},
	} {
		r := h.run(tb, step.argv...)
		if r.code != 0 {
			tb.Errorf("%s: %s: %v", g.name, step.unit, r)
			return m
		}
		m[step.unit] = r.took.Seconds()
	}
	s := stages{started: time.Now()}
	var watch sync.WaitGroup
	defer watch.Wait()
	if g.stages && g.serial != "" {
		watch.Go(func() {
			const until = `until grep -qs "BdsDxe: starting" "$1"; do sleep 0.05; done`
			if r := h.run(tb, "timeout", "300", "sh", "-c", until, "sh", g.serial); r.code == 0 {
				s.loaded = time.Now()
			}
		})
	}
	r := h.run(tb, g.untilReady(h, "cat", "/proc/uptime")...)
	s.login = time.Now()
	m["plain-reachable-s"] = r.took.Seconds()
	m["plain-s"] = m["plain-define-s"] + m["plain-start-s"] + m["plain-reachable-s"]
	up, _, _ := strings.Cut(r.stdout, " ")
	var err error
	if s.uptime, err = strconv.ParseFloat(up, 64); r.code != 0 || err != nil {
		tb.Errorf("%s: no login: %v", g.name, r)
		return m
	}
	m["work-cpu-s"] = h.processorTime(tb, g.name)
	if !g.stages {
		return m
	}
	if r = h.run(tb, g.untilReady(h, lookInside)...); r.code != 0 {
		tb.Errorf("%s: %v", g.name, r)
		return m
	}
	watch.Wait()
	s.inside = readInside(tb, r.stdout)
	for unit, v := range s.metrics(tb) {
		m[unit] = v
	}
	return m
}

// processorTime is how long the guest's QEMU has computed, in seconds: of an
// emulated guest, what it did.
func (h *host) processorTime(tb testing.TB, name string) float64 {
	tb.Helper()
	const unit = "cpu.time="
	for _, field := range strings.Fields(h.virsh(tb, "domstats", "--cpu-total", name)) {
		if text, ok := strings.CutPrefix(field, unit); ok {
			nanos, err := strconv.ParseFloat(text, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return nanos / 1e9
		}
	}
	return 0
}

// untilReady is ssh(1) with that command, again and again.
func (g plainGuest) untilReady(h *host, command ...string) []string {
	ssh := []string{
		"ssh", "-q", "-i", filepath.Join(h.dataDir, "ssh", "id_ed25519"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=30",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "ovsa@" + g.address,
	}
	return append([]string{"timeout", "1200", "sh", "-c", `until "$@"; do sleep 0.1; done`, "sh"}, append(ssh, command...)...)
}

// giveBack makes the guest apply's again, so that destroy knows it.
func (g plainGuest) giveBack(tb testing.TB, h *host) {
	tb.Helper()
	h.virsh(tb, "destroy", g.name)
	h.virsh(tb, "undefine", "--nvram", "--keep-tpm", g.name)
	h.virsh(tb, "define", g.ours)
	if got := h.virsh(tb, "dominfo", g.name); !strings.Contains(got, "shut off") {
		tb.Fatalf("%s: %s", g.name, got)
	}
}
