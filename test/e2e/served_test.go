//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vtpm"
)

// served is the guide's model while it is served.
type served struct{ *host }

// in runs a command in the runtime guest.
func (s *served) in(t *testing.T, argv ...string) string {
	t.Helper()
	return s.guest(t, "examples/guide.hcl", "runtime", argv...)
}

// answers says whether the front does, to a client.
func (s *served) answers(t *testing.T) bool {
	t.Helper()
	certs := "dist/demo/certs/"
	r := s.run(t, "curl", "--silent", "--fail", "--max-time", "10", "--cacert", certs+"server.pem", "--cert", certs+"client.pem", "--key", certs+"client.key",
		"https://192.168.122.30:2225/v2/models/controlled-access-model/ready")
	return r.code == 0
}

// processes are those of the guest with a name.
const processes = `for p in /proc/[0-9]*; do if [ "$(cat $p/comm 2>/dev/null)" = "$1" ]; then echo ${p#/proc/}; fi; done`

// alone: the models are where the engine looks for them, and nobody else finds them
// there, root in its own namespace included.
func (s *served) alone(t *testing.T) {
	for _, user := range []string{"root", "ovsa", "www-data"} {
		if got := s.in(t, "sudo", "-u", user, "sh", "-c", "ls -A /run/ovsa/models 2>&1 || true"); got != "" && !strings.HasSuffix(got, "Permission denied") {
			t.Errorf("%s sees %s", user, got)
		}
	}
	engine := s.in(t, "sudo", "sh", "-c", processes, "sh", "ovsa-engine")
	if engine == "" || strings.Contains(engine, "\n") {
		t.Fatalf("the engines are %q", engine)
	}
	if got := s.in(t, "sudo", "sh", "-c", `nsenter --mount --target "$1" ls /run/ovsa/models 2>&1 || true`, "sh", engine); !strings.Contains(got, "Permission denied") {
		t.Errorf("root, in the engine's namespace, sees %s", got)
	}
	// Root that becomes the engine's user does: so docs/security.md says.
	if got := s.in(t, "sudo", "nsenter", "--mount", "--target", engine, "setpriv", "--reuid=ovsa-engine", "--regid=ovsa-engine", "--clear-groups", "ls", "/run/ovsa/models"); got != "controlled-access-model" {
		t.Errorf("the engine's user sees %q", got)
	}
}

// disk: of the model in the clear, nothing is on the guest's disk.
func (s *served) disk(t *testing.T) {
	t.Helper()
	model, err := os.ReadFile("dist/demo/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	marks := map[string][]byte{}
	for i, name := range []string{"begin", "middle", "end"} {
		at := len(model)/8 + i*len(model)*3/8
		marks["the model's "+name] = model[at : at+64]
	}
	// What is on the disk is found: an own file.
	control := make([]byte, 64)
	rand.Read(control)
	file := filepath.Join(t.TempDir(), "control")
	if err := os.WriteFile(file, control, 0o600); err != nil {
		t.Fatal(err)
	}
	s.must(t, "cp", "-f", "examples/guide.hcl", file, "runtime:control")
	s.in(t, "sync")
	const own = "an own file"
	marks[own] = control
	for i, at := range s.disks(t) {
		for name, found := range s.search(t, at, marks) {
			if found != (name == own && i == 0) {
				t.Errorf("%s: %s is there: %t", at, name, found)
			}
		}
	}
}

// disks are the files of the runtime's disks.
func (s *served) disks(t *testing.T) []string {
	t.Helper()
	r := s.run(t, "find", filepath.Join(s.dataDir, "vm_images"), "-name", "ovsa_runtime_*", "-size", "+1024k")
	files := strings.Fields(r.stdout)
	if len(files) == 0 {
		t.Fatalf("it has no disk: %v", r)
	}
	return files
}

// search looks for marks in a file of the lab's.
func (s *served) search(t *testing.T, file string, marks map[string][]byte) map[string]bool {
	t.Helper()
	cmd := s.command("cat", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	const longest = 64
	buf, kept, all := make([]byte, 1<<20), 0, int64(0)
	for {
		n, err := io.ReadFull(out, buf[kept:])
		all += int64(n)
		part := buf[:kept+n]
		for name, mark := range marks {
			found[name] = found[name] || bytes.Contains(part, mark)
		}
		kept = copy(buf, part[max(0, len(part)-longest+1):])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil || all < 1<<20 {
		t.Fatalf("%s: %d bytes, %v", file, all, err)
	}
	t.Logf("%s: %d MB searched", file, all>>20)
	return found
}

// started says how often the runtime has started its engine, and whether the model is
// ready.
func (s *served) started(t *testing.T) (n int, ready bool) {
	t.Helper()
	r := s.run(t, s.program, "exec", "-f", "examples/guide.hcl", "runtime", "--", "/opt/ovsa/kvm/bin/ovsaruntime", "status", "-json")
	var told struct {
		Models []struct{ State string }
		Engine struct{ Started int }
	}
	if r.code != 0 || json.Unmarshal([]byte(r.stdout), &told) != nil || len(told.Models) != 1 {
		return 0, false
	}
	return told.Engine.Started, told.Models[0].State == "ready"
}

// killed: whichever process dies, all comes back, and nothing is left on the disk.
func (s *served) killed(t *testing.T) {
	for _, name := range []string{"nginx", "ovsa-engine", "ovsaruntime"} {
		before, _ := s.started(t)
		pids := strings.Fields(s.in(t, "sudo", "sh", "-c", processes, "sh", name))
		if len(pids) == 0 {
			t.Fatalf("there is no %s", name)
		}
		s.in(t, append([]string{"sudo", "kill", "-KILL"}, pids...)...)
		within(t, 2*time.Minute, name+" comes back", func() bool {
			n, ready := s.started(t)
			return ready && (n > before || name == "ovsaruntime") && s.answers(t)
		})
	}
	s.disk(t)
	if got := s.in(t, "sudo", "sh", "-c", "find / /var/lib/systemd/coredump -maxdepth 1 -type f -name 'core*' 2>/dev/null || true"); got != "" {
		t.Errorf("there are core files: %s", got)
	}
}

// moved: with a copy of its disk and its virtual TPM on a host with another TPM, the
// guest gets no key. On its own host, when that has booted again, it serves by itself.
func (s *served) moved(t *testing.T) {
	before := s.bootID(t, "examples/guide.hcl", "runtime")
	const state, other = "/run/ovsactl/lab/tpm/state", "/run/ovsactl/lab/tpm/other"
	// Its maker is the same, so that nothing but who it is differs.
	s.run(t, "mkdir", "-p", other)
	if r := s.run(t, "swtpm_setup", "--tpm2", "--tpm-state", other, "--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram"); r.code != 0 {
		t.Fatalf("make another TPM: %v", r)
	}
	s.boot(t, other)
	within(t, 5*time.Minute, "it is refused", func() bool {
		r := s.run(t, s.program, "exec", "-f", "examples/guide.hcl", "runtime", "--", "/opt/ovsa/kvm/bin/ovsaruntime", "status")
		return strings.Contains(r.stdout, "refused")
	})
	t.Log(s.in(t, "/opt/ovsa/kvm/bin/ovsaruntime", "status"))
	if s.answers(t) {
		t.Error("it serves on another host")
	}
	if r := s.ovsactl(t, "vtpm", "verify", "runtime", "-f", "examples/guide.hcl"); r.code == 0 {
		t.Errorf("it is proven on another host: %v", r)
	}

	s.boot(t, state)
	within(t, 5*time.Minute, "it serves again", func() bool { return s.answers(t) })
	if s.bootID(t, "examples/guide.hcl", "runtime") == before {
		t.Error("it was not booted")
	}
	s.must(t, "vtpm", "verify", "runtime", "-f", "examples/guide.hcl")
}

// boot has the host boot with a TPM, as far as a lab has that: its guest is off
// meanwhile, and the TPM is started anew.
func (s *served) boot(t *testing.T, state string) {
	t.Helper()
	const socket = "/run/ovsactl/lab/tpm/sock"
	s.virsh(t, "shutdown", "ovsa_runtime")
	within(t, 2*time.Minute, "the guest shuts down", func() bool { return s.virsh(t, "domstate", "ovsa_runtime") == "shut off" })
	pid := strings.Fields(s.run(t, "pgrep", "-f", "swtpm socket --tpm2 .*path="+socket+" ").stdout)
	if len(pid) != 1 {
		t.Fatalf("the host's TPMs are %q", pid)
	}
	s.run(t, "kill", pid[0])
	within(t, 10*time.Second, "the TPM ends", func() bool { return s.run(t, "kill", "-0", pid[0]).code != 0 })
	if r := s.run(t, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl",
		"--flags", "not-need-init,startup-clear", "--daemon", "--pid", "file="+state+".pid"); r.code != 0 {
		t.Fatalf("start a TPM: %v", r)
	}
	// Whoever is in the lab's namespaces sees its socket; its libvirt is.
	root := "/proc/" + s.outer(t) + "/root"
	if err := vtpm.MeasureStandIn(t.Context(), "unix:"+root+socket); err != nil {
		t.Fatal(err)
	}
	s.virsh(t, "start", "ovsa_runtime")
}

// outer is the number that a process of the lab has outside.
func (s *served) outer(t *testing.T) string {
	t.Helper()
	var labs []struct {
		Name string
		PID  int
	}
	r := s.outside(t, "lab", "ls", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &labs); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	for _, l := range labs {
		if l.Name == s.lab {
			return strconv.Itoa(l.PID)
		}
	}
	t.Fatalf("no lab %s: %v", s.lab, r)
	return ""
}
