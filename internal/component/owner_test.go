package component_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
)

// inPrivateRoot runs a script as root in a mount namespace where /etc is a
// throw-away copy and /opt, /home, /var/lib and /usr/local are empty.
const inPrivateRoot = `set -eu
mount -t tmpfs tmpfs "$SCRATCH"
mkdir "$SCRATCH/upper" "$SCRATCH/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" overlay /etc
for dir in /opt /home /var/lib /usr/local; do mount -t tmpfs tmpfs $dir; done
"$1/install.sh"
"$2/install.sh"
echo secret >/opt/ovsa/kvm/keystore/mine
chown 0:0 /opt/ovsa/kvm/keystore
chown 1 /opt/ovsa/kvm/bin/ovsatool
"$1/install.sh"
rm /opt/ovsa/kvm/bin/ovsatool
setpriv --regid 1 --clear-groups "$1/install.sh"
stat -c 'with another group: %u:%g' /opt/ovsa/kvm/bin/ovsatool
# Consumed from the file system of its place, and from another.
for copy in /opt/copy /var/lib/copy; do
	cp -R "$1" "$copy"
	chown -R 1:1 "$copy/root/opt/ovsa/kvm/scripts" # not as an archive unpacks for root
	rm /opt/ovsa/kvm/bin/ovsatool /opt/ovsa/kvm/scripts/setupvars.sh
	OVSA_CONSUME=1 "$copy/install.sh"
	find "$copy/root" -type f -printf "$copy left %f\n"
	rm -r "$copy"
done
find /opt/ovsa /usr/local ! -name README -printf '%M %u %P\n'
getent passwd ovsa | cut -d: -f6-
getent shadow ovsa | cut -d: -f2
`

// TestInstallAsRoot proves owners, which DESTDIR leaves out, and the user.
func TestInstallAsRoot(t *testing.T) {
	need.Root(t)
	packages := built(t, "1.0")
	var out bytes.Buffer
	err := run.Cmd{Path: "unshare", Args: []string{
		"--mount", "--propagation", "private", "sh", "-c", inPrivateRoot, "sh",
		unpack(t, packages, "developer"), unpack(t, packages, "license_server"),
	}, Env: []string{"SCRATCH=" + t.TempDir()}, Stdout: &out}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"developer 1.0: installed, 4 files changed",
		"license_server 1.0: installed, 8 files changed",
		"developer 1.0: installed, 1 files changed", // whoever owned it may have it open
		"with another group: 0:0",
		"developer 1.0: installed, 2 files changed", "/opt/copy left setupvars.sh", "/var/lib/copy left ovsatool",
		"drwxr-xr-x root kvm/bin", "-rwxr-xr-x root kvm/bin/ovsatool", "-rw-r--r-- root scripts/setupvars.sh",
		"drwx------ ovsa kvm/keystore", "-rw-r--r-- root kvm/keystore/mine", "drwxr-x--- ovsa kvm/artefacts",
		"drwxrwx--T root DB", "-rwxr-xr-x root DB/ovsa_store_customer_lic_cert_db.py", "drwx------ ovsa certs", "-rw-r--r-- root lib/systemd/system/license_server.service",
		"/home/ovsa:/bin/bash", "!",
	} {
		if !slices.Contains(strings.Split(out.String(), "\n"), want) {
			t.Errorf("no line %q in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "/opt/copy left ovsatool") {
		t.Errorf("a program was copied where it could be moved:\n%s", out.String())
	}
}

func TestInstallWantsRoot(t *testing.T) {
	pkg := unpack(t, built(t, "1.0"), "developer")
	for dir := pkg; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) { // so that anybody can read it
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var errs bytes.Buffer
	err := run.Cmd{Path: "sh", Args: []string{filepath.Join(pkg, "install.sh")}, Stderr: &errs,
		SysProcAttr: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}}.Run(t.Context())
	if err == nil || !strings.Contains(errs.String(), "this needs root: sudo "+pkg) {
		t.Errorf("%v: %s", err, errs.String())
	}
}
