package guest

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// The checks in this file stand behind others that refuse the same later, in other
// words or in another place.

func TestLengthsOfNonces(t *testing.T) {
	tpm := open1(t, startTPM(t))
	for _, n := range []int{0, quote.MinNonce - 1, quote.MaxNonce + 1} {
		if _, err := Make(t.Context(), tpm, make([]byte, n), nil, nil); err == nil || !strings.Contains(err.Error(), "a nonce of") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestTPMWithoutCertificates(t *testing.T) {
	socket := startTPM(t)
	writeRecord(t, socket, []byte("a record"))
	if _, err := Quote(t.Context(), "unix:"+socket, nonce, nil); err == nil || !strings.Contains(err.Error(), "no EK certificate") || hint.Of(err) == "" {
		t.Errorf("no certificate: %v", err)
	}
}

// A log is read to its limit, and one that may not be read is none.
func TestLengthOfTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for size, ok := range map[int]bool{0: true, quote.MaxLog: true, quote.MaxLog + 1: false} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if log, err := readLog(path); (err == nil) != ok || ok && len(log) != size {
			t.Errorf("%d bytes: %d, %v", size, len(log), err)
		}
	}
	if log, err := readLog(path + ".absent"); err != nil || log != nil {
		t.Errorf("no log: %v", err)
	}
	if _, err := readLog(t.TempDir()); err == nil {
		t.Error("a directory")
	}
}

// A TPM that lies about the length of its answers.
func TestAnswersThatLie(t *testing.T) {
	for name, answer := range map[string][]byte{
		"shorter than a header":    {0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0},
		"longer than any":          {0x80, 1, 0, 0, 0x10, 1, 0, 0, 0, 0},
		"longer than it says":      {0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0, 0},
		"as long as memory allows": {0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
	} {
		dir, err := os.MkdirTemp("", "tpm") //nolint:usetesting // short: a socket's path has 107 bytes
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			c.Read(make([]byte, 100))
			c.Write(answer)
			c.Read(make([]byte, 100))
		}()
		tpm, err := Open(t.Context(), "unix:"+filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.ReadClock{}.Execute(tpm)
		if err == nil || !strings.Contains(err.Error(), "says that it has") {
			t.Errorf("%s: %v", name, err)
		}
		tpm.Close()
		l.Close()
	}
}

// Who has no right to the port is told that, and not to look at the host.
func TestPortThatIsNotOurs(t *testing.T) {
	err := explainPort(&os.PathError{Op: "open", Path: DefaultPort, Err: os.ErrPermission})
	if !errors.Is(err, ErrHost) || !strings.Contains(hint.Of(err), "group that owns the port") {
		t.Errorf("%v, %q", err, hint.Of(err))
	}
	if err := explainPort(ErrHostRefused); !strings.Contains(hint.Of(err), "journalctl") {
		t.Errorf("%v, %q", err, hint.Of(err))
	}
	if err := explainPort(errors.New("anything")); !strings.Contains(hint.Of(err), "host check") {
		t.Errorf("%v, %q", err, hint.Of(err))
	}
}

// Identify, too, asks for a TPM that has certificates it can read.
func TestCertificateThatIsNone(t *testing.T) {
	socket := startTPM(t)
	define(t, socket, nvRSACert, []byte("no certificate"))
	tpm := open1(t, socket)
	if _, err := Identify(t.Context(), tpm); err == nil || !strings.Contains(err.Error(), "EK certificate at NV index") {
		t.Errorf("%v", err)
	}
	tpm.Close()
}
