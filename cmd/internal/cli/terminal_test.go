package cli

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// openPTY is a terminal: what is typed goes into keyboard, and tty is what a
// program sees.
func openPTY(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	if err := unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return keyboard, tty
}

func resize(t *testing.T, f *os.File, rows, cols uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		t.Fatal(err)
	}
}

// TestSSHOnATerminal logs in like a person: a prompt, a window that changes its
// size, an exit status, and a terminal that is as it was before.
func TestSSHOnATerminal(t *testing.T) {
	g := sshGuests(t)
	conn, err := g.connect(t.Context(), "a", login{timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	keyboard, tty := openPTY(t)
	resize(t, keyboard, 33, 91)
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	screen := bufio.NewScanner(keyboard)
	expect := func(line string) {
		t.Helper()
		for screen.Scan() {
			if strings.HasSuffix(strings.TrimSpace(screen.Text()), line) { // a prompt may be before it
				return
			}
		}
		t.Fatalf("%q never came", line)
	}
	env := Env{Stdin: tty, Stdout: tty, Stderr: tty, Getenv: func(string) string { return "dumb" }}
	ended := make(chan error, 1)
	go func() { ended <- passExit(runSSH(t.Context(), env, conn, []string{"sh"}, true)) }()
	fmt.Fprint(keyboard, "stty size; echo o''k\n")
	expect("33 91")
	expect("ok")
	resize(t, keyboard, 44, 120)
	syscall.Kill(os.Getpid(), unix.SIGWINCH)
	fmt.Fprint(keyboard, "while [ \"$(stty size)\" != '44 120' ]; do sleep 0.1; done; echo resi''zed; exit 6\n")
	expect("resized")
	if err := <-ended; !errors.Is(err, exitStatus(6)) {
		t.Errorf("ended with %v", err)
	}
	if after, err := term.GetState(int(tty.Fd())); err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("the terminal is not as it was: %v", err)
	}
}
