package installer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/lock"
)

// Options says what is installed, and where.
type Options struct {
	Package string // directory of the unpacked package
	Dest    string // install below it, without owners and users; "" is this machine, which takes root
	// Consume says that Package is root's alone, came whole, and is not needed any
	// more: then files are moved out of it, and are not read once more.
	Consume bool
	Digest  string // of the tarball, for the record; "" where nobody knows
	Warn    func(string)
}

// Result is what an installation did.
type Result struct {
	Name, Version string
	Changed       int      // files that were written or removed
	Ready         []string // units of the component that run, and have said that they are ready
}

// lockTimeout is how long another installation may take.
const lockTimeout = 5 * time.Minute

// Install checks the package, brings the machine to what its manifest says, and
// records that. It replaces whole files, and only those that differ; files of
// an older version that this one does not have are removed. Its units are enabled
// when they are new, and started, or started again when a file of theirs has changed;
// an upgrade whose units do not become ready is undone, and the old version runs on.
// Killed at any point, it finishes when it is called again; called again, it changes
// nothing.
func Install(ctx context.Context, o Options) (Result, error) {
	pkg, err := open(o.Package, o.Consume)
	if err != nil {
		return Result{}, err
	}
	defer pkg.Close()
	in := &installation{Options: o, pkg: pkg, state: filepath.Join(o.Dest, "/var/lib/ovsactl/components")}
	if err := os.MkdirAll(in.state, 0o755); err != nil {
		return Result{}, err
	}
	waiting, cancel := context.WithTimeoutCause(ctx, lockTimeout, errors.New("another installation is still running"))
	defer cancel()
	held, err := lock.Wait(waiting, filepath.Join(in.state, ".lock"), fmt.Sprintf("pid %d", os.Getpid()), nil)
	if err != nil {
		return Result{}, err
	}
	defer held.Release()
	if err := in.run(ctx); err != nil {
		return Result{}, err
	}
	return Result{pkg.Name, pkg.Version, in.changed, in.ready}, nil
}

// installation is one, while it holds the lock.
type installation struct {
	Options
	pkg     *unpacked
	state   string // directory of the records
	uid     int    // of User
	gid     int
	changed int
	reload  bool     // systemd has read a unit that has changed
	enabled []string // units that were enabled once, now or before
	ready   []string // units that run
}

func (in *installation) run(ctx context.Context) error {
	if err := in.clean(in.state, ".*.tmp"); err != nil { // see atomicfile
		return err
	}
	if err := in.undoAll(); err != nil {
		return err
	}
	if err := in.checkNeeds(); err != nil {
		return err
	}
	list := filepath.Join(in.state, in.pkg.Name+".files")
	old, err := readLines(list)
	if err != nil {
		return err
	}
	var files []string
	for _, f := range in.pkg.Files {
		files = append(files, f.Path)
	}
	// Until this is over, the files of both versions are on record.
	both := append(slices.Clone(files), old...)
	slices.Sort(both)
	if err := keepLines(list, slices.Compact(both)); err != nil {
		return err
	}
	if err := in.findUsers(ctx); err != nil {
		return err
	}
	for _, d := range in.pkg.Dirs {
		if err := in.dir(d); err != nil {
			return fmt.Errorf("make the directory %q: %w", d.Path, err)
		}
	}
	changes, err := in.stage()
	if err != nil {
		return err
	}
	gone, err := in.obsolete(old, files, list)
	if err != nil {
		return err
	}
	if err := in.upgrade(ctx, changes, gone); err != nil {
		return err
	}
	slices.Sort(files)
	if err := keepLines(list, files); err != nil {
		return err
	}
	return in.record()
}

// change puts the new files in their places, and takes those away that there are no
// more.
func (in *installation) change(changes []change, gone []string) error {
	if err := in.place(changes); err != nil {
		return err
	}
	for _, f := range gone {
		if err := os.Remove(filepath.Join(in.Dest, f)); err != nil {
			return err
		}
		in.changes(f, true)
	}
	return nil
}

// obsolete are the files that an earlier version installed and this one has not,
// unless another component has them.
func (in *installation) obsolete(old, files []string, list string) ([]string, error) {
	lists, err := matching(in.state, "*.files")
	if err != nil {
		return nil, err
	}
	kept := make(map[string]bool)
	for _, f := range files {
		kept[f] = true
	}
	for _, other := range lists {
		if other == list {
			continue
		}
		theirs, err := readLines(other)
		if err != nil {
			return nil, err
		}
		for _, f := range theirs {
			kept[f] = true
		}
	}
	var gone []string
	for _, f := range old {
		if kept[f] || checkPath(f) != nil {
			continue
		}
		if info, err := os.Lstat(filepath.Join(in.Dest, f)); err != nil || info.IsDir() {
			continue
		}
		gone = append(gone, f)
	}
	return gone, nil
}

// changes counts a file that changes. systemd finds a new unit when it is asked
// for it; a unit that has changed it does not.
func (in *installation) changes(path string, existed bool) {
	in.changed++
	in.reload = in.reload || existed && strings.HasSuffix(path, ".service")
}

// readLines returns the lines of a file, none where there is no such file.
func readLines(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return strings.Fields(string(text)), nil // no path of a component has a space
}

func keepLines(path string, lines []string) error {
	return keep(path, []byte(strings.Join(lines, "\n")+"\n"))
}

// keep makes data the content of the file, unless it is already.
func keep(path string, data []byte) error {
	if now, err := os.ReadFile(path); err == nil && string(now) == string(data) {
		return nil
	}
	return atomicfile.WriteFile(path, data, 0o644)
}
