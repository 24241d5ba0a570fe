package guest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
)

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"/dev/tpmrm0", "/dev/tpmrm0"},
		{"device:/dev/tpm0", "/dev/tpm0"},
		{"unix:/run/tpm", "unix /run/tpm"},
		{"swtpm:path=/run/a,b=c", "unix /run/a,b=c"},
		{"swtpm", "127.0.0.1:2321"},
		{"swtpm:", "127.0.0.1:2321"},
		{"swtpm:port=2421", "127.0.0.1:2421"},
		{"swtpm:host=localhost,port=1", "127.0.0.1:1"},
		{"swtpm:port=65535,host=127.1.2.3", "127.1.2.3:65535"},
		{"swtpm:host=::1", "[::1]:2321"},
		{"swtpm:host=::ffff:127.0.0.1", "127.0.0.1:2321"},

		{"", "want a device"},
		{"unix:", "want a device"},
		{"device:", "want a device"},
		{"swtpm:path=", "want a device"},
		{"swtpm:2321", "want a device"},
		{"swtpm:port=1,port=2", "want a device"},
		{"swtpm:prot=1", "want a device"},
		{"swtpm:port=", `port "": want a number`},
		{"swtpm:port=0", `port "0": want a number`},
		{"swtpm:port=65536", `port "65536": want a number`},
		{"swtpm:host=192.0.2.1", `host "192.0.2.1": want an address of this machine`},
		{"swtpm:host=0.0.0.0", `host "0.0.0.0": want an address of this machine`},
		{"swtpm:host=tpm.example.org", `host "tpm.example.org": want an address of this machine`},
	} {
		at, err := parseAddress(tt.text)
		got := at.device
		switch socket := at.socket.(type) {
		case *unix.SockaddrUnix:
			got = "unix " + socket.Name
		case *unix.SockaddrInet4:
			got = fmt.Sprintf("%s:%d", net.IP(socket.Addr[:]), socket.Port)
		case *unix.SockaddrInet6:
			got = fmt.Sprintf("[%s]:%d", net.IP(socket.Addr[:]), socket.Port)
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("%q: %s, want %s", tt.text, got, tt.want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("swtpm:host=127.0.0.1,port=2321")
	f.Add("swtpm:path=/x")
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseAddress(text)
		if err == nil && (at.device == "") != (at.socket != nil) {
			t.Fatalf("%q: %+v", text, at)
		}
		if four, ok := at.socket.(*unix.SockaddrInet4); ok && (four.Addr[0] != 127 || four.Port < 1) {
			t.Fatalf("%q: %+v", text, four)
		}
	})
}

// TestSwtpmOnAPort: a swtpm as the guide starts it answers by the guide's spelling.
func TestSwtpmOnAPort(t *testing.T) {
	need.Programs(t, "swtpm")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := Open(ctx, fmt.Sprintf("swtpm:port=%d", port)); err == nil || !strings.Contains(hint.Of(err), "nothing listens there") {
		t.Errorf("%v, hint %q", err, hint.Of(err))
	}
	p, err := run.Cmd{Path: "swtpm", Args: []string{
		"socket", "--tpm2", "--tpmstate", "dir=" + t.TempDir(), "--server", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", port),
		"--ctrl", fmt.Sprintf("type=tcp,port=%d,bindaddr=127.0.0.1", port+1), "--flags", "not-need-init,startup-clear",
	}}.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); p.Wait() })
	var tpm *TPM
	for tpm == nil {
		if tpm, err = Open(ctx, fmt.Sprintf("swtpm:port=%d", port)); err != nil && ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	defer tpm.Close()
	if rsp, err := (tpm2.GetRandom{BytesRequested: 8}).Execute(tpm); err != nil || len(rsp.RandomBytes.Buffer) != 8 {
		t.Errorf("%v, %v", rsp, err)
	}
}
