//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// bootIDs are of both roles.
func (s *story) bootIDs(t *testing.T) (isvDev, runtime string) {
	t.Helper()
	return s.bootID(t, s.file, "isv_dev"), s.bootID(t, s.file, "runtime")
}

// planned applies a changed manifest after its plan said so, in these words.
func (s *story) planned(t *testing.T, r roles, words ...string) {
	t.Helper()
	s.change(t, r)
	plan := s.ovsactl(t, "plan", s.file, "--detailed-exitcode")
	if plan.code != 2 {
		t.Fatalf("plan: %v", plan)
	}
	for _, w := range words {
		if !strings.Contains(plan.stdout, w) {
			t.Errorf("the plan does not say %q: %v", w, plan)
		}
	}
	s.must(t, "apply", s.file, "--auto-approve")
}

// changeInPlace: another component, and one that is somebody else's tarball.
func (s *story) changeInPlace(t *testing.T) {
	isvDev, runtime := s.bootIDs(t)
	r := first()
	r.runtimeExtra = fmt.Sprintf("  component \"license_server\" { path = %q }\n", s.tarball(t, "mkdir -p /opt; printf theirs > /opt/theirs"))
	s.planned(t, r, "role.runtime", "will be changed in place", "component.license_server")
	if a, b := s.bootIDs(t); a != isvDev || b != runtime {
		t.Error("a change in place restarted a guest")
	}
	if got := s.guest(t, s.file, "runtime", "cat", "/opt/theirs"); got != "theirs" {
		t.Errorf("their installer left %q", got)
	}
}

// failures: an installer that fails, and a MAC address that another domain has.
// Each role says what was wrong with it, and the rest is as before.
func (s *story) failures(t *testing.T) {
	isvDev, runtime := s.bootIDs(t)
	r := first()
	r.runtimeExtra = fmt.Sprintf("  component \"license_server\" { path = %q }\n", s.tarball(t, "echo no room for theirs >&2; exit 7"))
	r.more = fmt.Sprintf("role \"taken\" {\n  image = image.debian\n  network \"default\" {\n    mac = %q\n  }\n}\n", foreignMAC)
	s.change(t, r)
	got := s.ovsactl(t, "apply", s.file, "--auto-approve")
	if got.code != 1 {
		t.Errorf("apply: %v", got)
	}
	for _, want := range []string{
		"role.runtime failed at components", "license_server", "7", "no room for theirs",
		"role.taken failed at", foreignMAC, "not-ours",
	} {
		if !strings.Contains(got.stdout+got.stderr, want) {
			t.Errorf("apply does not say %q: %v", want, got)
		}
	}
	if a, b := s.bootIDs(t); a != isvDev || b != runtime {
		t.Error("a failure restarted a guest")
	}
	s.must(t, "destroy", s.file, "--target", "taken", "--auto-approve")
	if got := s.virsh(t, "list", "--all", "--name"); strings.Contains(got, "taken") {
		t.Errorf("domains: %q", got)
	}
}

// tarball is a component that is not ours, with an installer that does this.
func (s *story) tarball(t *testing.T, installer string) string {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	archive := tar.NewWriter(zip)
	script := "#!/bin/sh\nset -e\n" + installer + "\n"
	if err := archive.WriteHeader(&tar.Header{Name: "theirs/install.sh", Mode: 0o755, Size: int64(len(script))}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(archive, script)
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "theirs.tar.gz")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// settled is the manifest after the changes in place and with a restart.
func (s *story) settled(t *testing.T) roles {
	r := first()
	r.runtimeMemory, r.runtimeVTPM = "1152MiB", "tis"
	r.runtimeExtra = fmt.Sprintf("  component \"license_server\" { path = %q }\n  vnc { display = 7 }\n", filepath.Join(s.dir, "theirs.tar.gz"))
	return r
}

func (s *story) changeWithRestart(t *testing.T) {
	isvDev, runtime := s.bootIDs(t)
	before := s.record(t)
	s.planned(t, s.settled(t), "will be restarted", "memory", "1GiB -> 1152MiB", "vtpm.model", "vnc.display")
	a, b := s.bootIDs(t)
	if a != isvDev {
		t.Error("the other role was restarted")
	}
	if b == runtime {
		t.Error("the role was not restarted")
	}
	for what, want := range map[string]string{"memory": "1179648", "TPM": "tpm-tis", "VNC": "port='5907'"} {
		if got := s.virsh(t, "dumpxml", "ovsa_runtime"); !strings.Contains(got, want) {
			t.Errorf("%s: no %q in %s", what, want, got)
		}
	}
	s.renewed(t, before)
}

// renewed says that the runtime has another record than before, a good one.
func (s *story) renewed(t *testing.T, before string) {
	t.Helper()
	if s.record(t) == before {
		t.Error("the binding was not renewed at the start")
	}
	s.must(t, "vtpm", "verify", "runtime", "-f", s.file, "--allow-unenrolled")
}

// reboot turns the guest off and on again with virsh alone: the binding is
// renewed by libvirt's hook, whoever starts the guest.
func (s *story) reboot(t *testing.T) {
	before := s.record(t)
	if r := s.ovsactl(t, "vtpm", "rebind", "runtime", "-f", s.file); r.code != 1 || !strings.Contains(r.stderr, "hint: shut the guest down") {
		t.Errorf("rebind of a running guest: %v", r)
	}
	s.virsh(t, "shutdown", "ovsa_runtime")
	within(t, 2*time.Minute, "the guest shuts down", func() bool {
		return s.virsh(t, "domstate", "ovsa_runtime") == "shut off"
	})
	// Off, the record is read from the vTPM itself.
	if r := s.must(t, "vtpm", "verify", "runtime", "-f", s.file, "--allow-unenrolled"); !strings.Contains(r.stdout, "from vTPM NVRAM") {
		t.Errorf("verify of a guest that is off: %v", r)
	}
	s.must(t, "vtpm", "rebind", "runtime", "-f", s.file)
	s.renewed(t, before)
	before = s.record(t)
	s.virsh(t, "start", "ovsa_runtime")
	s.renewed(t, before)
	s.must(t, "exec", "-f", s.file, "--connect-timeout", "4m", "runtime", "--", "true")
	s.quote(t)
	s.converged(t)
}

// replaceKilled changes what needs a new guest, and kills the run again and
// again.
func (s *story) replaceKilled(t *testing.T) {
	runtime := s.bootID(t, s.file, "runtime")
	r := s.settled(t)
	r.isvImage = "image.debian"
	s.change(t, r)
	if plan := s.must(t, "plan", s.file); !strings.Contains(plan.stdout, "forces replacement") {
		t.Errorf("plan: %v", plan)
	}
	for i := range 8 {
		// Each run has another guest to make, from another image.
		r.isvImage = []string{"image.cloud", "image.debian"}[i%2]
		s.change(t, r)
		s.killed(t, 2*time.Second, "apply")
	}
	s.killed(t, time.Minute, "apply") // most likely while it waits for the guest
	s.must(t, "apply", s.file, "--auto-approve")
	if got := s.bootID(t, s.file, "runtime"); got != runtime {
		t.Error("the other role was restarted")
	}
	s.must(t, "vtpm", "verify", "isv_dev", "-f", s.file, "--allow-unenrolled")
	s.converged(t)
}

// killed runs a verb and kills it at some point of the first while.
func (s *story) killed(t *testing.T, while time.Duration, verb string) {
	t.Helper()
	after := rand.N(while)
	cmd := s.command(s.program, verb, s.file, "--auto-approve")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	cmd.Process.Kill() // the command in the lab dies with it
	err := cmd.Wait()
	t.Logf("%s killed after %v: %v\n%s", verb, after, err, out.String())
}

func (s *story) converged(t *testing.T) {
	t.Helper()
	if r := s.must(t, "apply", s.file, "--auto-approve"); !strings.Contains(r.stdout, "No changes") {
		t.Errorf("it did not converge: %v", r)
	}
}

// libvirtdDies kills libvirtd while a run waits for a guest: guests live on, and
// the run ends well or says what was wrong.
func (s *story) libvirtdDies(t *testing.T) {
	s.virsh(t, "destroy", "ovsa_runtime")
	isvDev := s.bootID(t, s.file, "isv_dev")
	cmd := s.command(s.program, "apply", s.file, "--auto-approve")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	s.run(t, "sh", "-c", "kill -9 $(cat /run/libvirtd.pid)")
	err := cmd.Wait()
	t.Logf("%v\n%s", err, out.String())
	if err != nil && !strings.Contains(out.String(), "libvirt") {
		t.Error("it failed and did not say that libvirt was lost")
	}
	s.must(t, "apply", s.file, "--auto-approve")
	if got := s.bootID(t, s.file, "isv_dev"); got != isvDev {
		t.Error("the other role was restarted")
	}
	s.converged(t)
}

func (s *story) twoAtOnce(t *testing.T) {
	s.guest(t, s.file, "runtime", "sudo", "systemctl", "--no-block", "poweroff")
	within(t, 2*time.Minute, "the guest shuts down", func() bool {
		return s.virsh(t, "domstate", "ovsa_runtime") == "shut off"
	})
	var wg sync.WaitGroup
	var waited, changed sync.Map
	for i := range 2 {
		wg.Go(func() {
			r := s.ovsactl(t, "apply", s.file, "--auto-approve")
			if r.code != 0 {
				t.Errorf("apply: %v", r)
			}
			if strings.Contains(r.stderr, "waiting for pid") {
				waited.Store(i, true)
			}
			if !strings.Contains(r.stdout, "No changes") {
				changed.Store(i, true)
			}
		})
	}
	wg.Wait()
	if n := length(&waited); n != 1 {
		t.Errorf("%d runs waited, want one", n)
	}
	if n := length(&changed); n != 1 {
		t.Errorf("%d runs started the guest, want one", n)
	}
}

func length(m *sync.Map) (n int) {
	m.Range(func(any, any) bool { n++; return true })
	return n
}

func (s *story) destroy(t *testing.T) {
	s.killed(t, 1500*time.Millisecond, "destroy")
	s.must(t, "destroy", s.file, "--auto-approve")
	if found := s.leftovers(t); len(found) > 0 {
		t.Error(report(found))
	}
	if got := s.virsh(t, "list", "--all", "--name") + s.virsh(t, "net-list", "--all", "--name"); strings.Count(got, "not-ours") != 2 {
		t.Errorf("what is not ours was touched: %q", got)
	}
	s.must(t, "destroy", s.file, "--auto-approve") // of nothing
}
