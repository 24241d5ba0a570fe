package remote_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/remote"
	"github.com/ovsactl/ovsactl/internal/remote/remotetest"
)

func TestRunPassesArgumentsExactly(t *testing.T) {
	_, _, conn := connected(t)
	args := []string{
		"", "plain", "two words", "'", `"`, `\`, `'\''`, "$(touch /tmp/never)", "`id`", "$HOME", "a;b", "a&&b", "a|b",
		"*", "~", "#", "!", "-n", "=", "A=B", "line\nbreak", "tab\there", "\x01\x7f", "é✓", "\xff\xfe", "{a,b}", "'; exit 7; '",
	}
	var out bytes.Buffer
	if err := conn.Run(t.Context(), append([]string{"printf", `%s\0`}, args...), nil, &out, nil); err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(out.String(), "\x00"), "\x00"); !slices.Equal(got, args) {
		t.Errorf("arrived as %q", got)
	}
	for name, argv := range map[string][]string{"none": nil, "NUL": {"echo", "a\x00b"}, "too long": {"echo", strings.Repeat("x", 200<<10)}} {
		if err := conn.Run(t.Context(), argv, nil, nil, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestRunTellsHowTheCommandEnded(t *testing.T) {
	_, _, conn := connected(t)
	tests := []struct {
		argv   []string
		code   int
		signal string
		stderr string
	}{
		{argv: []string{"true"}},
		{argv: []string{"sh", "-c", "echo no >&2; exit 3"}, code: 3, stderr: "no\n"},
		{argv: []string{"/nowhere/program"}, code: 127},
		{argv: []string{"sh", "-c", "kill -TERM $$"}, code: 143, signal: "TERM"},
	}
	for _, tt := range tests {
		var stderr bytes.Buffer
		err := conn.Run(t.Context(), tt.argv, nil, nil, &stderr)
		if tt.code == 0 {
			if err != nil {
				t.Errorf("%q: %v", tt.argv, err)
			}
			continue
		}
		var exit *remote.ExitError
		if !errors.As(err, &exit) || exit.Code != tt.code || exit.Signal != tt.signal {
			t.Errorf("%q: got %v, want code %d signal %q", tt.argv, err, tt.code, tt.signal)
		}
		if tt.stderr != "" && stderr.String() != tt.stderr {
			t.Errorf("%q: stderr %q", tt.argv, stderr.String())
		}
	}
}

func TestRunStreamsInput(t *testing.T) {
	_, _, conn := connected(t)
	var out bytes.Buffer
	if err := conn.Run(t.Context(), []string{"wc", "-c"}, strings.NewReader(strings.Repeat("x", 1<<20)), &out, nil); err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(out.String()) != "1048576" {
		t.Errorf("wc counted %q", out.String())
	}
	// A command that ends does not wait for an input that never does.
	never, _ := io.Pipe()
	if err := conn.Run(t.Context(), []string{"true"}, never, nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	_, _, conn := connected(t)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(200*time.Millisecond, func() { cancel(cause) })
	began := time.Now()
	if err := conn.Run(ctx, []string{"sleep", "60"}, nil, nil, nil); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("took %v", took)
	}
	if err := conn.Run(t.Context(), []string{"true"}, nil, nil, nil); err != nil {
		t.Errorf("the connection is of no use afterwards: %v", err)
	}
}

func TestConnectWaitsForTheServer(t *testing.T) {
	client, err := remote.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := remotetest.New(t, client.AuthorizedKey())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err = client.Connect(ctx, s.Target()); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("without a server: %v", err)
	}
	go func() {
		time.Sleep(500 * time.Millisecond)
		s.Start(t)
	}()
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := client.Connect(ctx, s.Target())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestConnectAcceptsOnlyTheAnnouncedKeys(t *testing.T) {
	client, s, _ := connected(t)
	other := remotetest.New(t, client.AuthorizedKey())
	rsa, ecdsa, ed25519 := 2, 1, 0
	tests := []struct {
		name string
		keys []string
		ok   bool
	}{
		{"each type alone: ed25519", s.HostKeys[ed25519 : ed25519+1], true},
		{"each type alone: ecdsa", s.HostKeys[ecdsa : ecdsa+1], true},
		{"each type alone: rsa", s.HostKeys[rsa : rsa+1], true},
		{"another server's", other.HostKeys, false},
		{"another server's, one type", other.HostKeys[:1], false},
	}
	for _, tt := range tests {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		target := s.Target()
		target.HostKeys = tt.keys
		conn, err := client.Connect(ctx, target)
		cancel()
		if tt.ok {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			conn.Close()
			continue
		}
		var wrong *remote.HostKeyError
		if !errors.As(err, &wrong) || !strings.Contains(hint.Of(err), "nothing was sent") {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	for _, keys := range [][]string{nil, {"garbage"}, {"ssh-ed25519 AAAA"}, {`command="x" ` + s.HostKeys[0]}, {s.HostKeys[0] + "\n" + s.HostKeys[1]}} {
		target := s.Target()
		target.HostKeys = keys
		if _, err := client.Connect(t.Context(), target); err == nil {
			t.Errorf("host keys %q accepted", keys)
		}
	}
}

func TestConnectSaysWhenTheGuestDoesNotKnowUs(t *testing.T) {
	client, s, _ := connected(t)
	stranger, err := remote.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err = stranger.Connect(ctx, s.Target()); err == nil || !strings.Contains(hint.Of(err), "does not let") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
	_ = client
}

func TestPutReplacesWholeFiles(t *testing.T) {
	_, _, conn := connected(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "it's a file")
	text := strings.Repeat("0123456789abcdef", 300_000)
	sum := sha256.Sum256([]byte(text))
	digest := hex.EncodeToString(sum[:])
	write(t, path+".part", "left by a killed run", 0o666)
	if err := conn.Put(t.Context(), strings.NewReader(text), int64(len(text)), digest, path, 0o750); err != nil {
		t.Fatal(err)
	}
	expectFile(t, path, text, 0o750)

	fail := map[string]error{
		"wrong digest": conn.Put(t.Context(), strings.NewReader("new"), 3, digest, path, 0o600),
		"too short":    conn.Put(t.Context(), strings.NewReader("new"), 4, "", path, 0o600),
		"too long":     conn.Put(t.Context(), strings.NewReader("new"), 2, "", path, 0o600),
		"reader fails": conn.Put(t.Context(), io.MultiReader(strings.NewReader("ne"), failing{}), 9, "", path, 0o600),
		"no directory": conn.Put(t.Context(), strings.NewReader("new"), 3, "", filepath.Join(dir, "no", "such"), 0o600),
		"ended":        conn.Put(ended(t), strings.NewReader("new"), 3, "", path, 0o600),
	}
	for name, err := range fail {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	expectFile(t, path, text, 0o750)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestCopyTrees(t *testing.T) {
	_, _, conn := connected(t)
	from := filepath.Join(t.TempDir(), "tree")
	for _, d := range []string{"a/b", "empty"} {
		if err := os.MkdirAll(filepath.Join(from, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(from, "a", "b", "deep"), "deep", 0o644)
	write(t, filepath.Join(from, "run.sh"), "#!/bin/sh\n", 0o755)
	there, back := t.TempDir(), t.TempDir()
	if err := conn.Upload(t.Context(), from, there, remote.Transfer{}); err == nil || !strings.Contains(err.Error(), "-r") {
		t.Errorf("a directory without Recursive: %v", err)
	}
	recursive := remote.Transfer{Recursive: true}
	if err := conn.Upload(t.Context(), from, there, recursive); err != nil {
		t.Fatal(err)
	}
	if err := conn.Download(t.Context(), filepath.Join(there, "tree"), back, recursive); err != nil {
		t.Fatal(err)
	}
	expectFile(t, filepath.Join(back, "tree", "a", "b", "deep"), "deep", 0o644)
	expectFile(t, filepath.Join(back, "tree", "run.sh"), "#!/bin/sh\n", 0o755)
	if info, err := os.Stat(filepath.Join(back, "tree", "empty")); err != nil || !info.IsDir() {
		t.Errorf("empty directory: %v", err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(there, "tree", "link")); err != nil {
		t.Fatal(err)
	}
	if err := conn.Download(t.Context(), filepath.Join(there, "tree"), back, recursive); err == nil {
		t.Error("a guest's link was followed")
	}
}

func TestShellHasATerminal(t *testing.T) {
	_, _, conn := connected(t)
	var out bytes.Buffer
	term := remote.Terminal{Out: &out, Err: &out, Type: "xterm", Size: remote.Size{Width: 91, Height: 33}}
	if err := conn.Shell(t.Context(), term, "sh", "-c", "stty size; tty; echo $TERM; exit 4"); err == nil {
		t.Error("exit status lost")
	}
	if got := lines(out.String()); len(got) < 3 || got[0] != "33 91" || !strings.HasPrefix(got[1], "/dev/pts/") || got[2] != "xterm" {
		t.Errorf("got %q", out.String())
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func expectFile(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Error(err)
		return
	}
	if string(got) != text || info.Mode().Perm() != mode {
		t.Errorf("%q: %d bytes, mode %04o; want %d, %04o", path, len(got), info.Mode().Perm(), len(text), mode)
	}
}
