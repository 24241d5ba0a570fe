package openvino

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/need"
)

// resident is how much memory the process has.
func resident(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// large is y = x W, with 4 MiB of weights and 4 KiB of input for each row.
func large() map[string][]byte {
	m := &ir{}
	const side = 1024
	x := m.parameter("x", "f32", -1, side)
	w := m.constant("f32", []int64{side, side}, floats(make([]float32, side*side)...))
	m.result(m.layer("MatMul", "transpose_a=\"false\" transpose_b=\"false\"", "f32", []int64{-1, side}, "y", x, w))
	return m.files()
}

// What is done over and over takes no more memory for it: each of these leaks a hundred
// times as much, where it leaks anything of a model or a tensor.
func TestMemoryDoesNotGrow(t *testing.T) {
	r := exact(t)
	dir, damaged := directory(t, large()), large()
	damaged["model.bin"] = damaged["model.bin"][:4<<20-1]
	broken := directory(t, damaged)
	m := loaded(t, r, large())
	input := fp32("x", []int64{256, 1024}, make([]float32, 256*1024)...) // 1 MiB
	run := func(m inference.Model) {
		if _, err := m.Run(t.Context(), []inference.Tensor{input}, []string{"y"}); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		times int
		do    func()
	}{
		"runs": {400, func() { run(m) }},
		"runs that fail": {400, func() {
			if _, err := m.Run(t.Context(), []inference.Tensor{{Name: "x", Type: inference.Float32, Shape: []int64{512, 512}, Data: input.Data}}, []string{"y"}); err == nil {
				t.Fatal("it ran")
			}
		}},
		"loads": {100, func() {
			other, err := r.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			run(other)
			other.Close()
		}},
		"loads that fail": {400, func() {
			if _, err := r.Load(broken); err == nil {
				t.Fatal("it is loaded")
			}
		}},
		"runtimes": {60, func() {
			other, err := Open(Options{Libraries: libs(t)})
			if err != nil {
				t.Fatal(err)
			}
			m, err := other.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			m.Close()
			other.Close()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for range tt.times / 10 {
				tt.do()
			}
			before := resident(t)
			for range tt.times {
				tt.do()
			}
			grown := resident(t) - before
			t.Logf("%d KiB more after %d", grown>>10, tt.times)
			if grown > 32<<20 {
				t.Errorf("%d MiB more after %d", grown>>20, tt.times)
			}
		})
	}
}

// TestMain does, where it is asked to, what another test looks at from outside.
func TestMain(m *testing.M) {
	dir := os.Getenv("OVSA_TEST_SERVE")
	if dir == "" {
		os.Exit(m.Run())
	}
	err := func() error {
		r, err := Open(Options{Libraries: os.Getenv("OVSA_TEST_LIBRARIES")})
		if err != nil {
			return err
		}
		defer r.Close()
		m, err := r.Load(dir)
		if err != nil {
			return err
		}
		defer m.Close()
		in := m.Inputs()[0]
		in.Shape[0] = 1 // a batch of one
		n, err := inference.Elements(in.Shape)
		if err != nil {
			return err
		}
		input := inference.Tensor{Name: in.Name, Type: in.Type, Shape: in.Shape, Data: make([]byte, n*int64(in.Type.Size()))}
		_, err = m.Run(context.Background(), []inference.Tensor{input}, []string{m.Outputs()[0].Name})
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// served runs a command that loads and runs a model in a process of its own.
func served(t *testing.T, dir string, argv ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv = append(argv, self)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "OVSA_TEST_SERVE="+dir, "OVSA_TEST_LIBRARIES="+libs(t))
	return cmd
}

var (
	toWrite = regexp.MustCompile(`O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE`)
	makes   = regexp.MustCompile(`^(creat|memfd_create|mkdir|mknod|rename|link|symlink|truncate|ftruncate)`)
)

// Nothing of a model is written, and it is read and not mapped.
func TestNothingIsWrittenOrMapped(t *testing.T) {
	for model, files := range map[string]map[string][]byte{"model.bin": large(), "model.onnx": affineONNX(), "model.tflite": affineTFLite()} {
		t.Run(model, func(t *testing.T) {
			trace, dir := filepath.Join(t.TempDir(), "trace"), directory(t, files)
			cmd := served(t, dir, need.Program(t, "strace"), "-f", "-y", "-o", trace, "-e", "trace=%file,%desc,mmap")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			text, err := os.ReadFile(trace)
			if err != nil {
				t.Fatal(err)
			}
			read := false
			for line := range strings.Lines(string(text)) {
				_, call, _ := strings.Cut(line, " ")
				name, args, _ := strings.Cut(strings.TrimSpace(call), "(")
				switch {
				case strings.Contains(args, "= -1 E"):
				case name == "openat" && toWrite.MatchString(args) && !strings.Contains(args, `"/dev/null"`):
					t.Errorf("a file is opened to be written: %s", line)
				case makes.MatchString(name):
					t.Errorf("something is made: %s", line)
				case name == "mmap" && strings.Contains(args, dir):
					t.Errorf("the model is mapped: %s", line)
				case strings.Contains(name, "read") && strings.Contains(args, dir+"/"+model):
					read = true
				}
			}
			if !read {
				t.Error("nobody has read it")
			}
		})
	}
}

// A sandbox that shows no processors is an error: OpenVINO would look for them for ever.
func TestNoProcessorsToSee(t *testing.T) {
	need.Root(t)
	dir := directory(t, large())
	for hidden, works := range map[string]bool{"/sys": true, "/proc": true, "/sys /proc": false} {
		out, err := served(t, dir, need.Program(t, "unshare"), "-m", "sh", "-c", "for d in "+hidden+"; do mount -t tmpfs none $d || exit 2; done; exec \"$0\"").CombinedOutput()
		if (err == nil) != works || !works && !bytes.Contains(out, []byte("cannot see the machine's processors")) {
			t.Errorf("without %s: %v\n%s", hidden, err, out)
		}
	}
}

// faulty is a file of which the second half cannot be read.
type faulty struct {
	fs.Inode
	data []byte
}

func (f *faulty) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Size, out.Mode = uint64(len(f.data)), 0o444
	return 0
}

func (f *faulty) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (f *faulty) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	end := min(off+int64(len(dest)), int64(len(f.data)))
	if end > int64(len(f.data)/2) {
		return nil, syscall.EIO
	}
	return fuse.ReadResultData(f.data[off:end]), 0
}

// Weights that cannot be read, as those of a damaged container, are an error, and not the
// end of the process.
func TestWeightsThatCannotBeRead(t *testing.T) {
	need.Root(t)
	need.Program(t, "/dev/fuse")
	files, dir := large(), t.TempDir()
	root := &fs.Inode{}
	server, err := fs.Mount(dir, root, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true}, OnAdd: func(ctx context.Context) {
		root.AddChild("model.xml", root.NewPersistentInode(ctx, &fs.MemRegularFile{Data: files["model.xml"]}, fs.StableAttr{}), true)
		root.AddChild("model.bin", root.NewPersistentInode(ctx, &faulty{data: files["model.bin"]}, fs.StableAttr{}), true)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	})
	out, err := served(t, dir).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(out, []byte("model.xml")) {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
