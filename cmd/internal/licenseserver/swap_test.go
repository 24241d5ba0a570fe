package licenseserver_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/testlog"
)

// Where swap is on and nothing keeps models away from it, nothing is served, unless
// somebody wants that.
func TestHostingWithSwap(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	swaps := write("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/vda3                               partition\t1048572\t\t0\t\t-2\n")
	config := write("sample.json", `{"model_config_list":[{"config":{"name":"m", "base_path":"`+dir+`/none",
		"custom_loader_options": {"loader_name": "ovsa", "keystore": "/none", "controlled_access_file": "m"}}}]}`)
	program := filepath.Join(dir, "ovsaruntime")
	if err := os.Symlink(os.Args[0], program); err != nil {
		t.Fatal(err)
	}
	serve := func(more ...string) *exec.Cmd {
		args := append([]string{"-c", `mount --bind "$0" /proc/swaps && exec "$@"`, swaps, program,
			"serve", "-config", config, "-models", filepath.Join(dir, "models"), "-user", "nobody", "-ops", "off", "-front", "off"}, more...)
		cmd := exec.Command("/bin/sh", append(args, "--", "/bin/true")...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	var out bytes.Buffer
	refused := serve()
	refused.Stderr = &out
	kill := time.AfterFunc(20*time.Second, func() { refused.Process.Kill() })
	err := refused.Run()
	kill.Stop()
	if err == nil || !strings.Contains(out.String(), "error: serve: swap is on, and models could be written to it: /dev/vda3") || !strings.Contains(out.String(), "hint: switch it off: swapoff -a") {
		t.Errorf("%v: %s", err, &out)
	}

	log := new(testlog.Log)
	wanted := serve("-allow-swap")
	wanted.Stderr = log
	if err := wanted.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), `"msg":"serving"`) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	wanted.Process.Signal(syscall.SIGTERM)
	wanted.Wait()
	if says := log.String(); !strings.Contains(says, "parts of models may be written to a disk") || !strings.Contains(says, `"msg":"serving"`) {
		t.Errorf("-allow-swap: %s", says)
	}

	// A limit that nobody could keep is no limit.
	out.Reset()
	limited := serve("-allow-swap", "-memory", "67108864")
	limited.Stderr = &out
	kill = time.AfterFunc(20*time.Second, func() { limited.Process.Kill() })
	err = limited.Run()
	kill.Stop()
	if err == nil || !strings.Contains(out.String(), "limit the engine's memory") || !strings.Contains(out.String(), "do without a limit: -memory 0") {
		t.Errorf("%v: %s", err, &out)
	}
}
