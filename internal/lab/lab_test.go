package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
)

// TestMain makes the test program a lab's inner processes too: labs start
// "this program" again.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "hold":
			fatal(Hold([]string{"serve", os.Args[2]}))
		case "serve":
			fatal(Serve(os.Args[2], Parts{
				StartTPM:       func(context.Context, string, string, string) error { return nil },
				PrepareHost:    func(context.Context, string) error { return nil },
				PrepareLibvirt: func(context.Context, string) error { return nil },
			}))
		case "exec":
			fatal(Exec(os.Args[2:], os.Environ()))
		case "main": // NAME
			if err := fromMainThread(os.Args[2]); err != nil {
				fatal(err)
			}
			os.Exit(0)
		case "run": // NAME COMMAND...
			l, err := Find(os.Args[2])
			if err == nil {
				_, err = Run(context.Background(), l, Command{Argv: os.Args[3:], Stdout: os.Stdout, Inner: []string{"exec"}})
			}
			fatal(err)
		}
	}
	os.Exit(m.Run())
}

// fromMainThread is what the scheduler may do to startInside: it is run on the
// main thread, where init functions run.
func fromMainThread(name string) error {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		return errors.New("this is not the main thread")
	}
	l, err := Find(name)
	if err != nil {
		return err
	}
	before, _ := os.Readlink("/proc/self/ns/mnt")
	cmd := run.Cmd{Path: "/proc/self/exe", Args: []string{"exec", "true"}, Dir: "/", Env: os.Environ()}
	if err := startInside(context.Background(), l, cmd, make(chan *run.Process, 1)); err != nil {
		return err
	}
	if after, _ := os.Readlink("/proc/self/ns/mnt"); before == "" || after != before {
		return fmt.Errorf("the process is in %q, and was in %q", after, before)
	}
	return nil
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// up starts a lab for the test and ends it after.
func up(t *testing.T, name string) Lab {
	t.Helper()
	needLab(t)
	dataDir := t.TempDir()
	name = fmt.Sprintf("%s-%d", name, os.Getpid())
	t.Cleanup(func() { Down(context.Background(), name) })
	l, started, err := Up(t.Context(), Options{Name: name, DataDir: dataDir, Holder: []string{"hold", dataDir}})
	if err != nil || !started {
		t.Fatalf("up: started %v: %v", started, err)
	}
	return l
}

// needLab needs the tools of a lab.
func needLab(t *testing.T) {
	t.Helper()
	need.Root(t)
	need.Programs(t, "libvirtd", "virtlogd", "virsh")
}

// in runs a command in the lab and returns its exit code and output.
func in(t *testing.T, l Lab, argv ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	code, err := Run(t.Context(), l, Command{Argv: argv, Stdout: &out, Stderr: &out, Inner: []string{"exec"}})
	if err != nil {
		t.Fatalf("run %q: %v", argv, err)
	}
	return code, strings.TrimSpace(out.String())
}

func TestRun(t *testing.T) {
	l := up(t, "run")
	wd, _ := os.Getwd()
	t.Setenv("OVSA_TEST", "kept")
	tests := []struct {
		name string
		argv []string
		code int
		out  string
	}{
		{"exit code", []string{"sh", "-c", "exit 42"}, 42, ""},
		{"killed", []string{"sh", "-c", "kill -9 $$"}, 137, ""},
		{"working directory", []string{"pwd"}, 0, wd},
		{"environment", []string{"sh", "-c", "echo $OVSA_TEST"}, 0, "kept"},
		{"TPM", []string{"sh", "-c", "echo $OVSACTL_TPM"}, 0, TPMAddress},
		{"arguments are not a shell's", []string{"echo", "a b", "$HOME"}, 0, "a b $HOME"},
		{"own libvirt", []string{"virsh", "-q", "-c", "qemu:///system", "list", "--all"}, 0, ""},
		{"own network", []string{"sh", "-c", "ls /sys/class/net"}, 0, "lo"},
		{"own processes", []string{"sh", "-c", "readlink /proc/self/ns/pid | grep -c ."}, 0, "1"},
		{"own /run", []string{"ls", Root}, 2, "ls: cannot access '" + Root + "': No such file or directory"},
		{"no such program", []string{"no-such-program"}, 1, `run "no-such-program": no such program in PATH`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if code, out := in(t, l, tt.argv...); code != tt.code || out != tt.out {
				t.Errorf("got %d, %q; want %d, %q", code, out, tt.code, tt.out)
			}
		})
	}
	t.Run("stdin", func(t *testing.T) {
		var out bytes.Buffer
		code, err := Run(t.Context(), l, Command{Argv: []string{"cat"}, Stdin: strings.NewReader("hello"), Stdout: &out, Inner: []string{"exec"}})
		if code != 0 || err != nil || out.String() != "hello" {
			t.Errorf("got %d, %v, %q", code, err, out.String())
		}
	})
	t.Run("up again", func(t *testing.T) {
		if _, started, err := Up(t.Context(), Options{Name: l.Name, DataDir: l.DataDir}); started || err != nil {
			t.Errorf("started %v: %v", started, err)
		}
	})
}

// The image cache is shared, everything else of the data directory is not.
func TestDataDir(t *testing.T) {
	l := up(t, "data")
	if code, out := in(t, l, "sh", "-c", `cd "$1" && echo 1 >cache/seen && echo 1 >unseen`, "sh", l.DataDir); code != 0 {
		t.Fatal(out)
	}
	if _, err := os.Stat(filepath.Join(l.DataDir, "cache", "seen")); err != nil {
		t.Errorf("the cache is not shared: %v", err)
	}
	if _, err := os.Stat(filepath.Join(l.DataDir, "unseen")); err == nil {
		t.Error("a file of the lab is on the host")
	}
}

func TestSignalsReachTheCommand(t *testing.T) {
	l := up(t, "signal")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	code := make(chan int, 1)
	go func() {
		c, _ := Run(context.Background(), l, Command{
			Argv:   []string{"sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"},
			Stdout: w, Inner: []string{"exec"},
		})
		code <- c
	}()
	if _, err := r.Read(make([]byte, 16)); err != nil { // "ready"
		t.Fatal(err)
	}
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	select {
	case c := <-code:
		if c != 9 {
			t.Errorf("exit code %d", c)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the command did not get the signal")
	}
}

// A process that runs a command in a lab is not in the lab itself.
func TestMainThreadStaysOutside(t *testing.T) {
	l := up(t, "main")
	if out, err := exec.Command("/proc/self/exe", "main", l.Name).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// Whoever kills `lab run` kills what it runs.
func TestCommandDiesWithRun(t *testing.T) {
	l := up(t, "dies")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", "run", l.Name, "sh", "-c", "echo ready; exec sleep 4711")
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 16)); err != nil { // "ready"
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, out := in(t, l, "ps", "-eo", "args="); !strings.Contains(out, "sleep 4711") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the command outlived the run")
		}
	}
}

// Whatever way a lab ends, nothing that it started is left.
func TestNothingIsLeft(t *testing.T) {
	for _, end := range []struct {
		name string
		do   func(Lab) error
	}{
		{"down", func(l Lab) error { return Down(context.Background(), l.Name) }},
		{"kill", func(l Lab) error { return syscall.Kill(l.PID, syscall.SIGKILL) }},
	} {
		t.Run(end.name, func(t *testing.T) {
			l := up(t, end.name)
			ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", l.PID))
			if err != nil {
				t.Fatal(err)
			}
			// An orphan, in a session of its own, that ignores what it can.
			if code, out := in(t, l, "sh", "-c", "setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000' >/dev/null 2>&1 &"); code != 0 {
				t.Fatal(out)
			}
			if n := members(t, ns); n < 4 {
				t.Fatalf("only %d processes in the lab", n)
			}
			if err := end.do(l); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(10 * time.Second); members(t, ns) > 0; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d processes are left", members(t, ns))
				}
			}
			if _, err := Find(l.Name); !errors.Is(err, ErrNone) {
				t.Errorf("it is still registered: %v", err)
			}
			mounts, _ := os.ReadFile("/proc/self/mounts")
			if strings.Contains(string(mounts), l.DataDir) {
				t.Error("a mount is left")
			}
		})
	}
}

// members counts the processes of a pid namespace, zombies of it not: their
// namespace link is gone.
func members(t *testing.T, ns string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, l := range links {
		if got, _ := os.Readlink(l); got == ns {
			n++
		}
	}
	return n
}

func TestTwoLabsSideBySide(t *testing.T) {
	a, b := up(t, "a"), up(t, "b")
	const network = "<network><name>only-a</name></network>"
	if code, out := in(t, a, "sh", "-c", `f=$(mktemp) && echo "$1" >$f && virsh -q net-define $f; rm $f`, "sh", network); code != 0 {
		t.Fatal(out)
	}
	if _, out := in(t, a, "virsh", "-q", "net-list", "--all", "--name"); !strings.Contains(out, "only-a") {
		t.Errorf("lab a: %q", out)
	}
	if _, out := in(t, b, "virsh", "-q", "net-list", "--all", "--name"); strings.Contains(out, "only-a") {
		t.Errorf("lab b: %q", out)
	}
}

// A libvirtd that dies comes back, and orphans are reaped.
func TestDaemonsAreKept(t *testing.T) {
	l := up(t, "keep")
	if code, out := in(t, l, "sh", "-c", "kill -9 $(cat /run/libvirtd.pid)"); code != 0 {
		t.Fatal(out)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		if code, _ := in(t, l, "virsh", "-q", "list"); code == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("libvirtd did not come back")
		}
		time.Sleep(100 * time.Millisecond)
	}
	if code, out := in(t, l, "sh", "-c", "(sleep 0.1 &) ; sleep 0.5; ps -eo stat= | grep -c Z"); code != 1 {
		t.Errorf("zombies: %s", out)
	}
}

func TestUpFailsWithTheLog(t *testing.T) {
	needLab(t)
	name := fmt.Sprintf("fails-%d", os.Getpid())
	defer Down(context.Background(), name)
	_, _, err := Up(t.Context(), Options{Name: name, DataDir: t.TempDir(), Holder: []string{"hold", "/no/such/data"}})
	if err == nil || !strings.Contains(err.Error(), "open image cache") {
		t.Fatalf("got %v", err)
	}
	if _, err := Find(name); !errors.Is(err, ErrNone) {
		t.Errorf("a failed lab is registered: %v", err)
	}
}

func TestInterruptedUp(t *testing.T) {
	needLab(t)
	name := fmt.Sprintf("stopped-%d", os.Getpid())
	defer Down(context.Background(), name)
	ctx, cancel := context.WithCancelCause(t.Context())
	dataDir := t.TempDir()
	_, _, err := Up(ctx, Options{
		Name: name, DataDir: dataDir, Holder: []string{"hold", dataDir},
		Step: func(step string) {
			if step == "libvirt" {
				cancel(errors.New("enough"))
			}
		},
	})
	if err == nil || !strings.Contains(err.Error(), "enough") {
		t.Fatalf("got %v", err)
	}
	if _, err := Find(name); !errors.Is(err, ErrNone) {
		t.Errorf("it is still registered: %v", err)
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"default": true, "a-1_b": true, "": false, "../x": false, "A": false, "-x": false, strings.Repeat("a", 33): false} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
	if err := Down(t.Context(), "never-was"); err != nil {
		t.Errorf("down of nothing: %v", err)
	}
}

func TestParseStartTime(t *testing.T) {
	rest := strings.Repeat(" 0", 18)
	for _, tt := range []struct {
		stat string
		want uint64 // 0: refused
	}{
		{"12 (a) b) S" + rest + " 4711 0 0", 4711},
		{"12 (sh) Z" + rest + " 4711 0 0", 0},
		{"12 (sh) S 1 2", 0},
		{"", 0},
	} {
		if got, err := parseStartTime([]byte(tt.stat)); got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%q: got %d, %v", tt.stat, got, err)
		}
	}
}
