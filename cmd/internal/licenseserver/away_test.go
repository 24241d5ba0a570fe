package licenseserver_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/testlog"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
)

// mounted is a small file system of its own, with a directory for a database.
func mounted(t *testing.T, kind, options string) string {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	device, at := filepath.Join(dir, "device"), filepath.Join(dir, "disk")
	if err := errors.Join(os.WriteFile(device, nil, 0o600), os.Truncate(device, 16<<20), os.Mkdir(at, 0o700)); err != nil {
		t.Fatal(err)
	}
	commands := [][]string{{"mount", "-t", kind, "-o", options, device, at}}
	if kind == "ext4" {
		commands = append([][]string{{"mke2fs", "-q", "-t", kind, device}}, commands...)
	}
	for _, args := range commands {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			need.Absent(t, kind, strings.Join(args, " ")+": "+string(out))
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return at
}

// TestDiskFillsUpWhileServing: guests are told to try again, whoever looks after the
// server what to do, and with room again all goes on.
func TestDiskFillsUpWhileServing(t *testing.T) {
	d := serving(t, mounted(t, "tmpfs", "size=4m"))
	fill := filepath.Join(d.dir, "fill")
	f, err := os.Create(fill)
	for err == nil {
		_, err = f.Write(make([]byte, 1<<12))
	}
	if f.Close(); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	d.unavailable("the disk is full: make room in \"" + d.dir + "\"")
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	d.available()
}

// TestDiskIsReadOnlyWhileServing: as Linux makes a file system after an error of its
// disk. Nothing is said of what was not written.
func TestDiskIsReadOnlyWhileServing(t *testing.T) {
	d := serving(t, mounted(t, "ext4", "loop,errors=remount-ro"))
	if out, err := exec.Command("mount", "-o", "remount,abort", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("remount: %s", out)
	}
	d.unavailable("have the disk mounted for writing")
}

// served is a server whose database is on a disk of its own, and a guest's lease.
type served struct {
	*guide
	t        *testing.T
	dir, ops string
	log      *testlog.Log
	lease    *client.Lease
}

func serving(t *testing.T, dir string) *served {
	t.Helper()
	d := &served{t: t, dir: dir, ops: licensetest.FreeAddress(t)}
	d.guide = newGuide(t)
	d.sold("-t Sale")
	d.stopServer()
	db := filepath.Join(d.dir, "ovsa.db")
	d.stored("Sale", "cust", db)
	_, d.log = d.processAndLog(d.address, db, "-client-rate", "1000:1000", "-ops", d.ops)
	licence, customer := d.bought("Sale.lic")
	u := &user{t: t, path: d.runtime, host: d.port(d.guestVM), licence: licence, customer: customer}
	u.open()
	var err error
	if d.lease, err = client.Acquire(t.Context(), licence, customer, client.Options{TPM: u.tpm, Host: u.host, Rounds: 1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.lease.Close)
	d.available()
	return d
}

func (d *served) ready() (code int, text string) {
	d.t.Helper()
	time.Sleep(1100 * time.Millisecond) // for so long an answer holds
	response, err := http.Get("http://" + d.ops + "/readyz")
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func (d *served) available() {
	d.t.Helper()
	if code, text := d.ready(); code != http.StatusOK || strings.Contains(text, "database") {
		d.t.Errorf("readyz: %d, %s", code, text)
	}
	if err := d.lease.Renew(d.t.Context()); err != nil {
		d.t.Error(err)
	}
}

// unavailable has renewals refused for now, with a hint in the log.
func (d *served) unavailable(hint string) {
	d.t.Helper()
	var problem *exchange.Problem
	var err error
	for end := time.Now().Add(30 * time.Second); err == nil && time.Now().Before(end); { // while there is room in what there is
		err = d.lease.Renew(d.t.Context())
	}
	if !errors.As(err, &problem) || problem.Code != exchange.Unavailable {
		d.t.Errorf("a renewal: %v", err)
	}
	if code, text := d.ready(); code != http.StatusServiceUnavailable || !strings.Contains(text, "failed: database: ") {
		d.t.Errorf("readyz: %d, %s", code, text)
	}
	if log := strings.ReplaceAll(d.log.String(), `\"`, `"`); !strings.Contains(log, hint) {
		d.t.Errorf("no %q in the log:\n%s", hint, log)
	}
}
