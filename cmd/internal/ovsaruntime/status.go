package ovsaruntime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/sleep"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing/hosting"
)

const opsTime = 10 * time.Second

// told is what /status says.
type told struct {
	Models []hosting.Status     `json:"models"`
	Engine engineStatus         `json:"engine"`
	Config hosting.ConfigStatus `json:"configuration"`
	Front  *hosting.FrontStatus `json:"front,omitempty"` // nil for none
}

// engineStatus is what is told of the models' server.
type engineStatus struct {
	State   hosting.State `json:"state"`
	Since   time.Time     `json:"since"`
	Started int64         `json:"started"` // how often
	Why     string        `json:"why,omitempty"`
}

// status answers whoever looks after the runtime.
func status(c *collector) http.Handler {
	h := c.host
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		models, _ := h.Status()
		var lacks []hosting.Status
		for _, m := range models {
			if m.State != hosting.Ready {
				lacks = append(lacks, m)
			}
		}
		switch {
		case len(lacks) == len(models):
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, "not ready")
		case len(lacks) > 0:
			fmt.Fprintln(w, "ready, and not complete")
		default:
			fmt.Fprintln(w, "ok")
		}
		for _, m := range lacks {
			fmt.Fprintf(w, "%s: %s/%d: %s\n", m.State, m.Name, m.Version, m.Why)
		}
	})
	mux.Handle("GET /metrics", metrics(c))
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		models, engine := h.Status()
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.Encode(told{models, engineStatus{engine.State, engine.Since, engine.Version, engine.Why}, h.Config(), c.frontStatus()}) // who has left does not hear it
	})
	return mux
}

func statusCommand() guestcli.Command {
	return guestcli.Command{
		Name: "status", Summary: "say what becomes of each model that is served here",
		Flags: []guestcli.Flag{
			opsFlag("where `serve` tells it"),
			{Name: "wait", Arg: "DURATION", Kind: guestcli.Duration, Default: "0s", Help: "wait for as long at most, until each model is ready or cannot be; none that is ready is an error then"},
			guestcli.JSON(),
		},
		Example: "status -wait 3m",
		Run: func(ctx context.Context, c *guestcli.Call) error {
			t, err := awaitModels(ctx, c)
			if err != nil {
				return err
			}
			if c.Has("json") {
				err = guestcli.WriteJSON(c.Stdout, t)
			} else {
				err = t.write(c.Stdout)
			}
			if err == nil && c.Duration("wait") > 0 && !t.any(hosting.Ready) {
				err = hint.Wrap(errors.New("no model is ready"), "journalctl -u ovsaruntime has more")
			}
			return err
		},
	}
}

// lookAgain is how often it is looked what became of models.
const lookAgain = 200 * time.Millisecond

// awaitModels returns the status when nothing of it is on its way, or when it has been
// waited for.
func awaitModels(ctx context.Context, c *guestcli.Call) (t told, err error) {
	end := time.Now().Add(c.Duration("wait"))
	for said := ""; ; {
		t, err = ask(ctx, c.Text("ops"))
		left := time.Until(end)
		if err == nil && t.settled() || left <= 0 {
			return t, err
		}
		now := "waiting for the runtime"
		if err == nil {
			now = t.summary()
		}
		if now != said {
			c.Say("%s", now)
			said = now
		}
		if err := sleep.For(ctx, min(lookAgain, left)); err != nil {
			return t, err
		}
	}
}

func (t told) any(of hosting.State) bool {
	return slices.ContainsFunc(t.Models, func(m hosting.Status) bool { return m.State == of })
}

// settled says whether nothing is on its way: models are ready, or cannot be for now.
func (t told) settled() bool {
	for _, m := range t.Models {
		if m.State != hosting.Ready && m.State != hosting.Refused && m.State != hosting.Failed && !(m.State == hosting.Granted && t.Engine.State == hosting.Failed) {
			return false
		}
	}
	return len(t.Models) > 0
}

// summary is a line about it.
func (t told) summary() string {
	var all []string
	for _, m := range t.Models {
		all = append(all, fmt.Sprintf("%s: %s", nameOf(m.Name, m.Version), m.State))
	}
	return strings.Join(append(all, "the model server: "+string(t.Engine.State)), ", ")
}

// maxStatus is how long a status may be, in bytes.
const maxStatus = 1 << 20

// ask asks a runtime for its status.
func ask(ctx context.Context, address string) (t told, err error) {
	ctx, cancel := context.WithTimeout(ctx, opsTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/status", nil)
	if err != nil {
		return t, fmt.Errorf("ask for the status: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return t, hint.Wrap(fmt.Errorf("ask for the status: %w", err), "does `ovsaruntime serve` run, with this -ops?")
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxStatus)).Decode(&t); err != nil || response.StatusCode != http.StatusOK {
		return t, fmt.Errorf("ask for the status: what answers at %s is no runtime (%s)", address, response.Status)
	}
	return t, nil
}

// nameOf is how people call a version; 0 where a model has none.
func nameOf(model string, version int64) string {
	if version == 0 {
		return model
	}
	return fmt.Sprintf("%s/%d", model, version)
}

// write writes a status for people.
func (t told) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tSTATE\tLEASE UNTIL\tLAST PROOF\tWHY NOT")
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.UTC().Format(time.RFC3339)
	}
	for _, m := range t.Models {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", visible.Line(nameOf(m.Name, m.Version)), m.State, at(m.Lease), at(m.Proven), visible.Line(m.Why))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	why := ""
	if t.Engine.Why != "" {
		why = ": " + visible.Line(t.Engine.Why)
	}
	if _, err := fmt.Fprintf(out, "\nthe model server is %s since %s, started %d times%s\n", t.Engine.State, at(t.Engine.Since), t.Engine.Started, why); err != nil {
		return err
	}
	if t.Config.Why == "" {
		return nil
	}
	_, err := fmt.Fprintf(out, "the configuration is refused since %s, and what was in use stays: %s\n", at(t.Config.Since), visible.Line(t.Config.Why))
	return err
}

func checkCommand(p keystore.Ports) guestcli.Command {
	return guestcli.Command{
		Name: "check", Summary: "prove this guest once for each model, and say what came of it; exits with an error when one cannot be had",
		Flags:   keystore.Trusting(configFlag(), opsFlag("where `serve` would tell its status"), hostPort(), guestcli.JSON()),
		Example: "check -config sample.json",
		Run: func(ctx context.Context, c *guestcli.Call) error {
			return check(ctx, session{keystore.Session{Call: c, Ports: p}})
		},
	}
}

// checked is what came of a version.
type checked struct {
	Model   string    `json:"model"`
	Version int64     `json:"version,omitempty"`
	OK      bool      `json:"ok"`
	Files   []string  `json:"files,omitempty"`
	Lease   time.Time `json:"lease_until,omitzero"`
	Why     string    `json:"why,omitempty"`
	Hint    string    `json:"hint,omitempty"`
}

// errNotHad is the error of check. What it is about has been said.
var errNotHad = errors.New("not every model can be had")

func check(ctx context.Context, s session) error {
	config, err := readConfig(s.Text("config"))
	if err != nil {
		return err
	}
	// A guest has one lease of a licence: another proof would take those away.
	if _, err := ask(ctx, s.Text("ops")); err == nil {
		return hint.Wrap(errors.New("the models are being served, and another proof would end that"), "ovsaruntime status tells what becomes of them")
	}
	g := s.guest(nil, nil)
	all, good := []checked{}, true
	for _, m := range config.Models {
		versions, err := m.Versions()
		if err != nil {
			all = append(all, checked{Model: m.Name, Why: err.Error(), Hint: hint.Of(err)})
		}
		for _, v := range versions {
			s.Say("%s/%d: proving", m.Name, v.Number)
			all = append(all, once(ctx, g, v))
		}
	}
	if s.Has("json") {
		if err := guestcli.WriteJSON(s.Stdout, all); err != nil {
			return err
		}
	}
	for _, c := range all {
		good = good && c.OK
		if s.Has("json") {
			continue
		}
		if err := c.write(s.Stdout); err != nil {
			return err
		}
	}
	if !good {
		return errNotHad
	}
	return nil
}

// once gets a version, and gives it back.
func once(ctx context.Context, g *hosting.Guest, v hosting.Version) checked {
	c := checked{Model: v.Model.Name, Version: v.Number}
	l, err := g.Acquire(ctx, v)
	if err != nil {
		c.Why, c.Hint = err.Error(), hint.Of(err)
		return c
	}
	defer l.Close()
	c.OK = true
	c.Lease, _ = l.Lease()
	for _, f := range l.Model().Files() {
		c.Files = append(c.Files, f.Name)
	}
	return c
}

func (c checked) write(out io.Writer) (err error) {
	name := nameOf(c.Model, c.Version)
	if c.OK {
		_, err = fmt.Fprintf(out, "ok      %s: %d files, a lease until %s\n", visible.Line(name), len(c.Files), c.Lease.UTC().Format(time.RFC3339))
		return err
	}
	if _, err = fmt.Fprintf(out, "failed  %s: %s\n", visible.Line(name), visible.Line(c.Why)); err == nil && c.Hint != "" {
		_, err = fmt.Fprintf(out, "        %s\n", visible.Line(c.Hint))
	}
	return err
}
