package templates_test

import (
	"bytes"
	"testing"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/templates"
)

// inGuest runs a script as root where /opt, /var/lib and the users are its own, and
// systemctl does what $FAKE has files for.
const inGuest = `set -eu
mount -t tmpfs tmpfs "$SCRATCH"
mkdir "$SCRATCH/upper" "$SCRATCH/work" "$SCRATCH/fake"
mount -t overlay -o "lowerdir=/etc,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work" overlay /etc
for dir in /opt /home /var/lib; do mount -t tmpfs tmpfs $dir; done
getent passwd ovsa >/dev/null || useradd --create-home ovsa
chmod 755 "$SCRATCH" "$SCRATCH/fake"
export FAKE="$SCRATCH/fake"
export PATH="$FAKE:$PATH"
cat >"$FAKE/systemctl" <<'X'
#!/bin/sh
fake=${0%/*}
case $1 in
is-enabled) [ -e "$fake/enabled" ] ;;
is-active) [ -e "$fake/active" ] ;;
show) n=$(($(cat "$fake/n" 2>/dev/null || echo 0) + 1)); echo $n >"$fake/n"; sed -n "s/^$n //p" "$fake/states" ;;
*) echo "  systemctl $*"; [ ! -e "$fake/broken" ] ;;
esac
X
printf '#!/bin/sh\necho its last words\n' >"$FAKE/journalctl"
printf '#!/bin/sh\necho "  $(id -un) trusts $4 $(cat "$5")" >&2\n' >/opt/program
chmod 755 "$FAKE"/* /opt/program
: >"$FAKE/enabled"
`

func guest(t *testing.T, script string) string {
	t.Helper()
	need.Root(t)
	need.Program(t, "runuser")
	var out bytes.Buffer
	err := run.Cmd{Path: "unshare", Args: []string{"--mount", "--propagation", "private", "sh", "-c", inGuest + script},
		Env: []string{"SCRATCH=" + t.TempDir(), "CONFIGURE=" + templates.ConfigureScript, "READY=" + templates.ReadyScript}, Stdout: &out}.Run(t.Context())
	if err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	return out.String()
}

func TestConfigure(t *testing.T) {
	got := guest(t, `
mkdir -p "$SCRATCH/in" /opt/ovsa/kvm
install -d -o ovsa /opt/ovsa/kvm/artefacts
cd "$SCRATCH/in"
send() { # FILES... -- ARGUMENTS...
	echo "$1:"
	shift
	tar -c . | { sh -c "$CONFIGURE" ovsactl-configure /var/lib/ovsactl/configure x.service /opt/program "$@" 2>&1 || echo "  exit $?"; }
	ls /var/lib/ovsactl
}
printf one >0; printf two >1; printf certificate >2; : >.complete
settings="restart 0 root 0644 /opt/ovsa/x.conf"
model="notice 1 ovsa 0644 /opt/ovsa/kvm/artefacts/face/1/face.dat"
send "the first time" $settings $model trust 2 ovsa 0644 isv
stat -c '%U %a %n' /opt/ovsa/x.conf /opt/ovsa/kvm/artefacts/face/1/face.dat
send "again" $settings $model
mkdir /opt/example
send "theirs, in a directory of root's" reload 0 root:ovsa 0644 /opt/example/sample.json
stat -c '%U %G %a %n' /opt/example/sample.json
: >"$FAKE/active"
printf three >0; printf four >1
send "another model" $model
send "to be reloaded" reload 0 ovsa 0644 /opt/ovsa/kvm/artefacts/sample.json
send "gone" remove 0 ovsa 0644 /opt/ovsa/kvm/artefacts/sample.json
ls /opt/ovsa/kvm/artefacts
: >"$FAKE/broken"
send "settings with which it does not start" $settings
rm "$FAKE/broken"
send "the same settings, which it has not taken" $settings
rm "$FAKE/enabled"
printf five >0
send "not wanted" $settings
cat /opt/ovsa/x.conf; echo
rm .complete
printf six >0
send "cut off" $settings
cat /opt/ovsa/x.conf; echo
: >.complete
# What ovsa makes of its directories leads root nowhere.
mkdir /opt/secret
rm -r /opt/ovsa/kvm/artefacts/face
ln -s /opt/secret /opt/ovsa/kvm/artefacts/face
send "through a link" $model
find /opt/secret -type f
find /opt -name '.ovsa-*'
`)
	want := `the first time:
  ovsa trusts isv certificate
  systemctl restart x.service
root 644 /opt/ovsa/x.conf
ovsa 644 /opt/ovsa/kvm/artefacts/face/1/face.dat
again:
  systemctl start x.service
theirs, in a directory of root's:
  systemctl start x.service
ovsa ovsa 644 /opt/example/sample.json
another model:
  systemctl start x.service
to be reloaded:
  systemctl reload-or-restart x.service
gone:
  systemctl start x.service
face
settings with which it does not start:
  systemctl restart x.service
its last words
  exit 1
x.service.pending
the same settings, which it has not taken:
  systemctl restart x.service
not wanted:
five
cut off:
the files did not arrive whole
  exit 1
five
through a link:
mkdir: cannot create directory ` + "‘/opt/ovsa/kvm/artefacts/face/1’" + `: Permission denied
  exit 1
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestReady(t *testing.T) {
	got := guest(t, `
await() {
	echo "$1:"
	rm -f "$FAKE/n"
	printf '%b' "$2" >"$FAKE/states"
	sh -c "$READY" ovsactl-ready x.service "$3" 2>&1 || echo "exit $?"
}
await "on its way" '1 ActiveState=activating\n1 StatusText=proving\n2 ActiveState=active\n2 StatusText=serving 2 models\n' 9
await "fails" '1 ActiveState=failed\n' 9
await "never" '1 ActiveState=activating\n' 0
await "booting" '1 ActiveState=inactive\n1 Job=42\n1 ConditionResult=no\n1 ConditionTimestampMonotonic=0\n2 ActiveState=active\n' 9
await "a condition" '1 ActiveState=inactive\n1 ConditionResult=no\n1 ConditionTimestampMonotonic=7\n' 9
rm "$FAKE/enabled"
await "not wanted" '1 ActiveState=inactive\n' 9
`)
	want := `on its way:
activating proving
active serving 2 models
fails:
failed 
its last words
exit 1
never:
activating 
not ready in time
its last words
exit 1
booting:
inactive 
active 
a condition:
skipped 
not wanted:
disabled 
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
