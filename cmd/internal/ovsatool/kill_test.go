package ovsatool

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestKilledControlAccess: what a run leaves that is killed while it encrypts, the
// next run of the same command removes.
func TestKilledControlAccess(t *testing.T) {
	dir := t.TempDir()
	tool := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Args = append([]string{"ovsatool"}, args...)
		cmd.Dir, cmd.Env = dir, []string{"OVSA_TRUST=trust", "NOW=" + scriptNow}
		return cmd
	}
	for _, args := range [][]string{
		{"keygen", "-storekey", "-t", "ECDSA", "-n", "ISV", "-k", "isv", "-r", "isv.csr", "-e", "/CN=isv", "-insecure-software-keystore"},
		{"trust", "add", "primary_isv.csr.crt"},
		{"keygen", "-storecert", "-c", "primary_isv.csr.crt", "-k", "isv"},
	} {
		if out, err := tool(args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	model := filepath.Join(dir, "model.bin")
	if err := os.WriteFile(model, []byte("weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	protect := []string{
		"controlAccess", "-i", "model.bin", "-n", "n", "-d", "d", "-v", "1", "-p", "model.dat", "-m", "model.masterlic", "-k", "isv",
		"-g", "0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a01",
	}
	left := func() []string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(dir, ".*.tmp"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if err := os.Truncate(model, 16<<30); err != nil { // sparse, and long enough to be killed in
		t.Fatal(err)
	}
	killed := tool(protect...)
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); len(left()) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.Wait()
	if n := len(left()); n != 1 {
		t.Fatalf("the killed run left %d files: %v", n, left())
	}
	if err := os.Truncate(model, 7); err != nil {
		t.Fatal(err)
	}
	if out, err := tool(protect...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if names := left(); len(names) > 0 {
		t.Errorf("the next run left %v", names)
	}
}
