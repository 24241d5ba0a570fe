package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// statusOf is what libvirt records of a guest of ours that runs.
func statusOf(t *testing.T, pid int) string {
	t.Helper()
	definition, err := DomainXML(Spec{
		Name: "ovsa_runtime", UUID: "11111111-2222-4333-8444-555555555555", CPUs: 1, Memory: 1 << 30, Accel: TCG, Firmware: BIOS, TPM: CRB,
		Metadata: Metadata{Role: "runtime", DataDir: "/var/OVSA"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n<domstatus state='running' reason='booted' pid='%d'>\n<taint flag='x'/>\n%s</domstatus>\n",
		pid, strings.Replace(definition, "<domain ", "<domain id='1' ", 1))
}

func TestDomainOfAProcess(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("other.pid", "4710")
	write("ovsa_runtime.pid", "4711\n")
	if _, err := ofProcess(dir, 4711); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoProcess) {
		t.Errorf("one that has just begun: %v", err)
	}
	write("ovsa_runtime.xml", statusOf(t, 4711))
	s, err := ofProcess(dir, 4711)
	if err != nil || s.UUID != "11111111-2222-4333-8444-555555555555" || !s.Ours || s.Metadata.DataDir != "/var/OVSA" {
		t.Errorf("%+v, %v", s, err)
	}
	for name, pid := range map[string]int{"another": 4712, "the beginning of one": 471, "none": 0} {
		if _, err := ofProcess(dir, pid); !errors.Is(err, ErrNoProcess) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, status := range map[string]string{
		"a record of another process": statusOf(t, 4712),
		"a definition":                "<domain><name>x</name></domain>",
		"no UUID":                     "<domstatus pid='4711'><domain><name>x</name></domain></domstatus>",
		"no domain":                   "<domstatus pid='4711'/>",
		"half a record":               statusOf(t, 4711)[:400],
		"too much":                    statusOf(t, 4711) + strings.Repeat(" ", maxStatus),
	} {
		write("ovsa_runtime.xml", status)
		if s, err := ofProcess(dir, 4711); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
