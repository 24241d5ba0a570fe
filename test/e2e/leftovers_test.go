//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// leftovers lists everything of ours that is on the host: domains, volumes,
// firmware variables, vTPM state, reservations, leases, known hosts, journals
// and processes. What the story made foreign does not count. The base images in the pool are the host's and may stay.
func (h *host) leftovers(tb testing.TB) []string {
	tb.Helper()
	var found []string
	for _, name := range lines(h.virsh(tb, "list", "--all", "--name")) {
		if name != "not-ours" {
			found = append(found, "domain "+name)
		}
	}
	for _, line := range lines(h.virsh(tb, "net-dumpxml", "default")) {
		if strings.Contains(line, "<host ") {
			found = append(found, "reservation "+strings.TrimSpace(line))
		}
	}
	for _, line := range lines(h.virsh(tb, "net-dhcp-leases", "default")) {
		found = append(found, "lease "+line)
	}
	globs := []string{
		filepath.Join(h.dataDir, "vm_images", "ovsa_*"),
		filepath.Join(h.dataDir, "vm_images", "*.part*"),
		filepath.Join(h.dataDir, "vtpm", "*-*-*-*-*"),
		filepath.Join(h.dataDir, "journal", "*"),
		"/var/lib/libvirt/qemu/nvram/*",
		"/var/lib/libvirt/qemu/save/*",
		"/var/lib/libvirt/swtpm/*",
		"/var/lib/libvirt/dnsmasq/*.addnhosts.ovsa*",
		"/etc/libvirt/qemu/*.xml",
	}
	for _, g := range globs {
		r := h.run(tb, "sh", "-c", "ls -1d "+g+" 2>/dev/null") // fixed patterns, no data
		for _, path := range lines(r.stdout) {
			if filepath.Base(path) != "not-ours.xml" {
				found = append(found, "file "+path)
			}
		}
	}
	r := h.run(tb, "cat", filepath.Join(h.dataDir, "ssh", "known_hosts"))
	for _, line := range lines(r.stdout) {
		found = append(found, "known host "+line)
	}
	r = h.run(tb, "ps", "-eo", "args=")
	for _, line := range lines(r.stdout) {
		if strings.HasPrefix(line, "/usr/bin/qemu-system-x86_64 -name") || strings.HasPrefix(line, "qemu-system-x86_64 -name") ||
			strings.Contains(line, "swtpm socket --ctrl type=unixio,path=/run/libvirt") {
			found = append(found, "process "+line[:min(len(line), 80)])
		}
	}
	return found
}

// lines splits what a tool printed, without empty lines.
func lines(s string) []string {
	var list []string
	for line := range strings.Lines(s) {
		if line = strings.TrimRight(line, "\n"); strings.TrimSpace(line) != "" {
			list = append(list, line)
		}
	}
	return list
}

func report(found []string) string {
	return fmt.Sprintf("%d things are left:\n  %s", len(found), strings.Join(found, "\n  "))
}
