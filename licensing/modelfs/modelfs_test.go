package modelfs_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/testlog"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/model"
	"github.com/ovsactl/ovsactl/licensing/modelfs"
)

// A test's program runs in a mount namespace of its own, where it mounts the file
// system as its user and then does something: see inside.
func TestMain(m *testing.M) {
	if os.Getenv("OVSA_TEST_INSIDE") == "" {
		os.Exit(m.Run())
	}
	if err := insideMain(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// nobody is the user that may read.
const nobody = 65534

func insideMain(dir string, args []string) error {
	device := os.NewFile(3, "/dev/fuse")
	number, err := modelfs.Attach(device, dir, nobody, nobody)
	if err != nil {
		return err
	}
	device.Close()
	fmt.Println("attached", number)
	user := uint32(nobody)
	if args[0] == "as-root" {
		user, args = 0, args[1:]
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "MODELS="+dir)
	if user == nobody {
		cmd.Dir = dir
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}, Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}

// world has a file system of models.
type world struct {
	t        testing.TB
	fs       *modelfs.FS
	log      *lines
	counters modelfs.Counters
	key      licensing.Key
	dat      []byte // of the latest model
}

func newWorld(t testing.TB, cache int64) *world {
	t.Helper()
	need.Root(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		need.Absent(t, "/dev/fuse", err.Error())
	}
	w := &world{t: t, log: new(lines), key: licensing.NewKey()}
	w.fs = modelfs.New(modelfs.Options{UID: nobody, GID: nobody, Cache: cache, Log: slog.New(slog.NewTextHandler(w.log, nil)), Counters: &w.counters})
	return w
}

// content is what looks like nothing else.
func content(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// seal makes a container.
func (w *world) seal(files map[string][]byte) {
	w.t.Helper()
	var sources []model.Source
	for name, data := range files {
		sources = append(sources, model.Source{Name: name, Reader: bytes.NewReader(data)})
	}
	var dat bytes.Buffer
	s := model.Sealer{Key: w.key, Info: model.Info{Name: "face", Version: "1", GUID: "0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a01"}, Sign: func(b []byte) ([]byte, error) { return b, nil }}
	if _, err := s.Seal(w.t.Context(), &dat, sources); err != nil {
		w.t.Fatal(err)
	}
	w.dat = dat.Bytes()
}

// show adds the container as a version.
func (w *world) show(name string, number int64) *model.Model {
	w.t.Helper()
	o := model.Opener{Verify: func(b []byte) ([]byte, error) { return b, nil }}
	c, err := o.Open(w.t.Context(), bytes.NewReader(w.dat), int64(len(w.dat)))
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := c.Unlock(w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(m.Close)
	if err := w.fs.Add(name, number, m); err != nil {
		w.t.Fatal(err)
	}
	return m
}

// process runs in the namespace where the models are.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *lines
	server *modelfs.Server
	dir    string
}

// start starts a program, which reads from in and whose output is in out.
func (w *world) start(args ...string) *process {
	w.t.Helper()
	return w.startWith(w.fs.Serve, args...)
}

// startWith is start, where somebody else answers the kernel.
func (w *world) startWith(serve func(device *os.File) (*modelfs.Server, error), args ...string) *process {
	w.t.Helper()
	device, err := modelfs.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	defer device.Close()
	p := &process{t: w.t, dir: w.t.TempDir(), out: new(lines)}
	os.Chmod(p.dir, 0o755)
	os.Chmod(filepath.Dir(p.dir), 0o755)
	p.cmd = exec.Command(os.Args[0], append([]string{p.dir}, args...)...)
	p.cmd.Env = append(os.Environ(), "OVSA_TEST_INSIDE=1")
	p.cmd.ExtraFiles = []*os.File{device}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		if p.server != nil {
			p.server.Wait()
		}
	})
	number := strings.TrimSpace(strings.TrimPrefix(p.out.after(w.t, 0, "attached "), "attached "))
	if p.server, err = serve(device); err != nil {
		w.t.Fatal(err)
	}
	if err := modelfs.ReadAhead(number); err != nil {
		w.t.Error(err)
	}
	return p
}

// shell is a shell that is given commands.
func (w *world) shell() *process { return w.start("sh") }

// run gives a shell a command, and returns what that says.
func (p *process) run(command string) string {
	p.t.Helper()
	before := p.out.len()
	fmt.Fprintf(p.in, "( %s ) 2>&1; echo \"done $?\"\n", command)
	return p.out.after(p.t, before, "done ")
}

func TestReadsAsItIs(t *testing.T) {
	w := newWorld(t, 0)
	files := map[string][]byte{
		"empty.bin": {}, "face.xml": []byte("<net/>"), "chunk.bin": content(1, model.ChunkSize),
		"face.bin": content(2, 9*model.ChunkSize+12345),
	}
	w.seal(files)
	w.show("face", 4)
	p := w.shell()
	if got := p.run("find . | sort"); got != ".\n./face\n./face/4\n./face/4/chunk.bin\n./face/4/empty.bin\n./face/4/face.bin\n./face/4/face.xml\ndone 0" {
		t.Errorf("the tree is %s", got)
	}
	if got := p.run("stat -c '%A %U %s' face/4/face.xml; stat -c '%A %U' face"); got != "-r-------- nobody 6\ndr-x------ nobody\ndone 0" {
		t.Errorf("modes: %s", got)
	}
	total := uint64(0)
	for _, data := range files {
		total += uint64(len(data))
	}
	for range 2 { // decrypted, and from the kernel's cache
		for name, data := range files {
			if got := p.run("sha256sum < face/4/" + name); !strings.HasPrefix(got, fmt.Sprintf("%x ", sha256.Sum256(data))) {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
	if c := &w.counters; c.Read.Load() != total || c.Decrypted.Load() != total || c.Kept.Load() == 0 || c.Wrong.Load() != 0 {
		t.Errorf("of %d bytes, read %d, decrypted %d; kept %d, wrong %d", total, c.Read.Load(), c.Decrypted.Load(), c.Kept.Load(), c.Wrong.Load())
	}
	// parts, across chunks and beyond the end, and without the kernel's cache
	for _, part := range [][2]int{{0, 1}, {model.ChunkSize - 1, 2}, {3*model.ChunkSize + 7, 3 * model.ChunkSize}, {9 * model.ChunkSize, 12345}, {9*model.ChunkSize + 12344, 100}, {20 * model.ChunkSize, 5}} {
		for _, flags := range []string{"", ",direct"} {
			data := files["face.bin"]
			from := min(part[0], len(data))
			want := data[from:min(from+part[1], len(data))]
			got := p.run(fmt.Sprintf("dd if=face/4/face.bin bs=4M iflag=skip_bytes,count_bytes,fullblock%s skip=%d count=%d status=none | sha256sum", flags, part[0], part[1]))
			if !strings.HasPrefix(got, fmt.Sprintf("%x ", sha256.Sum256(want))) {
				t.Errorf("%v%s: %s", part, flags, got)
			}
		}
	}
	if w.log.len() > 0 {
		t.Errorf("logged: %s", w.log)
	}
}

// Nothing is written, and nobody else reads: neither root, nor those outside.
func TestOnlyItsUserReads(t *testing.T) {
	w := newWorld(t, 0)
	w.seal(map[string][]byte{"face.bin": []byte("weights")})
	w.show("face", 1)
	p := w.start("as-root", "sh")
	if got := p.run("cat $MODELS/face/1/face.bin"); !strings.HasSuffix(got, "Permission denied\ndone 1") {
		t.Errorf("root reads: %s", got)
	}
	user := "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "
	if got := p.run(user + "cat $MODELS/face/1/face.bin"); got != "weightsdone 0" {
		t.Errorf("its user: %s", got)
	}
	if got := p.run("setpriv --reuid=1 --regid=65534 --clear-groups cat $MODELS/face/1/face.bin"); !strings.HasSuffix(got, "Permission denied\ndone 1") {
		t.Errorf("another user reads: %s", got)
	}
	for _, write := range []string{"echo x > face/1/face.bin", "echo x > face/1/new", "rm face/1/face.bin", "mv face/1 face/2", "mkdir face/2", "chmod 644 face/1/face.bin"} {
		if got := p.run(user + "sh -c 'cd $MODELS && " + write + "'"); strings.HasSuffix(got, "done 0") {
			t.Errorf("%s: %s", write, got)
		}
	}
	if entries, err := os.ReadDir(p.dir); err != nil || len(entries) != 0 {
		t.Errorf("outside of the namespace there are %v, %v", entries, err)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.cmd.Wait()
	ended := make(chan struct{})
	go func() { p.server.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the server goes on without a mount")
	}
}

// One chunk is wrong: those who read it get an error, and nothing of it.
func TestCorruptedChunks(t *testing.T) {
	w := newWorld(t, 0)
	data := content(3, 5*model.ChunkSize)
	w.seal(map[string][]byte{"face.bin": data})
	at := bytes.Index(w.dat, w.dat[3*model.ChunkSize:3*model.ChunkSize+64])
	w.dat[at] ^= 1 // in chunk 2 or 3
	w.show("face", 1)
	p := w.shell()
	bad := 0
	for i := range 5 {
		got := p.run(fmt.Sprintf("dd if=face/1/face.bin bs=1M skip=%d count=1 status=none | sha256sum", i))
		good := strings.HasPrefix(got, fmt.Sprintf("%x ", sha256.Sum256(data[i*model.ChunkSize:(i+1)*model.ChunkSize])))
		if !good {
			bad++
			if !strings.Contains(got, "Input/output error") || !strings.Contains(got, fmt.Sprintf("%x ", sha256.Sum256(nil))) {
				t.Errorf("chunk %d: %s", i, got)
			}
		}
	}
	if bad != 1 {
		t.Errorf("%d chunks are bad", bad)
	}
	p.run("cat face/1/face.bin > /dev/null")
	if n := w.counters.Wrong.Load(); n < 2 {
		t.Errorf("%d wrong chunks are counted, of reads more than one", n)
	}
	if log := w.log.String(); strings.Count(log, "a model cannot be read") != 1 || !strings.Contains(log, "model=face version=1 file=face.bin") || !strings.Contains(log, "the model container was changed") {
		t.Errorf("logged: %s", log)
	}
}

// A version that is removed is gone, also for who has it open or mapped, and the
// others stay.
func TestRemove(t *testing.T) {
	w := newWorld(t, 0)
	data := content(4, 3*model.ChunkSize)
	w.seal(map[string][]byte{"face.bin": data})
	first := w.show("face", 1)
	w.show("face", 2)
	if err := w.fs.Add("face", 2, first); !errors.Is(err, modelfs.ErrExists) {
		t.Errorf("twice: %v", err)
	}
	need.Program(t, "/usr/bin/python3")
	p := w.start("/usr/bin/python3", "-u", "-c", `
import mmap, os, signal, sys
f = open("face/1/face.bin", "rb")
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
print("mapped", sum(m[i] for i in range(0, len(m), 4096)))
sys.stdin.readline()
try:
    os.pread(f.fileno(), 1, 0)
    print("read")
except OSError as e:
    print("error", e.errno)
print("there are", os.listdir("face"))
sys.stdout.flush()
print(m[0])
`)
	sum := 0
	for i := 0; i < len(data); i += 4096 {
		sum += int(data[i])
	}
	p.out.wait(t, fmt.Sprintf("mapped %d\n", sum))
	w.fs.Remove("face", 1)
	first.Close()
	w.fs.Remove("face", 1) // again
	fmt.Fprintln(p.in)
	p.out.wait(t, "error 5\nthere are ['2']\n")
	p.cmd.Wait()
	if got := p.out.String(); !strings.Contains(got, "signal: bus error") {
		t.Errorf("a mapped file after its end: %s", got)
	}
	if w.log.len() > 0 {
		t.Errorf("logged: %s", w.log)
	}
	// and it comes back
	w.show("face", 1)
}

func TestAddsWhileServed(t *testing.T) {
	w := newWorld(t, 0)
	w.seal(map[string][]byte{"face.xml": []byte("one")})
	p := w.shell()
	if got := p.run("ls; cat face/1/face.xml"); !strings.Contains(got, "No such file") {
		t.Errorf("before: %s", got)
	}
	w.show("face", 1)
	if got := p.run("ls; cat face/1/face.xml"); got != "face\nonedone 0" {
		t.Errorf("after: %s", got)
	}
	w.fs.Remove("face", 1)
	if got := p.run("ls -A"); got != "done 0" {
		t.Errorf("removed: %s", got)
	}
	w.seal(map[string][]byte{"face.xml": []byte("another")})
	w.show("face", 1)
	if got := p.run("cat face/1/face.xml"); got != "anotherdone 0" {
		t.Errorf("and again: %s", got)
	}
	if _, err := w.fs.Serve(os.Stdin); !errors.Is(err, modelfs.ErrExists) {
		t.Errorf("served twice: %v", err)
	}
}

// Many read everywhere at the same time, with little room, and each reads what is
// there.
func TestManyReaders(t *testing.T) {
	w := newWorld(t, 1)
	data := content(5, 24*model.ChunkSize)
	w.seal(map[string][]byte{"face.bin": data})
	w.show("face", 1)
	p := w.shell()
	name := filepath.Join(t.TempDir(), "plain")
	if err := errors.Join(os.WriteFile(name, data, 0o644), os.Chmod(filepath.Dir(name), 0o755)); err != nil {
		t.Fatal(err)
	}
	var commands []string
	for i := range 12 {
		commands = append(commands, fmt.Sprintf("(dd if=face/1/face.bin bs=100k skip=%d iflag=direct status=none | cmp - '%s' -i 0:%d || echo differs) &", i*20, name, i*20*100*1024))
	}
	if got := p.run(strings.Join(commands, " ") + " wait"); got != "done 0" {
		t.Errorf("%s", got)
	}
}

// What a process has in memory does not grow with the model.
func TestMemoryIsBounded(t *testing.T) {
	w := newWorld(t, 8<<20)
	data := content(6, 96*model.ChunkSize)
	w.seal(map[string][]byte{"face.bin": data})
	w.show("face", 1)
	p := w.shell()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if got := p.run("cat face/1/face.bin | sha256sum"); !strings.HasPrefix(got, fmt.Sprintf("%x ", sha256.Sum256(data))) {
		t.Fatal(got)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 24<<20 {
		t.Errorf("%d MiB more", grown>>20)
	}
}

// lines is a process's output.
type lines struct{ testlog.Log }

func (l *lines) len() int { return len(l.String()) }

// wait waits for output.
func (l *lines) wait(t testing.TB, want string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if strings.Contains(l.String(), want) {
			return
		}
	}
	t.Fatalf("no %q in %q", want, l.String())
}

// after returns what comes after n bytes, up to a line that begins with last.
func (l *lines) after(t testing.TB, n int, last string) string {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		text := l.String()[n:]
		if i := strings.LastIndex(text, last); i >= 0 && strings.HasSuffix(text, "\n") {
			return strings.TrimSuffix(text, "\n")
		}
	}
	t.Fatalf("no %q in %q", last, l.String()[n:])
	return ""
}
