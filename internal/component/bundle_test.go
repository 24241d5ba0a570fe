package component_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/templates"
)

// The real script of the guest's side runs here, with tar(1) and zstd(1), and
// the real install.sh below a directory of the test's.

// large makes packages whose programs are worth sharing.
func large(t *testing.T) component.Dirs {
	t.Helper()
	source := filepath.Join(t.TempDir(), "program")
	write(t, source, append(staticELF(), bytes.Repeat([]byte("program"), 30_000)...))
	out := t.TempDir()
	if _, err := component.Build(component.BuildOptions{Programs: programs(t, source), Out: out, Version: "1.0"}); err != nil {
		t.Fatal(err)
	}
	return component.Dir(out)
}

func open(t *testing.T, dirs component.Dirs, names ...string) []component.Package {
	t.Helper()
	var all []component.Package
	for _, name := range names {
		pkg, err := dirs.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pkg)
	}
	return all
}

func bundled(t *testing.T, b component.Bundle) []byte {
	t.Helper()
	var out bytes.Buffer
	var told int64
	if err := b.Write(t.Context(), &out, func(n int64) { told = n }); err != nil {
		t.Fatal(err)
	}
	if told != b.Size() {
		t.Errorf("told of %d bytes, it has %d", told, b.Size())
	}
	return out.Bytes()
}

// receive runs the guest's script on a stream, and returns what it says.
func receive(ctx context.Context, work, dest string, stream io.Reader, codec component.Codec, packages []component.Package) (out, errs string, err error) {
	args := []string{"-c", templates.ReceiveScript, "ovsactl-receive", work, string(codec)}
	for _, p := range packages {
		owner := "user's"
		if p.Ours {
			owner = "ours"
		}
		args = append(args, p.Name, p.Dir, p.Digest, "4711", owner)
	}
	var stdout, stderr bytes.Buffer
	err = run.Cmd{Path: "sh", Args: args, Env: []string{"DESTDIR=" + dest}, Stdin: stream, Stdout: &stdout, Stderr: &stderr}.Run(ctx)
	return stdout.String(), stderr.String(), err
}

func TestReceivedComponentsAreInstalled(t *testing.T) {
	packages := open(t, large(t), "developer", "license_server", "model_hosting")
	byHand := t.TempDir()
	for _, p := range packages {
		install(t, unpack(t, filepath.Dir(p.Path), p.Name), byHand)
	}
	want := tree(t, filepath.Join(byHand, "opt"))
	for _, codec := range []component.Codec{component.Zstd, component.Gzip} {
		work, dest := filepath.Join(t.TempDir(), "work"), t.TempDir()
		stream := bundled(t, component.Bundle{Packages: packages, Codec: codec})
		for _, again := range []string{"", "again"} { // what is installed already is left alone
			out, errs, err := receive(t.Context(), work, dest, bytes.NewReader(stream), codec, packages)
			if err != nil || out != "received\ninstalled developer\ninstalled license_server\ninstalled model_hosting\n" {
				t.Fatalf("%s %s: %v: %s%s", codec, again, err, out, errs)
			}
			if got := tree(t, filepath.Join(dest, "opt")); !sameButTimes(got, want) {
				t.Errorf("%s %s: installed\n%v\nby hand\n%v", codec, again, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
			if _, err := os.Stat(work); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s %s: left %s: %v", codec, again, work, err)
			}
		}
		if record := string(read(t, filepath.Join(dest, "var/lib/ovsactl/components/developer.json"))); !strings.Contains(record, packages[0].Digest) {
			t.Errorf("%s: recorded %s", codec, record)
		}
	}
}

// TestBundleSharesPrograms: the same program in three packages, twice in two of
// them, goes once.
func TestBundleSharesPrograms(t *testing.T) {
	packages := open(t, large(t), "developer", "license_server", "model_hosting")
	plain, err := zstd.NewReader(bytes.NewReader(bundled(t, component.Bundle{Packages: packages, Codec: component.Zstd})))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	var whole, links []string
	for entries := tar.NewReader(plain); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		switch {
		case h.Typeflag == tar.TypeLink:
			links = append(links, h.Name+" "+path.Base(h.Linkname))
		case h.Size > 64<<10:
			whole = append(whole, h.Name)
		}
	}
	wantWhole := []string{"developer/ovsa-developer/ovsainstall", "developer/ovsa-developer/root/opt/ovsa/kvm/bin/ovsaruntime"}
	wantLinks := []string{
		"developer/ovsa-developer/root/opt/ovsa/kvm/bin/ovsatool ovsaruntime",
		"license_server/ovsa-license-server/ovsainstall ovsainstall",
		"license_server/ovsa-license-server/root/opt/ovsa/bin/license_server ovsaruntime",
		"model_hosting/ovsa-model-hosting/ovsainstall ovsainstall",
		"model_hosting/ovsa-model-hosting/root/opt/ovsa/kvm/bin/ovsaruntime ovsaruntime",
		"model_hosting/ovsa-model-hosting/root/opt/ovsa/kvm/bin/ovsatool ovsaruntime",
	}
	if !slices.Equal(whole, wantWhole) || !slices.Equal(links, wantLinks) {
		t.Errorf("whole: %q; links: %q", whole, links)
	}
}

// TestUsersFilesAreNotShared: what one does to a file of his must not change ours.
// pieces counts what is written at once.
type pieces struct{ writes, bytes int }

func (p *pieces) Write(b []byte) (int, error) {
	p.writes++
	p.bytes += len(b)
	return len(b), nil
}

func TestBundleComesInLargePieces(t *testing.T) {
	source := filepath.Join(t.TempDir(), "program")
	noise := make([]byte, 1<<20) // it cannot be compressed
	rand.NewChaCha8([32]byte{}).Read(noise)
	write(t, source, append(staticELF(), noise...))
	out := t.TempDir()
	if _, err := component.Build(component.BuildOptions{Programs: programs(t, source), Out: out, Version: "1.0"}); err != nil {
		t.Fatal(err)
	}
	for _, codec := range []component.Codec{component.Gzip, component.Zstd} {
		var p pieces
		b := component.Bundle{Packages: open(t, component.Dir(out), "developer"), Codec: codec}
		if err := b.Write(t.Context(), &p, nil); err != nil {
			t.Fatal(err)
		}
		if p.bytes < 1<<20 || p.writes > p.bytes/(16<<10) {
			t.Errorf("%s: %d bytes in %d writes", codec, p.bytes, p.writes)
		}
	}
}

func TestUsersFilesAreNotShared(t *testing.T) {
	ours := open(t, large(t), "developer")
	mine, err := component.File("mine", ours[0].Path)
	if err != nil || mine.Ours {
		t.Fatalf("%+v, %v", mine, err)
	}
	stream := bundled(t, component.Bundle{Packages: append(ours, mine), Codec: component.Gzip})
	dir := t.TempDir()
	if err := (run.Cmd{Path: "tar", Args: []string{"-xz", "-C", dir}, Stdin: bytes.NewReader(stream)}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := filepath.Join(dir, "developer/ovsa-developer/root/opt/ovsa/kvm/bin/ovsatool")
	b := filepath.Join(dir, "mine/ovsa-developer/root/opt/ovsa/kvm/bin/ovsatool")
	one, errOne := os.Stat(a)
	two, errTwo := os.Stat(b)
	if err := errors.Join(errOne, errTwo); err != nil || os.SameFile(one, two) {
		t.Errorf("the same file: %v", err)
	}
}

// TestCutStreamsInstallNothing: a connection may be lost between any two bytes,
// and so between two entries, too.
func TestCutStreamsInstallNothing(t *testing.T) {
	packages := open(t, component.Dir(built(t, "1.0")), "developer")
	whole := bundled(t, component.Bundle{Packages: packages, Codec: component.Gzip})
	cuts := map[string][]byte{"nothing": nil, "a byte short": whole[:len(whole)-1], "half": whole[:len(whole)/2]}
	var withoutEnd bytes.Buffer
	if err := (run.Cmd{Path: "sh", Args: []string{"-c", `
		gzip -d >"$1/bundle.tar" && tar --delete -f "$1/bundle.tar" .complete && gzip -c "$1/bundle.tar"`, "sh", t.TempDir()},
		Stdin: bytes.NewReader(whole), Stdout: &withoutEnd}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	cuts["between two entries"] = withoutEnd.Bytes()
	for name, stream := range cuts {
		work, dest := filepath.Join(t.TempDir(), "work"), t.TempDir()
		out, errs, err := receive(t.Context(), work, dest, bytes.NewReader(stream), component.Gzip, packages)
		if err == nil || out != "" || !strings.Contains(errs, "the components did not arrive") {
			t.Errorf("%s: %v: %s%s", name, err, out, errs)
		}
		if got := tree(t, dest); len(got) > 0 {
			t.Errorf("%s: installed %v", name, got)
		}
		if _, err := os.Stat(work); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: left %s", name, work)
		}
	}
}

func TestReceivedInstallerThatFails(t *testing.T) {
	dir := t.TempDir()
	user := func(name, script string) component.Package {
		source := t.TempDir()
		write(t, filepath.Join(source, "install.sh"), []byte(script))
		path := filepath.Join(dir, name+".tar")
		if err := (run.Cmd{Path: "tar", Args: []string{"-c", "-f", path, "--transform", "s|^|odd dir$(x)/|", "-C", source, "install.sh"}}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		pkg, err := component.File(name, path)
		if err != nil {
			t.Fatal(err)
		}
		return pkg
	}
	packages := []component.Package{
		user("first", `cat; echo chatter; echo "$OVSA_PORT $OVSA_PACKAGE_SHA256" >"$DESTDIR/first"`),
		user("second", `echo "no space left" >&2; exit 3`),
		user("third", `: >"$DESTDIR/third"`),
	}
	dest := t.TempDir()
	stream := bundled(t, component.Bundle{Packages: packages, Codec: component.Zstd})
	out, errs, err := receive(t.Context(), filepath.Join(t.TempDir(), "work"), dest, bytes.NewReader(stream), component.Zstd, packages)
	if err == nil || out != "received\ninstalled first\n" || !strings.Contains(errs, "no space left") {
		t.Errorf("%v: %q %q", err, out, errs)
	}
	if got := string(read(t, filepath.Join(dest, "first"))); got != "4711 "+packages[0].Digest+"\n" {
		t.Errorf("the first was told %q", got)
	}
	if _, err := os.Stat(filepath.Join(dest, "third")); err == nil {
		t.Error("the third was installed after the second failed")
	}
}

// TestBundleRefusesWhatHasChanged: between a plan and its end a tarball can be
// exchanged.
func TestBundleRefusesWhatHasChanged(t *testing.T) {
	script := tar.Header{Name: "pkg/install.sh", Typeflag: tar.TypeReg}
	for name, tt := range map[string]struct {
		entries []tar.Header
		want    string
	}{
		"another":          {[]tar.Header{script, {Name: "pkg/more", Typeflag: tar.TypeReg}}, "has changed since it was read"},
		"one that climbs":  {[]tar.Header{script, {Name: "pkg/../../../etc/cron.d/x", Typeflag: tar.TypeReg}}, "leaves its directory"},
		"one with devices": {[]tar.Header{script, {Name: "pkg/sda", Typeflag: tar.TypeBlock}}, "special file"},
	} {
		path := filepath.Join(t.TempDir(), "mine.tar")
		write(t, path, tarball(t, []tar.Header{script}, false))
		pkg, err := component.File("mine", path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, tarball(t, tt.entries, false))
		var out bytes.Buffer
		err = component.Bundle{Packages: []component.Package{pkg}, Codec: component.Gzip}.Write(t.Context(), &out, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		_, errs, err := receive(t.Context(), filepath.Join(t.TempDir(), "work"), t.TempDir(), &out, component.Gzip, []component.Package{pkg})
		if err == nil || !strings.Contains(errs, "did not arrive") {
			t.Errorf("%s: the guest took it: %v", name, err)
		}
	}
}

func TestBundleStopsWithItsContext(t *testing.T) {
	packages := open(t, large(t), "developer")
	why := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	err := component.Bundle{Packages: packages, Codec: component.Gzip}.Write(ctx, io.Discard, func(int64) { cancel(why) })
	if !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}
