package sdnotify_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/sdnotify"
)

func environment(of map[string]string) func(string) string {
	return func(name string) string { return of[name] }
}

func TestTell(t *testing.T) {
	for name, address := range map[string]string{
		"a path":           filepath.Join(t.TempDir(), "notify"),
		"an abstract name": "@ovsa-sdnotify-" + strconv.Itoa(os.Getpid()),
	} {
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		s := sdnotify.New(environment(map[string]string{"NOTIFY_SOCKET": address}))
		for _, tt := range []struct {
			states []string
			want   string
		}{
			{[]string{sdnotify.Ready, sdnotify.Status("2 of 3\nmodels")}, "^READY=1\nSTATUS=2 of 3 models$"},
			{[]string{sdnotify.Reloading()}, "^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$"},
			{[]string{sdnotify.Stopping}, "^STOPPING=1$"},
			{[]string{sdnotify.Alive}, "^WATCHDOG=1$"},
		} {
			if err := s.Tell(tt.states...); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			buf := make([]byte, 256)
			n, err := socket.Read(buf)
			if err != nil || !regexp.MustCompile(tt.want).Match(buf[:n]) {
				t.Errorf("%s: %q, %v, want %s", name, buf[:n], err, tt.want)
			}
		}
	}
}

// Without systemd nobody is told, and that is no error; a socket that is gone is one.
func TestNobodyToTell(t *testing.T) {
	if err := sdnotify.New(environment(nil)).Tell(sdnotify.Ready); err != nil {
		t.Error(err)
	}
	gone := filepath.Join(t.TempDir(), "gone")
	if err := sdnotify.New(environment(map[string]string{"NOTIFY_SOCKET": gone})).Tell(sdnotify.Ready); err == nil {
		t.Error("nobody listens, and there is no error")
	}
}

func TestWatchdog(t *testing.T) {
	for _, tt := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0},
		{"30000000", "", 30 * time.Second},
		{"30000000", strconv.Itoa(os.Getpid()), 30 * time.Second},
		{"30000000", "1", 0}, // another's
		{"0", "", 0},
		{"-1", "", 0},
		{"soon", "", 0},
	} {
		s := sdnotify.New(environment(map[string]string{"WATCHDOG_USEC": tt.usec, "WATCHDOG_PID": tt.pid}))
		if got := s.Watchdog(); got != tt.want {
			t.Errorf("WATCHDOG_USEC=%q WATCHDOG_PID=%q: %v, want %v", tt.usec, tt.pid, got, tt.want)
		}
	}
}
