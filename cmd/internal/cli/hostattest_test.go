package cli

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/packaging"
	"github.com/ovsactl/ovsactl/vm"
)

// systemd listens where QEMU connects.
func TestAttestSocketUnit(t *testing.T) {
	units, err := packaging.Hook{Program: "/usr/bin/ovsactl", DataDir: "/var/OVSA", TPM: "/dev/tpmrm0"}.AttestUnits()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(units[0].Text, "\nListenStream="+vm.AttestSocket+"\n") {
		t.Errorf("the unit does not listen at %s", vm.AttestSocket)
	}
}

// A dead service's socket is in nobody's way; a living one's is.
func TestAttestListener(t *testing.T) {
	dir, err := os.MkdirTemp("", "ovsa") //nolint:usetesting // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "run", "attest.sock")
	dead, err := attestListener(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attestListener(t.Context(), path); err == nil || !strings.Contains(err.Error(), "somebody does already") {
		t.Errorf("two services: %v", err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := attestListener(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v: QEMU's user has to get in", info.Mode(), err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}

// Only what libvirt has recorded is a guest.
func TestAttestedVM(t *testing.T) {
	if _, err := attestedVM(os.Getpid(), "/var/OVSA"); err == nil {
		t.Error("this test is a virtual machine")
	}
}
