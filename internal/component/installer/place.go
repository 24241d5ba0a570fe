package installer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/internal/run"
)

// findUsers finds User and those of the package, and makes those that there are not:
// without a password.
func (in *installation) findUsers(ctx context.Context) error {
	if in.Dest != "" {
		return nil
	}
	for _, name := range in.pkg.Users {
		if _, err := findUser(ctx, name, "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"); err != nil {
			return err
		}
	}
	u, err := findUser(ctx, string(User), "--create-home", "--shell", "/bin/bash")
	if err != nil {
		return err
	}
	in.uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	in.gid, err = strconv.Atoi(u.Gid)
	return err
}

func findUser(ctx context.Context, name string, options ...string) (*user.User, error) {
	u, err := user.Lookup(name)
	if errors.As(err, new(user.UnknownUserError)) {
		err = run.Cmd{Path: "useradd", Args: append(options, name)}.Run(ctx)
		if err == nil {
			u, err = user.Lookup(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("find the user %q: %w", name, err)
	}
	return u, nil
}

func (in *installation) ids(o Owner) (uid, gid int) {
	switch o {
	case User:
		return in.uid, in.gid
	case RootUser:
		return 0, in.gid
	}
	return 0, 0
}

// dir makes a directory, or brings it to its mode and owner. What a killed run
// left in it is removed.
func (in *installation) dir(d Dir) error {
	path := filepath.Join(in.Dest, d.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	// Through a link it would be somebody else's directory that changes.
	f, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if in.Dest == "" {
		uid, gid := in.ids(d.Owner)
		if err := f.Chown(uid, gid); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(int(f.Fd()), d.Mode); err != nil {
		return err
	}
	return errors.Join(in.clean(path, newPrefix+"*"), in.clean(path, oldPrefix+"*"))
}

// newPrefix starts the names of files that are not in their place yet.
const newPrefix = ".ovsa-new."

// clean removes what a killed run left in dir. In a directory of User's that may
// be anything, which is no reason to fail.
func (in *installation) clean(dir, pattern string) error {
	left, err := matching(dir, pattern)
	for _, path := range left {
		os.Remove(path)
	}
	return err
}

// matching returns the paths in dir of what has a name like pattern.
func matching(dir, pattern string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if ok, err := filepath.Match(pattern, e.Name()); err != nil {
			return nil, err
		} else if ok {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths, nil
}

// change is a file that is complete at from and goes to to, on the same file
// system.
type change struct {
	from, to string
	path     string // as the manifest has it
	config   bool
}

// stage finds the files that differ and puts each where it can be renamed from.
func (in *installation) stage() ([]change, error) {
	var all []change
	add := func(f File, config bool) error {
		c := change{from: filepath.Join(in.Package, "root", f.Path), to: filepath.Join(in.Dest, f.Path), path: f.Path, config: config}
		same, exists, err := in.same(f, c.to)
		if err != nil || same || config && exists {
			return err
		}
		in.changes(f.Path, exists)
		if config || !in.movable(f, c) {
			c.from, err = in.copy(f, filepath.Dir(c.to), config)
		}
		all = append(all, c)
		return err
	}
	for i, f := range in.pkg.all() {
		err := add(f, i >= len(in.pkg.Files))
		if err != nil {
			return nil, fmt.Errorf("install %q: %w", f.Path, err)
		}
	}
	return all, nil
}

// same tells whether path is already what the package has for it.
func (in *installation) same(f File, path string) (same, exists bool, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); errors.Is(err, unix.ENOENT) {
		return false, false, nil
	} else if err != nil {
		return false, false, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false, true, errors.New("it is a directory")
	}
	if !in.right(&st, f.Mode) {
		return false, true, nil
	}
	was, err := os.Open(path)
	if err != nil {
		return false, true, err
	}
	defer was.Close()
	source, err := in.pkg.root.Open(content(f))
	if err != nil {
		return false, true, err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil || info.Size() != st.Size {
		return false, true, err
	}
	same, err = sameContent(was, source)
	return same, true, err
}

// right tells whether a file has a mode, and is root's where owners matter.
func (in *installation) right(st *unix.Stat_t, mode uint32) bool {
	return st.Mode == unix.S_IFREG|mode && (in.Dest != "" || st.Uid == 0 && st.Gid == 0)
}

func sameContent(a, b io.Reader) (bool, error) {
	one, two := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, one)
		m, err2 := io.ReadFull(b, two)
		if !bytes.Equal(one[:n], two[:m]) {
			return false, nil
		}
		if err == nil && err2 == nil {
			continue
		}
		for _, e := range []error{err, err2} {
			if e != nil && !errors.Is(e, io.EOF) && !errors.Is(e, io.ErrUnexpectedEOF) {
				return false, e
			}
		}
		return true, nil
	}
}

// movable tells whether a file can go to its place as it is. One that is somebody
// else's cannot: they may have it open.
func (in *installation) movable(f File, c change) bool {
	var source, target unix.Stat_t
	return in.Consume && unix.Lstat(c.from, &source) == nil && unix.Stat(filepath.Dir(c.to), &target) == nil &&
		source.Dev == target.Dev && in.right(&source, f.Mode)
}

// copy makes a file's copy in dir, which is User's when it is one to edit.
func (in *installation) copy(f File, dir string, users bool) (string, error) {
	source, err := in.pkg.root.Open(content(f))
	if err != nil {
		return "", err
	}
	defer source.Close()
	out, err := os.CreateTemp(dir, newPrefix+"*")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, source)
	if err == nil && in.Dest == "" {
		owner := Root
		if users {
			owner = User
		}
		err = out.Chown(in.ids(owner))
	}
	if err == nil {
		err = unix.Fchmod(int(out.Fd()), f.Mode)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		os.Remove(out.Name())
	}
	return out.Name(), err
}

// place puts files in their places: all that changes is on the disk before the
// first of them does.
func (in *installation) place(changes []change) error {
	for _, c := range changes {
		if err := syncFile(c.from); err != nil {
			return err
		}
	}
	dirs := make(map[string]bool)
	for _, c := range changes {
		if err := os.Rename(c.from, c.to); err != nil {
			return err
		}
		dirs[filepath.Dir(c.to)] = true
	}
	return syncDirs(dirs)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// record writes what is installed, for people and for programs.
func (in *installation) record() error {
	sum := sha256.Sum256(in.pkg.text)
	type file struct {
		Path   string `json:"path"`
		Mode   string `json:"mode"`
		SHA256 string `json:"sha256"`
	}
	r := struct {
		Format   int      `json:"format"`
		Name     string   `json:"name"`
		Version  string   `json:"version"`
		Package  string   `json:"package_sha256"`
		Manifest string   `json:"manifest_sha256"`
		Files    []file   `json:"files"`
		Units    []string `json:"units,omitempty"` // that were enabled once
	}{1, in.pkg.Name, in.pkg.Version, in.Digest, hex.EncodeToString(sum[:]), nil, in.enabled}
	for _, f := range in.pkg.Files {
		r.Files = append(r.Files, file{f.Path, fmt.Sprintf("%04o", f.Mode), hex.EncodeToString(f.Sum[:])})
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return keep(filepath.Join(in.state, in.pkg.Name+".json"), append(text, '\n'))
}
