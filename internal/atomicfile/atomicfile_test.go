package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFileReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, want := range []string{"one", "two, longer", ""} {
		if err := WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Fatalf("read back %q, %v; want %q", got, err, want)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("mode %v, %v; want 0600", info.Mode(), err)
		}
	}
}

func TestWriteFailureKeepsOldContent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := Write(path, 0o644, func(w io.Writer) error {
		io.WriteString(w, "half")
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("error %v, want boom", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("content %q after a failed write, want the old content", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("directory has %v, %v; want only the file", entries, err)
	}
}

func TestWriteFileIntoMissingDirectory(t *testing.T) {
	if err := WriteFile(filepath.Join(t.TempDir(), "no", "key"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want os.ErrNotExist", err)
	}
}

func TestStagedFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	stage := func(text string) *Staged {
		t.Helper()
		s, err := Stage(path, 0o600, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	want := func(text string) {
		t.Helper()
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("content %q, want %q", got, text)
		}
		if entries, _ := os.ReadDir(dir); text != "" && len(entries) != 1 {
			t.Errorf("directory has %v, want only the file", entries)
		}
	}
	s := stage("one")
	want("")
	if err := s.Create(); err != nil {
		t.Fatal(err)
	}
	want("one")
	s.Discard() // too late
	want("one")
	if err := stage("two").Create(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over a file: %v, want fs.ErrExist", err)
	}
	want("one")
	if err := stage("three").Replace(); err != nil {
		t.Fatal(err)
	}
	want("three")
	stage("four").Discard()
	want("three")
}
