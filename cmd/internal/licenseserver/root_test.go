package licenseserver

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
)

// TestRootsHandBreaksNothing: what an administrator does as root in the directories of
// a service's user, that user goes on with.
func TestRootsHandBreaksNothing(t *testing.T) {
	need.Root(t)
	const user = 1                       // daemon, with a group of that name, on every distribution
	dir, err := os.MkdirTemp("", "root") //nolint:usetesting // another user passes through it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "program")
	for path, d := range map[string]struct {
		uid, gid int
		mode     os.FileMode
	}{"": {0, 0, 0o755}, "certs": {user, user, 0o700}, "DB": {0, user, 0o1770 | os.ModeSticky}, "kvm": {user, user, 0o700}} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, d.uid, d.gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, d.mode); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(uid uint32, line string) (string, error) {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Args = strings.Fields(line)
		cmd.Dir = dir
		cmd.Env = []string{"OVSA_DIR=certs", "OVSA_DB=DB/ovsa.db", "OVSA_TRUST=kvm/trust", "NOW=" + scriptNow}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	as := func(uid uint32, line string) {
		t.Helper()
		if out, err := run(uid, line); err != nil {
			t.Fatalf("%s as %d: %v\n%s", line, uid, err, out)
		}
	}

	as(0, "license_server gencert")
	as(0, "license_server gencert-attestation")
	as(0, "license_server trust add -for tpm-vendor certs/attestation.crt")
	l, err := sqlite.Open(t.Context(), filepath.Join(dir, "DB", "ovsa.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	as(0, "license_server revoke host first -reason root")
	as(0, "ovsatool keygen -storekey -t ECDSA -n x -k kvm/keys -r kvm/keys.csr -e /CN=x -insecure-software-keystore")
	as(0, "ovsatool trust add kvm/primary_keys.csr.crt")
	as(0, "ovsatool keygen -storecert -c kvm/primary_keys.csr.crt -k kvm/keys")

	as(user, "license_server gencert-new")
	as(user, "license_server provision-new-cert")
	as(user, "license_server trust add -for attestation certs/attestation.crt")
	as(user, "license_server revoke host second -reason user")
	as(user, "ovsatool trust add kvm/secondary_keys.csr.crt")
	as(user, "ovsatool keygen -storecert -c kvm/secondary_keys.csr.crt -k kvm/keys")
	as(user, "ovsatool keygen -getcert -k kvm/keys -c kvm/primary_keys.csr.crt -force")

	for _, below := range []string{"certs", "DB", "kvm"} {
		err := filepath.WalkDir(filepath.Join(dir, below), func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == filepath.Join(dir, "DB") {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if uid := info.Sys().(*syscall.Stat_t).Uid; uid != user {
				t.Errorf("%s is the user %d's", path, uid)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	// What root made in another way is said to be root's.
	key := filepath.Join(dir, "certs", releaseKey)
	if err := os.Chown(key, 0, 0); err != nil {
		t.Fatal(err)
	}
	out, err := run(user, "license_server gencert-new")
	if err == nil || !strings.Contains(out, "hint: root owns it, and not daemon as its directory: chown --reference=certs certs/"+releaseKey) {
		t.Errorf("%v, %s", err, out)
	}
}
