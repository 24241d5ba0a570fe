package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/ovsactl/ovsactl/internal/ui"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/provision"
)

// runView shows a run: its plan, its events, its report.
type runView interface {
	Plan(p *provision.Plan) error
	Observe(e provision.Event)
	Report(r *provision.Report) error
	Close() // before the report, or when there is none
}

func newRunView(env Env, asJSON bool) runView {
	if asJSON {
		return &jsonRun{enc: json.NewEncoder(env.Stdout), told: make(map[string]provision.Event)}
	}
	return &textRun{out: env.Stdout, make: func() ui.View { return newUI(env) }}
}

// newUI is the view that fits what stderr is.
func newUI(env Env) ui.View {
	f, ok := env.Stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || env.Getenv("TERM") == "dumb" {
		return ui.NewPlain(env.Stderr)
	}
	return ui.NewTerminal(f, func() int { return sizeOf(f).Width })
}

// textRun is a run for people: the plan and the report on stdout, what happens
// on stderr.
type textRun struct {
	out  io.Writer
	make func() ui.View

	mu     sync.Mutex
	view   ui.View // made when something happens
	closed bool
}

func (t *textRun) Plan(p *provision.Plan) error { return writePlan(t.out, p) }

func (t *textRun) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.view != nil {
		t.view.Close()
	}
}

func (t *textRun) Observe(e provision.Event) {
	kinds := map[provision.EventKind]ui.Kind{
		provision.Started: ui.Started, provision.Progress: ui.Progress, provision.Completed: ui.Done,
		provision.Failed: ui.Failed, provision.Skipped: ui.Skipped, provision.Note: ui.Note,
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if t.view == nil {
		t.view = t.make()
	}
	t.view.Observe(ui.Event{
		Kind: kinds[e.Kind], Step: e.Step, Elapsed: e.Elapsed, Stage: e.Stage, Done: e.Done, Total: e.Total, Text: e.Text,
	})
}

func (t *textRun) Report(r *provision.Report) error {
	var b strings.Builder
	writeTimes(&b, r)
	ready, failed := 0, 0
	for _, role := range r.Roles {
		if role.Failed == "" {
			ready++
			continue
		}
		failed++
		writeFailure(&b, fmt.Sprintf("role.%s failed at %s:", role.Role, role.Failed), role.Error, role.Hint)
	}
	if r.Host != nil && !slices.ContainsFunc(r.Roles, func(role provision.RoleReport) bool { return role.Error == r.Host.Error }) {
		writeFailure(&b, "the host is not enrolled:", r.Host.Error, r.Host.Hint)
	}
	fmt.Fprintf(&b, "%d done, %d failed, in %s.\n", ready, failed, ui.Duration(r.Elapsed))
	_, err := io.WriteString(t.out, b.String())
	return err
}

func writeFailure(b *strings.Builder, what, why, hint string) {
	fmt.Fprintln(b, what)
	for line := range strings.Lines(why) {
		fmt.Fprintf(b, "    %s\n", visible.Text(strings.TrimRight(line, "\r\n")))
	}
	if hint != "" {
		fmt.Fprintf(b, "  hint: %s\n", visible.Text(hint))
	}
}

// worthShowing is the least time that a phase needs for a column of its own.
const worthShowing = 100 * time.Millisecond

// writeTimes writes the table of roles and what their phases took. A phase
// that took no time worth speaking of anywhere has no column.
func writeTimes(w io.Writer, r *provision.Report) {
	var columns []string // in the order of the phases, whichever role took time for one
	shown := make(map[string]bool)
	for _, role := range r.Roles {
		for _, p := range role.Phases {
			if !slices.Contains(columns, p.Name) {
				columns = append(columns, p.Name)
			}
			shown[p.Name] = shown[p.Name] || p.Elapsed >= worthShowing
		}
	}
	columns = slices.DeleteFunc(columns, func(name string) bool { return !shown[name] })
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s\n", strings.Join(slices.Concat([]string{"ROLE", "ACTION"}, upper(columns), []string{"RESULT"}), "\t"))
	for _, role := range r.Roles {
		cells := []string{role.Role, string(role.Action)}
		for _, c := range columns {
			cells = append(cells, phaseTime(role, c))
		}
		result := "ready"
		switch {
		case role.Failed != "":
			result = "failed"
		case role.Action == provision.Delete:
			result = "gone"
		}
		fmt.Fprintln(table, strings.Join(append(cells, result), "\t"))
	}
	table.Flush()
}

func phaseTime(role provision.RoleReport, name string) string {
	for _, p := range role.Phases {
		if p.Name == name {
			return ui.Duration(p.Elapsed)
		}
	}
	return "-"
}

func upper(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strings.ToUpper(w)
	}
	return out
}

// jsonRun is a run as JSON lines on stdout, each an object with an "event":
// "plan", those of provision.EventKind, and at last "report".
type jsonRun struct {
	mu   sync.Mutex
	enc  *json.Encoder
	told map[string]provision.Event // the last progress of each step
}

func (j *jsonRun) Close() {}

func (j *jsonRun) Plan(p *provision.Plan) error {
	return j.write(struct {
		Event string `json:"event"`
		planJSON
	}{"plan", planJSON{p.Changed(), p}})
}

func (j *jsonRun) Observe(e provision.Event) {
	if e.Kind == provision.Progress && !j.due(e) {
		return
	}
	j.write(e) // a reader that is gone shows when the report is written
}

// due keeps progress to one line a second and step, and one for each stage.
func (j *jsonRun) due(e provision.Event) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	last, ok := j.told[e.Step]
	if ok && last.Stage == e.Stage && e.Time.Sub(last.Time) < time.Second {
		return false
	}
	j.told[e.Step] = e
	return true
}

func (j *jsonRun) Report(r *provision.Report) error {
	return j.write(struct {
		Event string `json:"event"`
		*provision.Report
	}{"report", r})
}

func (j *jsonRun) write(v any) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.enc.Encode(v)
}
