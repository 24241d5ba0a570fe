//go:build e2e

package e2e

import (
	"bytes"
	"math/rand/v2"
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

// planned applies a changed manifest after its plan said that there is
// something to do.
func (s *story) planned(t *testing.T, r roles) {
	t.Helper()
	s.change(t, r)
	if r := s.ovsactl(t, "plan", s.file, "--detailed-exitcode"); r.code != 2 {
		t.Fatalf("plan: %v", r)
	}
	s.must(t, "apply", s.file, "--auto-approve")
}

func (s *story) changeInPlace(t *testing.T) {
	isvDev, runtime := s.bootIDs(t)
	// What the host must not lose is ours to set again, without a restart.
	s.guest(t, s.file, "runtime", "sudo", "rm", "-rf", "/opt/ovsa/kvm/bin/ovsaruntime")
	s.must(t, "apply", s.file, "--auto-approve")
	if a, b := s.bootIDs(t); a != isvDev || b != runtime {
		t.Error("a change in place restarted a guest")
	}
}

func (s *story) changeWithRestart(t *testing.T) {
	isvDev, runtime := s.bootIDs(t)
	before := s.record(t)
	r := first()
	r.runtimeMemory = "1152MiB"
	s.planned(t, r)
	a, b := s.bootIDs(t)
	if a != isvDev {
		t.Error("the other role was restarted")
	}
	if b == runtime {
		t.Error("the role was not restarted")
	}
	if got := s.virsh(t, "dominfo", "ovsa_runtime"); !strings.Contains(got, "1179648 KiB") {
		t.Errorf("memory: %s", got)
	}
	if s.record(t) == before {
		t.Error("the binding was not renewed at the start")
	}
	s.must(t, "vtpm", "verify", "runtime", "-f", s.file, "--allow-unenrolled")
}

// replaceKilled changes what needs a new guest, and kills the run again and
// again, libvirtd once.
func (s *story) replaceKilled(t *testing.T) {
	isvDev := s.bootID(t, s.file, "isv_dev")
	r := first()
	r.runtimeDisk = "3GiB"
	s.change(t, r)
	for i := range 6 {
		after := time.Duration(rand.IntN(4000)) * time.Millisecond
		cmd := s.command(s.program, "apply", s.file, "--auto-approve")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after)
		if i == 3 {
			s.run(t, "sh", "-c", "kill -9 $(cat /run/libvirtd.pid)")
			time.Sleep(time.Second)
		}
		cmd.Process.Kill() // the command in the lab dies with it
		err := cmd.Wait()
		t.Logf("killed after %v: %v\n%s", after, err, out.String())
	}
	s.must(t, "apply", s.file, "--auto-approve")
	if got := s.bootID(t, s.file, "isv_dev"); got != isvDev {
		t.Error("the other role was restarted")
	}
	s.must(t, "vtpm", "verify", "runtime", "-f", s.file, "--allow-unenrolled")
	if r := s.must(t, "apply", s.file, "--auto-approve"); !strings.Contains(r.stdout, "No changes") {
		t.Errorf("it did not converge: %v", r)
	}
}

func (s *story) twoAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if r := s.ovsactl(t, "apply", s.file, "--auto-approve"); r.code != 0 {
				t.Errorf("apply: %v", r)
			}
		})
	}
	wg.Wait()
}

func (s *story) destroy(t *testing.T) {
	s.must(t, "destroy", s.file, "--auto-approve")
	if found := s.leftovers(t); len(found) > 0 {
		t.Error(report(found))
	}
	if got := s.virsh(t, "list", "--all", "--name") + s.virsh(t, "net-list", "--all", "--name"); strings.Count(got, "not-ours") != 2 {
		t.Errorf("what is not ours was touched: %q", got)
	}
	s.must(t, "destroy", s.file, "--auto-approve") // of nothing
}
