package atomicfile

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writerOf has this test binary stage a file, say so, and wait for its end.
const writerOf = "OVSA_TEST_STAGES"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerOf); path != "" {
		_, err := Stage(path, 0o600, func(w io.Writer) error {
			_, err := io.WriteString(w, "half")
			os.Stdout.WriteString("staging\n")
			time.Sleep(time.Minute)
			return err
		})
		panic(err)
	}
	os.Exit(m.Run())
}

// writer is a process that is writing path.
func writer(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), writerOf+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := io.ReadFull(out, make([]byte, len("staging\n"))); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func temps(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestKilledWriterLeavesNothingForEver: the next writer of the same path removes
// what one that was killed left, and nothing of one that lives, or of other paths.
func TestKilledWriterLeavesNothingForEver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model")
	for _, other := range []string{".model.dat.12.tmp", ".model..tmp", ".model.x1.tmp", "model.12.tmp", ".model.12.tmp.kept"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	others := len(temps(t, dir))
	killed := writer(t, path)
	alive := writer(t, path)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.Wait()
	if n := len(temps(t, dir)) - others; n != 2 {
		t.Fatalf("two writers left %d files", n)
	}
	if err := WriteFile(path, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := len(temps(t, dir)) - others; n != 1 {
		t.Errorf("after the next run there are %d of one writer that lives: %v", n, temps(t, dir))
	}
	alive.Process.Kill()
	alive.Wait()
	Sweep(path)
	if left := temps(t, dir); len(left) != others {
		t.Errorf("left: %v", left)
	}
}
