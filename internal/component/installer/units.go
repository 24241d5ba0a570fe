package installer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
)

// readyTime is how long a unit may take until it is ready: longer than units wait by
// themselves.
const readyTime = 4 * time.Minute

// live tells whether this machine's systemd is to know of units.
func (in *installation) live() bool {
	_, err := os.Stat("/run/systemd/system")
	return in.Dest == "" && err == nil
}

// unit is one that files of this installation are for.
type unit struct {
	name  string
	files []string // of its component
	own   bool     // of this component, and not of one that shares a file with it
	fresh bool     // it was never enabled by this
}

// upgrade changes files, and has units follow: all of it, or nothing when it is an
// upgrade.
func (in *installation) upgrade(ctx context.Context, changes []change, gone []string) error {
	if !in.live() {
		return in.change(changes, gone)
	}
	units, err := in.units(changes, gone)
	if err != nil {
		return err
	}
	u := upgrade{}
	upgrades := false
	for _, one := range units {
		u.Units = append(u.Units, one.name)
		upgrades = upgrades || !one.fresh
	}
	for _, path := range gone {
		u.Paths = append(u.Paths, replaced{Path: path})
	}
	for _, c := range changes {
		if !c.config { // which is the user's from now on
			u.Paths = append(u.Paths, replaced{Path: c.path})
		}
	}
	undoable := upgrades && len(u.Paths) > 0
	if undoable {
		if err := in.save(u); err != nil {
			return err
		}
	}
	err = in.change(changes, gone)
	if err == nil {
		err = in.follow(ctx, units)
	}
	switch {
	case err == nil && undoable:
		return in.forget(u, in.undoFile())
	case err == nil || !undoable:
		return err
	}
	return in.goBack(ctx, u, units, err)
}

// goBack undoes an upgrade that failed, and has the old version run on.
func (in *installation) goBack(ctx context.Context, u upgrade, units []unit, why error) error {
	if err := in.undo(u, in.undoFile()); err != nil {
		return errors.Join(why, err)
	}
	in.reload = true
	if err := in.follow(ctx, slices.DeleteFunc(units, func(one unit) bool { return one.fresh })); err != nil {
		return errors.Join(why, fmt.Errorf("the old version is in place again, and does not run: %w", err))
	}
	return hint.Wrap(fmt.Errorf("%w; the old version is in place again", why), "%s", hint.Of(why))
}

// units are those of the component and, of others, those that a changed file is for.
func (in *installation) units(changes []change, gone []string) ([]unit, error) {
	changed := make(map[string]bool)
	for _, path := range gone {
		changed[path] = true
	}
	for _, c := range changes {
		changed[c.path] = true
	}
	var files []string
	for _, f := range in.pkg.Files {
		files = append(files, f.Path)
	}
	var all []unit
	records, err := matching(in.state, "*.json")
	if err != nil {
		return nil, err
	}
	for _, path := range records {
		r, err := readRecord(path)
		if err != nil {
			return nil, err
		}
		if r.Name == in.pkg.Name {
			in.enabled = r.Units
			continue
		}
		if slices.ContainsFunc(r.paths(), func(p string) bool { return changed[p] }) {
			for _, name := range r.Units {
				all = append(all, unit{name: name, files: r.paths()})
			}
		}
	}
	for _, name := range in.pkg.Units {
		all = append(all, unit{name, files, true, !slices.Contains(in.enabled, name)})
	}
	return all, nil
}

// recorded is what is read of a component's record.
type recorded struct {
	Name  string
	Files []struct{ Path string }
	Units []string
}

func (r recorded) paths() (paths []string) {
	for _, f := range r.Files {
		paths = append(paths, f.Path)
	}
	return paths
}

func readRecord(path string) (r recorded, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read %q: %w", path, err)
	}
	return r, nil
}

// follow has units run what is installed now. Those that an administrator has
// disabled are left alone, but for one that runs.
func (in *installation) follow(ctx context.Context, units []unit) error {
	if in.reload {
		if err := systemctl(ctx, "daemon-reload"); err != nil {
			return err
		}
	}
	in.ready = nil
	for _, one := range units {
		if one.fresh {
			if err := systemctl(ctx, "enable", one.name); err != nil {
				return err
			}
		}
		if err := in.start(ctx, one); err != nil {
			return fmt.Errorf("start %s: %w", one.name, err)
		}
		if one.own && !slices.Contains(in.enabled, one.name) {
			in.enabled = append(in.enabled, one.name)
		}
		if one.own && systemctl(ctx, "is-active", "--quiet", one.name) == nil {
			in.ready = append(in.ready, one.name)
		}
	}
	return nil
}

// start starts a unit, or starts it again when it runs with other files. systemctl
// returns when the unit is ready, or is not going to be.
func (in *installation) start(ctx context.Context, one unit) error {
	now, err := in.stamp(one.files)
	if err != nil {
		return err
	}
	enabled := systemctl(ctx, "is-enabled", "--quiet", one.name) == nil
	was, err := os.ReadFile(in.startedFile(one.name))
	verb := "start"
	switch same := err == nil && string(was) == now; {
	case same && !enabled:
		return nil
	case !same && enabled:
		verb = "restart"
	case !same:
		verb = "try-restart"
	}
	waiting, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("not ready after %s", readyTime))
	defer cancel()
	if err := systemctl(waiting, verb, one.name); err != nil {
		return in.why(ctx, one.name, err)
	}
	return keep(in.startedFile(one.name), []byte(now))
}

// maxLogLine is how much of a line of a unit's log is told.
const maxLogLine = 250

// why is the reason for which a unit does not start, in its own last words.
func (in *installation) why(ctx context.Context, name string, err error) error {
	show, _ := run.Cmd{Path: "systemctl", Args: []string{"show", "--property=Result", "--value", name}}.Output(ctx)
	log, _ := run.Cmd{Path: "journalctl", Args: []string{"_SYSTEMD_UNIT=" + name, "--lines", "3", "--output", "cat", "--no-pager", "--quiet"}}.Output(ctx)
	var b strings.Builder
	fmt.Fprintf(&b, "it does not become ready (%s)", strings.TrimSpace(string(show)))
	for i, line := range strings.Split(strings.TrimSpace(string(log)), "\n") {
		if i == 0 && line != "" {
			b.WriteString("; its log ends: ")
		} else if line != "" {
			b.WriteString(" | ")
		}
		b.WriteString(line[:min(maxLogLine, len(line))])
	}
	var failed *run.Error
	if !errors.As(err, &failed) || failed.Code < 0 {
		return fmt.Errorf("%s: %w", b.String(), err)
	}
	return hint.Wrap(errors.New(b.String()), "journalctl -u %s", name)
}

// startedFile has the stamp of the files with which a unit was started last.
func (in *installation) startedFile(name string) string {
	return filepath.Join(in.state, name+".started")
}

// stamp tells files from others in their places: installing one replaces it.
func (in *installation) stamp(files []string) (string, error) {
	var b strings.Builder
	for _, path := range slices.Sorted(slices.Values(files)) {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(in.Dest, path), &st); err != nil {
			return "", fmt.Errorf("look at %q: %w", path, err)
		}
		fmt.Fprintf(&b, "%s %d %d %d.%09d\n", path, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec)
	}
	return b.String(), nil
}

func systemctl(ctx context.Context, args ...string) error {
	return run.Cmd{Path: "systemctl", Args: append([]string{"--no-pager"}, args...)}.Run(ctx)
}

// checkNeeds refuses to install where something is missing, and says of the rest what
// it would be good for.
func (in *installation) checkNeeds() error {
	if in.Dest != "" {
		return nil
	}
	var missing, wanted []string
	for _, n := range in.pkg.Needs {
		if _, err := os.Stat(n.Path); err == nil {
			continue
		}
		if n.Optional {
			wanted = append(wanted, n.Package)
		} else {
			missing = append(missing, n.Package)
		}
	}
	if len(missing) > 0 {
		return hint.Wrap(fmt.Errorf("this machine lacks %s", strings.Join(missing, ", ")), "sudo apt-get install --yes %s, and then this again", strings.Join(missing, " "))
	}
	if len(wanted) > 0 && in.Warn != nil {
		in.Warn(fmt.Sprintf("there is no %s, without which not all of it works; if this distribution has it: sudo apt-get install --yes %s", strings.Join(wanted, ", "), strings.Join(wanted, " ")))
	}
	return nil
}
