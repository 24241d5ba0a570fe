package component_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
)

// systemctl plays systemd's part, where it lies: a unit becomes ready unless its program
// says "broken", or kills the installer that starts it where it says "deadly".
const systemctl = `#!/bin/sh
FAKE=${0%/*}
verb=
for word; do case $word in -*) ;; *) [ -n "$verb" ] && unit=$word || verb=$word ;; esac; done
case $verb in
is-enabled) [ -e "$FAKE/enabled/$unit" ]; exit ;;
is-active) [ -e "$FAKE/active/$unit" ]; exit ;;
show) echo exit-code; exit ;;
enable) mkdir -p "$FAKE/enabled"; : >"$FAKE/enabled/$unit"; echo "  systemctl enable $unit" >>"$FAKE/log"; exit ;;
daemon-reload) echo "  systemctl daemon-reload" >>"$FAKE/log"; exit ;;
start) [ ! -e "$FAKE/active/$unit" ] || exit 0 ;;
try-restart) [ -e "$FAKE/active/$unit" ] || exit 0 ;;
esac
case $unit in license_server*) program=/opt/ovsa/bin/license_server ;; *) program=/opt/ovsa/kvm/bin/ovsaruntime ;; esac
says=$(tail -n 1 "$program" | tr -cd a-z)
echo "  systemctl $verb $unit: $says" >>"$FAKE/log"
mkdir -p "$FAKE/active"
rm -f "$FAKE/active/$unit"
case $says in
*broken) exit 1 ;;
*deadly) [ -e "$FAKE/spare" ] || { kill -9 $PPID; exit 1; } ;;
esac
: >"$FAKE/active/$unit"
`

// withSystemd runs a script like inPrivateRoot, where systemctl is in the place of
// systemd's.
const withSystemd = `set -eu
mount -t tmpfs tmpfs "$SCRATCH"
mkdir "$SCRATCH/upper" "$SCRATCH/work" "$SCRATCH/fake"
mount -t overlay -o "lowerdir=/etc,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" overlay /etc
for dir in /opt /home /var/lib /var/OVSA /usr/local /run; do mkdir -p $dir; mount -t tmpfs tmpfs $dir; done
mkdir -p /run/systemd/system
export FAKE="$SCRATCH/fake"
export PATH="$FAKE:$PATH"
printf %s "$SYSTEMCTL" >"$FAKE/systemctl"
printf '#!/bin/sh\necho its last words\n' >"$FAKE/journalctl"
chmod +x "$FAKE/systemctl" "$FAKE/journalctl"
try() {
	echo "$1:"
	: >"$FAKE/log"
	"$2/install.sh" 2>&1 || echo "exit $?"
	cat "$FAKE/log"
}
left() { find /opt /var/lib/ovsactl \( -name '.ovsa-*' -o -name '*.undo' \) -printf 'left %f\n'; }
`

func scripted(t *testing.T, script string, packages ...string) string {
	t.Helper()
	need.Root(t)
	var out bytes.Buffer
	err := run.Cmd{Path: "unshare", Args: append([]string{"--mount", "--propagation", "private", "sh", "-c", withSystemd + script, "sh"}, packages...),
		Env: []string{"SCRATCH=" + t.TempDir(), "SYSTEMCTL=" + systemctl}, Stdout: &out}.Run(t.Context())
	if err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	return out.String()
}

// says is a component whose program ends with a word.
func says(t *testing.T, packages, name, program, word string) string {
	t.Helper()
	pkg := unpack(t, packages, name)
	path := filepath.Join(pkg, "root", program)
	data := append(staticELF(), "\n"+word+"\n"...)
	write(t, path, data)
	line := regexp.MustCompile(`file [0-9a-f]{64} (\d+ ` + program + ")\n")
	if err := edit(filepath.Join(pkg, "MANIFEST"), func(s string) string {
		return line.ReplaceAllString(s, fmt.Sprintf("file %x $1\n", sha256.Sum256(data)))
	}); err != nil {
		t.Fatal(err)
	}
	return pkg
}

func TestUnitsFollowTheirFiles(t *testing.T) {
	one, two := built(t, "1.0"), built(t, "2.0")
	server := func(packages, word string) string {
		return says(t, packages, "license_server", "/opt/ovsa/bin/license_server", word)
	}
	got := scripted(t, `
try "the first time" "$1"
try "again" "$1"
try "an upgrade" "$2"
try "one that does not start" "$3"
left
tail -n 1 /opt/ovsa/bin/license_server
grep -o '"version": "[^"]*"' /var/lib/ovsactl/components/license_server.json
try "a good one after it" "$1"
rm "$FAKE/active/license_server.service"
try "not running" "$1"
rm "$FAKE/active/license_server.service" "$FAKE/enabled/license_server.service"
try "not wanted" "$1"
try "not wanted, and another" "$2"
`, server(one, "one"), server(two, "two"), server(two, "broken"))
	want := `the first time:
license_server 1.0: installed, 8 files changed
license_server.service: ready
  systemctl enable license_server.service
  systemctl restart license_server.service: one
again:
license_server 1.0: installed already
license_server.service: ready
an upgrade:
license_server 2.0: installed, 1 files changed
license_server.service: ready
  systemctl restart license_server.service: two
one that does not start:
install.sh: error: start license_server.service: it does not become ready (exit-code); its log ends: its last words; the old version is in place again
install.sh: hint: journalctl -u license_server.service
exit 1
  systemctl restart license_server.service: broken
  systemctl daemon-reload
  systemctl restart license_server.service: two
two
"version": "2.0"
a good one after it:
license_server 1.0: installed, 1 files changed
license_server.service: ready
  systemctl restart license_server.service: one
not running:
license_server 1.0: installed already
license_server.service: ready
  systemctl start license_server.service: one
not wanted:
license_server 1.0: installed already
not wanted, and another:
license_server 2.0: installed, 1 files changed
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestUpgradeCutOffAndChanged: what is put back is what was kept, where components are.
func TestUpgradeCutOffAndChanged(t *testing.T) {
	one, two := built(t, "1.0"), built(t, "2.0")
	server := func(packages, word string) string {
		return says(t, packages, "license_server", "/opt/ovsa/bin/license_server", word)
	}
	got := scripted(t, `
"$1/install.sh" >/dev/null
"$2/install.sh" >/dev/null 2>&1 || echo "killed"
chown 1 /opt/ovsa/bin/.ovsa-old.license_server
try "what was kept is somebody else's" "$1"
chown 0 /opt/ovsa/bin/.ovsa-old.license_server
undo=/var/lib/ovsactl/components/license_server.undo
cp "$undo" "$SCRATCH/kept"
sed -i 's|/opt/ovsa/bin/license_server|/etc/passwd|' "$undo"
try "a record of another place" "$1"
echo nothing >"$undo"
try "a record that is none" "$1"
cp "$SCRATCH/kept" "$undo"
try "as it was" "$1"
left
`, server(one, "one"), server(two, "deadly"))
	want := `killed
what was kept is somebody else's:
install.sh: error: undo an upgrade that was cut off: put the old version of "/opt/ovsa/bin/license_server" back: "/opt/ovsa/bin/.ovsa-old.license_server" is not what was kept
exit 1
a record of another place:
install.sh: error: undo an upgrade that was cut off: put the old version of "/etc/passwd" back: the path "/etc/passwd" is none for components
exit 1
a record that is none:
install.sh: error: read "/var/lib/ovsactl/components/license_server.undo": invalid character 'o' in literal null (expecting 'u')
exit 1
as it was:
license_server 1.0: installed already
license_server.service: ready
  systemctl restart license_server.service: one
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestUpgradeCutOff: an installer that dies while the new version starts leaves both
// versions, and whoever comes next has one of them.
func TestUpgradeCutOff(t *testing.T) {
	one, two := built(t, "1.0"), built(t, "2.0")
	server := func(packages, word string) string {
		return says(t, packages, "license_server", "/opt/ovsa/bin/license_server", word)
	}
	deadly := server(two, "deadly")
	addFile(t, deadly, "/opt/ovsa/scripts/more", "more")
	got := scripted(t, `
"$1/install.sh" >/dev/null
cp -R "$2" "$SCRATCH/again"
"$2/install.sh" >/dev/null 2>&1 || echo "killed"
left | sort
try "the old one" "$1"
left
ls /opt/ovsa/scripts
"$2/install.sh" >/dev/null 2>&1 || echo "killed"
: >"$FAKE/spare"
try "the new one" "$SCRATCH/again"
left
ls /opt/ovsa/scripts
`, server(one, "one"), deadly)
	want := `killed
left .ovsa-old.license_server
left license_server.undo
the old one:
license_server 1.0: installed already
license_server.service: ready
  systemctl restart license_server.service: one
OVSA_install_license_server_cert.sh
ovsa_store_customer_lic_cert_db.py
setupvars.sh
killed
the new one:
license_server 2.0: installed, 2 files changed
license_server.service: ready
  systemctl restart license_server.service: deadly
OVSA_install_license_server_cert.sh
more
ovsa_store_customer_lic_cert_db.py
setupvars.sh
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestDynamicPrograms: one that is linked with the C library alone, and finds it in
// every guest.
func TestDynamicPrograms(t *testing.T) {
	compiler := need.Program(t, "cc")
	build := func(source string, flags ...string) string {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "x.c"), []byte(source))
		out := filepath.Join(dir, "x")
		if err := (run.Cmd{Path: compiler, Args: append([]string{"-o", out, filepath.Join(dir, "x.c")}, flags...)}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		return out
	}
	const plain = "#include <stdio.h>\nint main(void) { return puts(\"x\") < 0; }\n"
	for name, tt := range map[string]struct{ program, fails string }{
		"plain":          {build(plain), ""},
		"static":         {build(plain, "-static"), "it is linked statically"},
		"another loader": {build(plain, "-Wl,--dynamic-linker=/opt/ld.so"), `it is loaded by "/opt/ld.so"`},
		"own libraries":  {build(plain, "-Wl,-rpath,/opt/lib"), `it looks for libraries in ["/opt/lib"]`},
		"other library":  {build(plain, "-Wl,--no-as-needed", "-l:libcrypt.so.1"), "it needs libcrypt.so.1"},
		"no program":     {filepath.Join(t.TempDir(), "none"), "no such file"},
		"a script":       {"/usr/bin/ldd", "bad magic number"},
	} {
		err := component.CheckDynamic(tt.program)
		if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
			t.Errorf("%s: %v, want %q", name, err, tt.fails)
		}
	}
	for _, v := range []struct {
		version string
		newer   bool
	}{{"2.2.5", false}, {"2.36", false}, {"2.37", true}, {"2.36.1", true}, {"3.0", true}, {"2.4", false}, {"PRIVATE", true}} {
		if component.Newer(v.version, "2.36") != v.newer {
			t.Errorf("GLIBC_%s: newer than 2.36 is not %v", v.version, v.newer)
		}
	}
}

// TestModelHosting: what it needs is there first, it has a user for engines, and the
// user's sample.json stays. Whoever replaces a program that it shares has it start again.
func TestModelHosting(t *testing.T) {
	need.Program(t, "nginx")
	one, two := built(t, "1.0"), built(t, "2.0")
	const runtime = "/opt/ovsa/kvm/bin/ovsaruntime"
	got := scripted(t, `
mkdir "$SCRATCH/upper2" "$SCRATCH/work2"
mount -t overlay -o "lowerdir=/usr/sbin,upperdir=$SCRATCH/upper2,workdir=$SCRATCH/work2" overlay /usr/sbin
mv /usr/sbin/nginx /usr/sbin/hidden
try "without nginx" "$1" | grep -v warning
ls /opt
mv /usr/sbin/hidden /usr/sbin/nginx
try "with it" "$1" | grep -v warning
getent passwd ovsa-engine | cut -d: -f6-
stat -c '%U %a %n' /opt/ovsa/kvm/example_runtime/sample.json /var/OVSA/Modelserver
echo mine >/opt/ovsa/kvm/example_runtime/sample.json
try "another version of a component that shares a program" "$2"
try "and its own" "$3" | grep -v warning
cat /opt/ovsa/kvm/example_runtime/sample.json
try "one that breaks the other" "$4"
tail -n 1 /opt/ovsa/kvm/bin/ovsaruntime
`, says(t, one, "model_hosting", runtime, "one"), says(t, two, "developer", runtime, "two"), says(t, two, "model_hosting", runtime, "two"), says(t, two, "developer", runtime, "broken"))
	want := `without nginx:
install.sh: error: this machine lacks nginx-light
install.sh: hint: sudo apt-get install --yes nginx-light, and then this again
exit 1
with it:
model_hosting 1.0: installed, 14 files changed
ovsaruntime.service: ready
  systemctl enable ovsaruntime.service
  systemctl restart ovsaruntime.service: one
/nonexistent:/usr/sbin/nologin
ovsa 644 /opt/ovsa/kvm/example_runtime/sample.json
ovsa 755 /var/OVSA/Modelserver
another version of a component that shares a program:
developer 2.0: installed, 1 files changed
  systemctl restart ovsaruntime.service: two
and its own:
model_hosting 2.0: installed already
ovsaruntime.service: ready
mine
one that breaks the other:
install.sh: error: start ovsaruntime.service: it does not become ready (exit-code); its log ends: its last words; the old version is in place again
install.sh: hint: journalctl -u ovsaruntime.service
exit 1
  systemctl restart ovsaruntime.service: broken
  systemctl daemon-reload
  systemctl restart ovsaruntime.service: two
two
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestGuidesScripts: command lines as the guide and OpenVINO Model Server's have them.
func TestGuidesScripts(t *testing.T) {
	need.Program(t, "nginx")
	got := scripted(t, `
"$1/install.sh" >/dev/null 2>&1
printf '#!/bin/sh\necho "  ovsaruntime $*"\n' >/opt/ovsa/kvm/bin/ovsaruntime
cd /opt/ovsa/kvm/example_runtime
run() { echo "$*:"; : >"$FAKE/log"; "$@" 2>&1 || echo "  exit $?"; cat "$FAKE/log"; }
run ./generate_certs.sh
run ./generate_certs.sh -p certs -d models.example.org
run ./generate_certs.sh models.example.org
run ./start_secure_ovsa_model_server.sh
echo key >/opt/ovsa/kvm/keystore/custkeystore
run ./start_secure_ovsa_model_server.sh
echo '#broken' >>/opt/ovsa/kvm/bin/ovsaruntime
run ./start_secure_ovsa_model_server.sh
rm sample.json
run ./start_secure_ovsa_model_server.sh
`, unpack(t, built(t, "1.0"), "model_hosting"))
	want := `./generate_certs.sh:
  ovsaruntime gencerts
./generate_certs.sh -p certs -d models.example.org:
  ovsaruntime gencerts -certs certs -host models.example.org localhost 127.0.0.1
./generate_certs.sh models.example.org:
Usage: generate_certs.sh [-p DIR] [-d NAME]
  exit 2
./start_secure_ovsa_model_server.sh:
error: no key store is in /opt/ovsa/kvm/keystore yet, with which models are opened: make one with ovsatool keygen
  exit 1
./start_secure_ovsa_model_server.sh:
  ovsaruntime status -wait 3m
  systemctl restart ovsaruntime.service: echoovsaruntime
./start_secure_ovsa_model_server.sh:
its last words
  exit 1
  systemctl restart ovsaruntime.service: broken
./start_secure_ovsa_model_server.sh:
error: there is no /opt/ovsa/kvm/example_runtime/sample.json, which says what is served
  exit 1
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
