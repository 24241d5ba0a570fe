package licenseserver

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
)

// A provision-new-cert that replaces the key-release key, too, dies before each of
// its steps: a server that starts then has a pair that fits and both release keys,
// and the next run finishes what the dead one began.
func TestProvisionKilledAnywhere(t *testing.T) {
	run := func(d certDir, line string) {
		t.Helper()
		var stderr bytes.Buffer
		args := append(strings.Fields(line), "-dir", string(d))
		if strings.HasPrefix(line, "provision") {
			args = append(args, "-db", filepath.Join(string(d), "none.db"))
		}
		if code := Program(Machine()).Run(t.Context(), guestcli.Env{Args: args, Stdout: io.Discard, Stderr: &stderr}); code != 0 {
			t.Fatalf("%s: exit %d: %s", line, code, &stderr)
		}
	}
	prepared := func() certDir {
		d := certDir(t.TempDir())
		run(d, "gencert")
		run(d, "gencert-new -release")
		return d
	}
	whole := prepared()
	run(whole, "provision-new-cert")
	files := func(d certDir) (names []string) {
		t.Helper()
		entries, err := os.ReadDir(string(d))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := e.Name()
			if strings.HasPrefix(name, "release-") {
				name = "release-*.key"
			}
			names = append(names, name)
		}
		return names
	}
	want := fmt.Sprint(files(whole))

	steps := []func(d certDir) error{
		func(d certDir) error { // server.crt
			text, err := os.ReadFile(d.path(nextBundle))
			if err != nil {
				return err
			}
			return os.WriteFile(d.path(bundle), text, public)
		},
		func(d certDir) error { return os.Rename(d.path(nextKey), d.path(tlsKey)) },
		func(d certDir) error { return os.Rename(d.path(nextRequest), d.path(tlsRequest)) },
		func(d certDir) error { return os.Rename(d.path(releaseKey), d.path("release-00112233.key")) },
		func(d certDir) error { return os.Rename(d.path(nextRelease), d.path(releaseKey)) },
	}
	for dies := range len(steps) + 1 {
		d := prepared()
		old, err := d.key(releaseKey)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps[:dies] {
			if err := step(d); err != nil {
				t.Fatal(err)
			}
		}
		for _, when := range []string{"died", "finished"} {
			m, err := d.material(time.Now, nil)
			if err != nil {
				t.Fatalf("%s after %d steps: a server does not start: %v", when, dies, err)
			}
			if len(m.ReleaseKeys) != 2 || !m.ReleaseKeys[0].Equal(old) && !m.ReleaseKeys[1].Equal(old) {
				t.Errorf("%s after %d steps: the key of sold licences is gone", when, dies)
			}
			if when == "died" {
				run(d, "provision-new-cert")
			}
		}
		if got := fmt.Sprint(files(d)); got != want {
			t.Errorf("died after %d steps: %s, want %s", dies, got, want)
		}
	}
}
