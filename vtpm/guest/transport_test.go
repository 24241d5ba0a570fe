package guest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"
)

var (
	command = []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x7b}
	success = []byte{0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 'o', 'k'}
	retry   = []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x22}
)

// fakeTPM answers each command with the next list of pieces, then closes.
func fakeTPM(t *testing.T, answers ...[][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		for _, pieces := range answers {
			if _, err := conn.Read(make([]byte, 4096)); err != nil {
				return
			}
			for _, p := range pieces {
				_, _ = conn.Write(p)
				time.Sleep(5 * time.Millisecond)
			}
			if pieces == nil {
				<-t.Context().Done() // a TPM that hangs
			}
		}
	}()
	return "unix:" + path
}

func TestSend(t *testing.T) {
	tests := []struct {
		name    string
		answers [][][]byte
		ok      bool
	}{
		{"whole", [][][]byte{{success}}, true},
		{"in pieces", [][][]byte{{success[:3], success[3:11], success[11:]}}, true},
		{"after it was busy", [][][]byte{{retry}, {retry}, {success}}, true},
		{"cut short", [][][]byte{{success[:11]}}, false},
		{"longer than it says", [][][]byte{{append(bytes.Clone(success), 0)}}, false},
		{"size below the header's", [][][]byte{{{0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0}}}, false},
		{"size over all bounds", [][][]byte{{{0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tpm, err := Open(t.Context(), fakeTPM(t, tt.answers...))
			if err != nil {
				t.Fatal(err)
			}
			defer tpm.Close()
			got, err := tpm.Send(command)
			if tt.ok && (err != nil || !bytes.Equal(got, success)) || !tt.ok && err == nil {
				t.Errorf("%x, %v", got, err)
			}
			if _, again := tpm.Send(command); !tt.ok && !errors.Is(again, err) {
				t.Errorf("after %v, the next command gave %v", err, again)
			}
		})
	}
}

func TestAStuckTPMEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	tpm, err := Open(ctx, fakeTPM(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	if _, err := tpm.Send(command); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the deadline", err)
	}
}
