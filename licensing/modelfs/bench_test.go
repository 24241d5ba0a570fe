package modelfs_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkRead is reading a model from its beginning to its end, by a program that
// wants nothing else: in the file system, where nothing of it is in the kernel's cache
// and then where all is; beside what decrypting it costs, and beside a file of a tmpfs.
func BenchmarkRead(b *testing.B) {
	const size = 256 << 20
	w := newWorld(b, 0)
	data := content(7, size)
	w.seal(map[string][]byte{"face.bin": data})
	m := w.show("face", 1)
	plain := tmpfs(b)
	if err := os.WriteFile(filepath.Join(plain, "face.bin"), data, 0o644); err != nil {
		b.Fatal(err)
	}
	p := w.shell()
	read := func(b *testing.B, path string) {
		b.Helper()
		if got := p.run("dd if=" + path + " of=/dev/null bs=1M status=none"); !strings.HasSuffix(got, "done 0") {
			b.Fatal(got)
		}
	}
	b.Run("decrypt", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			if err := m.Decrypt(b.Context(), io.Discard, "face.bin"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tmpfs", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			read(b, plain+"/face.bin")
		}
	})
	b.Run("cold", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			b.StopTimer()
			w.fs.Remove("face", 1)
			if err := w.fs.Add("face", 1, m); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			read(b, "face/1/face.bin")
		}
	})
	b.Run("warm", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			read(b, "face/1/face.bin")
		}
	})
}

func tmpfs(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		b.Fatal(err)
	}
	return dir
}
