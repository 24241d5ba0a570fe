package lockedmem

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMain makes this program a process that wants no dumps, too.
func TestMain(m *testing.M) {
	if os.Getenv("OVSA_NO_DUMPS") == "" {
		os.Exit(m.Run())
	}
	if err := NoDumps(); err != nil {
		panic(err)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		panic(err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		panic(err)
	}
	fmt.Println(dumpable, core.Cur, core.Max)
}

// flags are what the kernel says of the mapping that b is in (proc(5), VmFlags); nil
// when it is in none.
func flags(t *testing.T, b []byte) []string {
	t.Helper()
	return flagsAt(t, uintptr(unsafe.Pointer(unsafe.SliceData(b))))
}

func flagsAt(t *testing.T, at uintptr) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(text)) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= at && at < to
		}
		if rest, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return strings.Fields(rest)
		}
	}
	return nil
}

func has(flags []string, flag string) bool {
	return strings.Contains(" "+strings.Join(flags, " ")+" ", " "+flag+" ")
}

func TestMemoryIsLockedAndNotDumped(t *testing.T) {
	b := New(32)
	copy(b.Bytes(), "a secret")
	for flag, what := range map[string]string{"lo": "locked", "dd": "kept out of dumps", "wf": "wiped in children"} {
		if !has(flags(t, b.Bytes()), flag) {
			t.Errorf("it is not %s: %v", what, flags(t, b.Bytes()))
		}
	}
	if !b.Locked() || len(b.Bytes()) != 32 {
		t.Errorf("locked %v, %d bytes", b.Locked(), len(b.Bytes()))
	}
	b.Wipe()
	if !bytes.Equal(b.Bytes(), make([]byte, 32)) || has(flags(t, b.Bytes()), "lo") {
		t.Errorf("after Wipe: %x, %v", b.Bytes(), flags(t, b.Bytes()))
	}
}

// What nobody refers to any more is given back, and not before.
func TestMemoryIsGivenBack(t *testing.T) {
	bytes := New(32).Bytes() // of a Buffer that nobody has any more
	copy(bytes, "a secret")
	for range 5 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
	if string(bytes[:8]) != "a secret" || !has(flags(t, bytes), "lo") {
		t.Fatalf("given back while somebody has it: %q", bytes)
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(bytes)))
	for end := time.Now().Add(10 * time.Second); has(flagsAt(t, at), "lo"); time.Sleep(10 * time.Millisecond) {
		runtime.GC()
		if time.Now().After(end) {
			t.Fatal("it is still locked")
		}
	}
}

func TestNoDumps(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"OVSA_NO_DUMPS=1"}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "0 0 0\n" {
		t.Errorf("dumpable and core limits %q, %v", out, err)
	}
}
