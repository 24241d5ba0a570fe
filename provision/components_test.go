package provision_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/templates"
)

// scripted is a guest that says what the test wants, and does nothing.
type scripted struct {
	remoteSide
	run func(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error
}

func (s scripted) Dial(context.Context, netip.Addr, string, []string) (provision.Guest, error) {
	return s, nil
}

func (s scripted) Run(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if slices.Contains(argv, templates.ReadyScript) {
		fmt.Fprintln(stdout, "active ")
		return nil
	}
	return s.run(ctx, stdin, stdout, stderr)
}

func (s scripted) Close() error { return nil }

// applyWith makes the role isv_dev, with two components, in a guest that behaves
// as run does, and returns its report and the components that are on record.
func applyWith(t *testing.T, w *world, run func(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error) (provision.RoleReport, []string) {
	t.Helper()
	m := manifest(t, w, func(m *roles.Manifest) {
		m.Roles = m.Roles[:1]
		m.Roles[0].Components = []roles.Component{
			{Name: "developer", Timeout: time.Minute}, {Name: "license_server", Port: 4452, Timeout: 300 * time.Millisecond},
		}
	})
	e := w.engine()
	e.Remote = scripted{remoteSide{w}, run}
	_, report, err := apply(w.life(t.Context(), 0), e, m)
	if report == nil {
		t.Fatal(err)
	}
	domains, err := w.host.Domains(t.Context())
	if err != nil || len(domains) != 1 {
		t.Fatalf("%d domains, %v", len(domains), err)
	}
	var names []string
	for _, c := range domains[0].Metadata.Components {
		names = append(names, c.Name)
	}
	return report.Roles[0], names
}

// TestWhatAGuestSaysOfComponents: what it says is in is recorded, and whatever
// else it says ends the step.
func TestWhatAGuestSaysOfComponents(t *testing.T) {
	for _, tt := range []struct {
		name     string
		says     string
		stderr   string
		err      error
		fails    string // "" when all is well
		recorded []string
	}{
		{"both", "received\ninstalled developer\ninstalled license_server\n", "", nil, "", []string{"developer", "license_server"}},
		{"the second fails", "received\ninstalled developer\n", "no \x1b[2Jspace\n", fmt.Errorf("exit status 3"),
			`component "license_server": run install.sh: exit status 3: no ␛[2Jspace`, []string{"developer"}},
		{"nothing arrives", "", "the components did not arrive whole\n", fmt.Errorf("exit status 1"),
			"send components: exit status 1: the components did not arrive whole", nil},
		{"it ends early", "received\ninstalled developer\n", "", nil, `component "license_server": run install.sh: the guest does not say that it is installed`, []string{"developer"}},
		{"it says nothing", "", "", nil, "send components: the guest does not say that it is installed", nil},
		{"another order", "received\ninstalled license_server\n", "", nil, `the guest says "installed license_server"`, nil},
		{"not received", "installed developer\n", "", nil, `the guest says "installed developer"`, nil},
		{"twice", "received\ninstalled developer\ninstalled developer\n", "", nil, `the guest says "installed developer"`, []string{"developer"}},
		{"more than there is", "received\ninstalled developer\ninstalled license_server\nreceived\n", "", nil, `the guest says "received"`, []string{"developer", "license_server"}},
		{"something else", "received\n\x1b]0;owned\x07\n", "", nil, "the guest says", nil},
		{"no end of a line", "received\n" + strings.Repeat("x", 2000), "", nil, "a line of over 1024 bytes", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			report, recorded := applyWith(t, w, func(_ context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
				entries, err := unpacked(stdin, "zstd")
				if err != nil || !slices.Contains(entries, component.BundleEnd) {
					t.Errorf("the guest got %q, %v", entries, err)
				}
				for piece := range slices.Chunk([]byte(tt.says), 7) { // a line may come in any pieces
					stdout.Write(piece)
				}
				io.WriteString(stderr, tt.stderr)
				return tt.err
			})
			if tt.fails == "" && report.Failed != "" || !strings.Contains(report.Error, tt.fails) {
				t.Errorf("failed %q: %q, want %q", report.Failed, report.Error, tt.fails)
			}
			if strings.Contains(report.Error, "\x1b") {
				t.Errorf("%q reaches the terminal", report.Error)
			}
			if !slices.Equal(recorded, tt.recorded) {
				t.Errorf("recorded %q, want %q", recorded, tt.recorded)
			}
		})
	}
}

// TestEachComponentHasItsTime: the first has a minute, the second 0.3 s.
func TestEachComponentHasItsTime(t *testing.T) {
	w := newWorld(t)
	report, recorded := applyWith(t, w, func(ctx context.Context, stdin io.Reader, stdout, _ io.Writer) error {
		io.Copy(io.Discard, stdin)
		io.WriteString(stdout, "received\n")
		time.Sleep(400 * time.Millisecond) // longer than the second's time
		io.WriteString(stdout, "installed developer\n")
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if want := `component "license_server": run install.sh: not done within 300ms`; report.Error != want {
		t.Errorf("error %q, want %q", report.Error, want)
	}
	if !slices.Equal(recorded, []string{"developer"}) {
		t.Errorf("recorded %q", recorded)
	}
}

// TestAGuestThatStopsReading: the installation ends, and nothing goes on.
func TestAGuestThatStopsReading(t *testing.T) {
	w := newWorld(t)
	report, _ := applyWith(t, w, func(context.Context, io.Reader, io.Writer, io.Writer) error {
		return fmt.Errorf("connection lost")
	})
	if report.Error != "send components: connection lost" {
		t.Errorf("error %q", report.Error)
	}
}

// TestComponentsAreSentInTheGuestsCompression, and as bytes of how many.
func TestComponentsAreSentInTheGuestsCompression(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	var mu sync.Mutex
	told := make(map[string]provision.Event)
	e.Observe = func(ev provision.Event) {
		mu.Lock()
		defer mu.Unlock()
		if ev.Kind == provision.Progress {
			told[ev.Step+" "+ev.Stage] = ev
		}
	}
	if _, _, err := apply(w.life(t.Context(), 0), e, manifest(t, w, nil)); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"192.168.122.20": "developer/developer-1/install.sh port=- zstd",
		"192.168.122.30": "model_hosting/model_hosting-1/install.sh port=- gzip",
	} {
		if got := w.guests[address]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s: ran %q, want %q", address, got, want)
		}
	}
	if e := told["role.isv_dev/components send components"]; e.Done != 10 || e.Total != 10 {
		t.Errorf("told of %d of %d bytes, in %v", e.Done, e.Total, told)
	}
	if _, ok := told["role.isv_dev/components install developer"]; !ok {
		t.Errorf("told of %v", told)
	}
}

// TestLibrariesComeBeforeServices: what a service may load is there when it starts,
// whatever the manifest names first.
func TestLibrariesComeBeforeServices(t *testing.T) {
	w := newWorld(t)
	m := manifest(t, w, func(m *roles.Manifest) {
		m.Roles = m.Roles[:1]
		m.Roles[0].Components = []roles.Component{
			{Name: "model_hosting", Timeout: time.Minute}, {Name: "developer", Timeout: time.Minute}, {Name: "openvino", Timeout: time.Minute},
		}
	})
	if _, _, err := apply(w.life(t.Context(), 0), w.engine(), m); err != nil {
		t.Fatal(err)
	}
	var installed []string
	for _, line := range w.guests["192.168.122.20"] {
		if name, _, is := strings.Cut(line, "/"); is && strings.Contains(line, "install.sh") {
			installed = append(installed, name)
		}
	}
	if want := []string{"openvino", "model_hosting", "developer"}; !slices.Equal(installed, want) {
		t.Errorf("installed %q, want %q", installed, want)
	}
}
