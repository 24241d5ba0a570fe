package seccomp_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/internal/seccomp"
)

// The test's program is one that is refused calls, too: with an argument it becomes
// that program.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "too many" {
		fmt.Println(seccomp.Refuse(make([]uintptr, 2500)))
		os.Exit(0)
	}
	if len(os.Args) < 3 || os.Args[1] != "refused" {
		os.Exit(m.Run())
	}
	if err := seccomp.Refuse(seccomp.Powerful()); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(unix.Exec(os.Args[2], os.Args[2:], os.Environ()))
	os.Exit(1)
}

// compiled is a program in C.
func compiled(t *testing.T, code string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "program.c")
	if err := os.WriteFile(source, []byte("#define _GNU_SOURCE\n#include <errno.h>\n#include <sched.h>\n#include <signal.h>\n#include <stdio.h>\n#include <string.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n"+code), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (run.Cmd{Path: need.Program(t, "gcc"), Args: []string{"-o", filepath.Join(dir, "program"), source}}).Output(t.Context()); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "program")
}

func TestRefused(t *testing.T) {
	need.Root(t) // who may do all of it otherwise
	program := compiled(t, `
static void say(const char *what, long got) { printf("%s: %s\n", what, got < 0 ? strerror(errno) : "done"); }
int main(void) {
	say("pid", getpid());
	say("unshare", syscall(SYS_unshare, CLONE_NEWUSER));
	say("mount", syscall(SYS_mount, "none", "/", NULL, 0x40000, NULL));
	say("ptrace", syscall(SYS_ptrace, 0, 0, 0, 0));
	say("namespace", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
	char args[88] = {0};
	say("clone3", syscall(SYS_clone3, args, sizeof args));
	say("x32", syscall(0x40000000 | SYS_getpid));
	fflush(stdout);
	long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0) _exit(0);
	say("process", child);
}`)
	got, err := run.Cmd{Path: os.Args[0], Args: []string{"refused", program}}.Output(t.Context())
	want := `pid: done
unshare: Operation not permitted
mount: Operation not permitted
ptrace: Operation not permitted
namespace: Operation not permitted
clone3: Function not implemented
x32: Function not implemented
process: done
`
	if err != nil || string(got) != want {
		t.Errorf("it says\n%s(%v), want\n%s", got, err, want)
	}
}

// By the calls of i386 nothing goes past.
func TestOtherInterface(t *testing.T) {
	program := compiled(t, `
int main(void) {
	long got = 20; /* getpid */
	__asm__ volatile ("int $0x80" : "+a"(got));
	return 0;
}`)
	if err := (run.Cmd{Path: program}).Run(t.Context()); err != nil {
		t.Fatalf("this machine has not the calls of i386: %v", err)
	}
	err := run.Cmd{Path: os.Args[0], Args: []string{"refused", program}}.Run(t.Context())
	var failed *run.Error
	if !errors.As(err, &failed) || failed.Signal != syscall.SIGSYS || strings.Contains(err.Error(), "refuse") {
		t.Errorf("it ends with %v", err)
	}
}

// A filter that the kernel does not take is no success.
func TestNotTaken(t *testing.T) {
	got, err := run.Cmd{Path: os.Args[0], Args: []string{"too many"}}.Output(t.Context())
	if err != nil || string(got) != "refuse system calls: invalid argument\n" {
		t.Errorf("%q, %v", got, err)
	}
}
