//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
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
	times := make([]metrics, len(guests))
	start := time.Now()
	var all sync.WaitGroup
	for i, g := range guests {
		all.Go(func() { times[i] = g.boot(tb, f.host) })
	}
	all.Wait()
	total := metrics{"plain-s": time.Since(start).Seconds()}
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
}

var (
	metadata = regexp.MustCompile(`(?s)<metadata>.*?</metadata>\s*`)
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
	disk := f.disk(tb, name)
	info := decode[struct {
		Backing string `json:"full-backing-filename"`
		Format  string `json:"backing-filename-format"`
		Size    int64  `json:"virtual-size"`
	}](tb, f.run(tb, "qemu-img", "info", "-U", "--output", "json", disk))
	if info.Backing == "" || info.Format == "" {
		tb.Fatalf("%s is over no base", disk)
	}
	f.virsh(tb, "destroy", name)
	f.virsh(tb, "undefine", "--nvram", "--keep-tpm", name)
	if r := f.run(tb, "qemu-img", "create", "-q", "-f", "qcow2", "-b", info.Backing, "-F", info.Format, disk, fmt.Sprint(info.Size)); r.code != 0 {
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

// boot defines and starts the guest, and waits until it lets us in.
func (g plainGuest) boot(tb testing.TB, h *host) metrics {
	m := make(metrics)
	for _, step := range []struct {
		unit string
		argv []string
	}{
		{"plain-define-s", []string{"virsh", "-q", "-c", "qemu:///system", "define", g.plain}},
		{"plain-start-s", []string{"virsh", "-q", "-c", "qemu:///system", "start", g.name}},
		{"plain-reachable-s", g.untilReady(h)},
	} {
		r := h.run(tb, step.argv...)
		if r.code != 0 {
			tb.Errorf("%s: %s: %v", g.name, step.unit, r)
			break
		}
		m[step.unit] = r.took.Seconds()
	}
	return m
}

// untilReady is ssh(1), again and again.
func (g plainGuest) untilReady(h *host) []string {
	ssh := []string{
		"ssh", "-q", "-i", filepath.Join(h.dataDir, "ssh", "id_ed25519"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=30",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "ovsa@" + g.address, "true",
	}
	return append([]string{"timeout", "1200", "sh", "-c", `until "$@"; do sleep 0.1; done`, "sh"}, ssh...)
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
