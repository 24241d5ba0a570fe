package sqlite_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
)

// TestPowerLoss: whenever the power fails, each lease that a guest was told of is in
// the ledger. A process records what it asks of the disk; what a disk has that loses
// all that was not synced, or any part of it, is made from that, and opened.
func TestPowerLoss(t *testing.T) {
	calls := record(t, 800)
	for name, c := range map[string]struct {
		syncs func(file string) bool // is obeyed
		keeps float64                // of the writes that were not synced
		lost  bool
	}{
		"what was not synced is lost":       {syncs: func(string) bool { return true }},
		"some of it is not":                 {syncs: func(string) bool { return true }, keeps: 0.5},
		"a disk that obeys no sync of logs": {syncs: func(file string) bool { return !strings.HasSuffix(file, "-wal") }, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := disk{syncs: c.syncs, files: map[string]*file{}, entries: map[string]*file{}}
			var told []string
			lost, cuts := 0, 0
			for _, call := range calls {
				if call.told == "" {
					d.apply(t, call)
					continue
				}
				told = append(told, call.told)
				if len(told)%29 == 1 {
					cuts++
					lost += missing(t, d.after(c.keeps), told, c.lost)
				}
			}
			if len(told) < 750 || cuts < 20 || d.checkpoints == 0 {
				t.Fatalf("%d leases told, %d cuts, %d checkpoints: the test shows nothing", len(told), cuts, d.checkpoints)
			}
			if (lost > 0) != c.lost {
				t.Errorf("%d leases lost at %d cuts", lost, cuts)
			}
		})
	}
}

// missing is how many of the leases told are not in the ledger that the files are.
func missing(t *testing.T, files map[string][]byte, told []string, may bool) int {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "ovsa.db")
	if _, err := os.Stat(path); err != nil {
		return len(told)
	}
	l, err := sqlite.Open(t.Context(), path)
	if err != nil {
		if !may {
			t.Error(err)
		}
		return len(told)
	}
	defer l.Close()
	if _, _, err := l.VerifyAudit(t.Context(), nil); err != nil && !may {
		t.Error(err)
	}
	logged := map[string]bool{}
	if err := l.Audit(t.Context(), 0, func(_ int64, e ledger.Entry) error {
		logged[e.Lease] = true
		return nil
	}); err != nil && !may {
		t.Error(err)
	}
	n := 0
	for _, id := range told {
		if !logged[id] {
			n++
		}
	}
	return n
}

// disk is what a process asked of one, in one directory.
type disk struct {
	syncs       func(file string) bool
	files       map[string]*file // by name, as the process sees them
	entries     map[string]*file // as the directory was synced
	checkpoints int              // writes to the database while there is a log
}

// file is one, as it was synced, and what was done to it since.
type file struct {
	synced []byte
	since  []call
}

// call is a system call by a traced process, or a lease that it told of.
type call struct {
	name, file string
	data       []byte
	at         int64
	told       string
}

func (d *disk) apply(t *testing.T, c call) {
	t.Helper()
	f := d.files[c.file]
	switch c.name {
	case "openat":
		if f == nil {
			d.files[c.file] = &file{}
		}
	case "unlink":
		delete(d.files, c.file)
	case "pwrite64", "ftruncate":
		if f == nil {
			t.Fatalf("%s of %q, which nobody opened", c.name, c.file)
		}
		f.since = append(f.since, c)
		if c.file == "ovsa.db" && d.entries["ovsa.db-wal"] != nil {
			d.checkpoints++
		}
	case "fsync", "fdatasync":
		switch {
		case c.file == ".":
			d.entries = maps.Clone(d.files)
		case d.syncs(c.file):
			f.synced, f.since = f.with(1), nil
		}
	}
}

// with is a file with a part of what was done to it since it was synced.
func (f *file) with(part float64) []byte {
	data := bytes.Clone(f.synced)
	for _, c := range f.since {
		if rand.Float64() >= part {
			continue
		}
		size := max(int64(len(data)), c.at+int64(len(c.data)))
		if c.name == "ftruncate" {
			size = c.at
		}
		data = append(data, make([]byte, max(0, size-int64(len(data))))...)[:size]
		copy(data[min(c.at, size):], c.data)
	}
	return data
}

// after is what is there when the power is.
func (d *disk) after(part float64) map[string][]byte {
	files := map[string][]byte{}
	for name, f := range d.entries {
		if !strings.HasSuffix(name, "-shm") { // memory: what it has is in the log
			files[name] = f.with(part)
		}
	}
	return files
}

// record has a process claim leases until it told of n, and returns what it asked of
// the disk meanwhile.
func record(t *testing.T, n int) []call {
	t.Helper()
	strace := need.Program(t, "strace")
	dir := t.TempDir()
	path, trace := filepath.Join(dir, "db", "ovsa.db"), filepath.Join(dir, "trace")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	// Strings in hex, whole; paths of descriptors.
	cmd := exec.CommandContext(t.Context(), strace, "-f", "-y", "-xx", "-s", "1000000", "-o", trace, "-e", "signal=none",
		"-e", "trace=openat,unlink,pwrite64,write,ftruncate,fsync,fdatasync", os.Args[0])
	cmd.Env = append(os.Environ(), claimant+"="+path)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// With strace goes whom it traces.
	end := func() {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		cmd.Wait()
	}
	lines := bufio.NewScanner(out)
	for told := 0; told < n; told++ {
		if !lines.Scan() || len(lines.Text()) != 32 {
			end()
			t.Fatalf("%q told: %s", lines.Text(), errs.String())
		}
	}
	end()
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return parseTrace(t, bufio.NewReader(f), filepath.Dir(path))
}

// A line of strace's: a thread, the call, its first argument and the others. One
// that was cut in two counts from where it began, but for a sync, which counts from
// where it ended. What it syncs is what was written before it began: that a thread
// writes meanwhile to a file that another syncs would be an error of SQLite's.
var (
	traced  = regexp.MustCompile(`^(\d+) +(\w+)\(([^,)]*)(?:, )?(.*)$`)
	resumed = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>`)
	quoted  = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"`)
)

func parseTrace(t *testing.T, r *bufio.Reader, dir string) (calls []call) {
	t.Helper()
	begun := map[string]call{} // syncs, by thread
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return calls
		}
		if m := resumed.FindStringSubmatch(line); m != nil {
			if c, ok := begun[m[1]]; ok && c.name == m[2] && strings.HasSuffix(strings.TrimSpace(line), "= 0") {
				calls = append(calls, c)
				delete(begun, m[1])
			}
			continue
		}
		m := traced.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		c := call{name: m[2]}
		where := m[3]
		if c.name == "openat" {
			where = m[4]
		}
		var text string
		if c.name == "openat" || c.name == "unlink" {
			text = unhex(t, quoted.FindStringSubmatch(where))
		} else if _, rest, ok := strings.Cut(where, "<"); ok {
			text = rest[:strings.IndexByte(rest, '>')]
			if strings.HasPrefix(text, `\x`) {
				text = unhex(t, []string{"", text})
			}
		}
		rel, err := filepath.Rel(dir, text)
		if inside := err == nil && filepath.IsLocal(rel); !inside {
			if id := toldBy(t, c.name, m[3], m[4]); id != "" {
				calls = append(calls, call{told: id})
			}
			continue
		}
		c.file = rel
		switch c.name {
		case "openat":
			if !strings.Contains(line, "O_CREAT") || strings.Contains(line, "= -1") {
				continue
			}
		case "pwrite64":
			c.data = []byte(unhex(t, quoted.FindStringSubmatch(m[4])))
			c.at = number(t, m[4], 2)
		case "ftruncate":
			c.at = number(t, m[4], 0)
		case "fsync", "fdatasync":
			if strings.Contains(line, "<unfinished") {
				begun[m[1]] = c
				continue
			}
		}
		calls = append(calls, c)
	}
}

// toldBy is the lease that a write to the standard output tells of.
func toldBy(t *testing.T, name, fd, args string) string {
	t.Helper()
	if name != "write" || !strings.HasPrefix(fd, "1<") {
		return ""
	}
	return strings.TrimSpace(unhex(t, quoted.FindStringSubmatch(args)))
}

func unhex(t *testing.T, match []string) string {
	t.Helper()
	if match == nil {
		t.Fatal("no string in the trace where one belongs")
	}
	data, err := hex.DecodeString(strings.ReplaceAll(match[1], `\x`, ""))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// number is the nth of a call's other arguments.
func number(t *testing.T, args string, n int) int64 {
	t.Helper()
	parts := strings.Split(args, ", ")
	if len(parts) <= n {
		t.Fatalf("no argument %d in %.80q", n, args)
	}
	digits := parts[n]
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		t.Fatal(fmt.Errorf("%.80q: %w", args, err))
	}
	return v
}
