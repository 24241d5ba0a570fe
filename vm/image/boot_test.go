package image_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/vm/image"
)

const ovmf = "/usr/share/OVMF/OVMF_CODE_4M.fd"

// TestBuiltImageBoots starts the built image under QEMU's own emulation, with
// and without firmware, and logs in with nothing but what the host handed in
// and what the guest announced. Three boots take about a minute and a half of an
// idle machine with two processors: run it with -timeout 20m on a busy one.
func TestBuiltImageBoots(t *testing.T) {
	if testing.Short() {
		t.Skip("boots guests: minutes")
	}
	need.Programs(t, "qemu-system-x86_64", "qemu-img", "mmdebstrap", "mformat", "sfdisk", ovmf)
	for _, c := range []struct {
		suite, name string
		boot        func(image.Image) []string
	}{
		{"trixie", "uefi", func(image.Image) []string {
			return []string{"-drive", "if=pflash,format=raw,readonly=on,file=" + ovmf}
		}},
		{"trixie", "kernel", kernel},
		{"bookworm", "kernel", kernel}, // an older kernel, with other modules, and an older systemd
	} {
		t.Run(c.suite+" "+c.name, func(t *testing.T) {
			img := builtImage(t, c.suite)
			start := time.Now()
			g := startGuest(t, img, c.boot(img))
			keys := g.announced(t)
			t.Logf("announced %d keys after %v", len(keys), time.Since(start).Round(100*time.Millisecond))
			client := g.dial(t, keys)
			t.Logf("SSH after %v, %.1f s of processor time", time.Since(start).Round(100*time.Millisecond), cpuSeconds(t, g.pid))
			checkGuest(t, client, c.suite)
			g.crash(t, client)
		})
	}
}

func kernel(img image.Image) []string {
	return []string{"-kernel", img.Kernel, "-initrd", img.Initrd, "-append", img.Cmdline}
}

func checkGuest(t *testing.T, client *ssh.Client, suite string) {
	t.Helper()
	type check struct{ cmd, want string }
	early, late := []check{}, []check{}
	if suite == "trixie" { // as the distribution has it there
		early = []check{{"stat -c %T:%m /tmp; mountpoint -q /tmp && touch /tmp/early && echo mounted", "0:/tmp\nmounted"}}
		late = []check{
			{"ls /tmp/early", "/tmp/early"},
			{"cat /sys/kernel/security/lsm", "lockdown,capability,landlock,yama,apparmor,ima,evm"},
		}
	}
	for _, c := range slices.Concat(early, []check{
		// What a login needs is there when it is let in.
		{"hostname", "ovsa-runtime"},
		{"id -un; id -nG", "ovsa\novsa tss"},
		{"sudo -n id -u", "0"},
		{"systemctl is-system-running --wait", "running"},
		// All else, once the guest has started: as if nothing had been put off.
		{"systemctl --failed --no-legend --plain", ""},
		{"cat /etc/hostname 2>/dev/null; getent hosts $(hostname) >/dev/null && echo resolves", "resolves"},
		{"resolvectl status | head -1", "Global"},
		{"test $(df --output=size -m / | tail -1) -gt 5500 && echo grown", "grown"},
		{"test ! -e /var/lib/ovsactl/growing && echo finished", "finished"},
		// A guest that died between the partition's growth and the file system's.
		{"sudo -n touch /var/lib/ovsactl/growing && sudo -n /usr/local/lib/ovsactl/ovsactl-grow 2>&1 | cut -d' ' -f1,2; test ! -e /var/lib/ovsactl/growing && echo finished",
			"Successfully resized\nfinished"},
		{"sudo -n passwd -S ovsa | cut -d' ' -f2; sudo -n passwd -S root | cut -d' ' -f2", "L\nL"},
		{"ls /etc/ssh/ssh_host_*_key", "/etc/ssh/ssh_host_ed25519_key"},
		{"test -s /etc/machine-id && echo set", "set"},
		{"cat /proc/swaps | wc -l", "1"},
		{"findmnt -rno FSTYPE,OPTIONS /", "ext4 rw,relatime,discard"},
		{"stat -c %n:%a:%U:%G /dev/fuse /dev/loop-control /dev/net/tun",
			"/dev/fuse:666:root:root\n/dev/loop-control:660:root:disk\n/dev/net/tun:666:root:root"},
		{"sudo -n journalctl -b -u ssh.service | grep -c 'Server listening on 0.0.0.0'", "1"},
		{"sudo -n journalctl -b -k | grep -c 'Linux version'", "1"},
		{"test -d /var/log/journal/$(cat /etc/machine-id) && echo kept", "kept"},
		{"loginctl list-seats --no-legend | awk '{print $1}'", "seat0"}, // the power button is its business
	}, late) {
		if got := ask(t, client, c.cmd); got != c.want {
			t.Errorf("%s: %q, want %q", c.cmd, got, c.want)
		}
	}
	if got, err := strconv.ParseInt(ask(t, client, "date +%s"), 10, 64); err != nil || time.Since(time.Unix(got, 0)).Abs() > 5*time.Second {
		t.Errorf("the guest's time is %v, %v", time.Unix(got, 0), err)
	}
	t.Log(ask(t, client, "systemd-analyze; systemd-analyze blame | head -8; df -m / | tail -1"))
}

// crash: of a kernel that dies, the serial log says why. The console is quiet only
// while all is well.
func (g *guest) crash(t *testing.T, client *ssh.Client) {
	t.Helper()
	if log, _ := os.ReadFile(g.file("serial.log")); strings.Contains(string(log), "Linux version") {
		t.Error("the kernel told the console of a boot that went well")
	}
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if err := session.Start("echo c | sudo -n tee /proc/sysrq-trigger"); err != nil { // nobody is left to answer
		t.Fatal(err)
	}
	retry(t, g.ctx, func() (bool, error) {
		log, err := os.ReadFile(g.file("serial.log"))
		if err == nil && !strings.Contains(string(log), "Kernel panic - not syncing: sysrq triggered crash") {
			err = errors.New("no panic in the serial log")
		}
		return true, err
	})
}

// builtImage returns the image that tests share, from the cache in
// OVSACTL_TEST_CACHE where it is set.
func builtImage(t *testing.T, suite string) image.Image {
	t.Helper()
	dir := os.Getenv("OVSACTL_TEST_CACHE")
	if dir == "" {
		dir = t.TempDir()
	}
	cache, err := image.Open(dir, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	img, err := cache.Ensure(t.Context(), image.Source{
		Name: "debian", Build: &image.Build{Suite: suite, Size: 4 << 30},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

type guest struct {
	dir    string
	signer ssh.Signer
	port   int
	pid    int
	ctx    context.Context
}

// startGuest runs a guest with 1 GiB, a 6 GiB overlay over img and what the
// vm package would give it: credentials and the announcement's port.
func startGuest(t *testing.T, img image.Image, boot []string) *guest {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{dir: t.TempDir(), signer: signer, port: freePort(t), ctx: ctx}
	disk := filepath.Join(g.dir, "disk.qcow2")
	if err := (run.Cmd{Path: "qemu-img", Args: []string{
		"create", "-q", "-f", "qcow2", "-F", img.Format, "-b", img.Path, disk, "6G",
	}}).Run(ctx); err != nil {
		t.Fatal(err)
	}
	args := slices.Concat([]string{
		"-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1024", "-display", "none", "-no-reboot",
		"-serial", "file:" + g.file("serial.log"),
		"-drive", "if=virtio,format=qcow2,file=" + disk,
		"-nic", fmt.Sprintf("user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:%d-:22", g.port),
		"-device", "virtio-rng-pci",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=announce,server=on,wait=off,path=" + g.file("announce"),
		"-device", "virtserialport,chardev=announce,name=org.ovsactl.0",
		"-smbios", credential("system.hostname", "ovsa-runtime"),
		"-smbios", credential("ovsactl.authorized_keys", string(ssh.MarshalAuthorizedKey(signer.PublicKey()))),
	}, boot)
	p, err := run.Cmd{Path: "qemu-system-x86_64", Args: args}.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	g.pid = p.PID()
	t.Cleanup(func() {
		cancel()
		p.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(g.file("serial.log"))
			t.Logf("end of the serial log:\n%s", log[max(0, len(log)-6000):])
		}
	})
	return g
}

func (g *guest) file(name string) string { return filepath.Join(g.dir, name) }

func credential(name, value string) string {
	return fmt.Sprintf("type=11,value=io.systemd.credential.binary:%s=%s", name, base64.StdEncoding.EncodeToString([]byte(value)))
}

// announced reads one whole announcement.
func (g *guest) announced(t *testing.T) []ssh.PublicKey {
	t.Helper()
	conn := retry(t, g.ctx, func() (net.Conn, error) { return net.Dial("unix", g.file("announce")) })
	defer conn.Close()
	defer context.AfterFunc(g.ctx, func() { conn.Close() })()
	var keys []ssh.PublicKey
	begun := false
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "ovsactl-announce 1":
			begun, keys = true, nil
		case line == "end" && begun:
			return keys
		case begun:
			key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(strings.TrimPrefix(line, "hostkey ")))
			if err != nil {
				t.Fatalf("announced %q: %v", line, err)
			}
			keys = append(keys, key)
		}
	}
	t.Fatal("no announcement arrived")
	return nil
}

func (g *guest) dial(t *testing.T, keys []ssh.PublicKey) *ssh.Client {
	t.Helper()
	if len(keys) != 1 {
		t.Fatalf("%d host keys announced, want one", len(keys))
	}
	client := retry(t, g.ctx, func() (*ssh.Client, error) {
		return ssh.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(g.port)), &ssh.ClientConfig{
			User: "ovsa", Auth: []ssh.AuthMethod{ssh.PublicKeys(g.signer)},
			HostKeyCallback: ssh.FixedHostKey(keys[0]), HostKeyAlgorithms: []string{keys[0].Type()},
			Timeout: 10 * time.Second,
		})
	})
	t.Cleanup(func() { client.Close() })
	return client
}

func retry[T any](t *testing.T, ctx context.Context, try func() (T, error)) T {
	t.Helper()
	for {
		v, err := try()
		if err == nil {
			return v
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%v: %v", context.Cause(ctx), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func ask(t *testing.T, client *ssh.Client, cmd string) string {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	out, err := session.CombinedOutput(cmd)
	if err != nil {
		t.Logf("%s: %v", cmd, err)
	}
	return strings.TrimSpace(string(out))
}

// cpuSeconds is what the process has used: on a busy machine it says more than
// the clock does.
func cpuSeconds(t *testing.T, pid int) float64 {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks float64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
