package ovsatool

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// tool runs command lines in one directory, with a TPM.
type tool struct {
	t        *testing.T
	dir, tpm string
}

func (c tool) path(name string) string { return filepath.Join(c.dir, name) }

// run runs ovsatool; words that begin with @ are files of the directory.
func (c tool) run(stdin string, args ...string) (code int, stderr string) {
	c.t.Helper()
	for i, a := range args {
		if name, ok := strings.CutPrefix(a, "@"); ok {
			args[i] = c.path(name)
		}
	}
	var out, errs bytes.Buffer
	code = Program(keystore.Machine()).Run(c.t.Context(), guestcli.Env{
		Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
		Getenv: func(name string) string {
			return map[string]string{"OVSA_TPM": c.tpm, "OVSA_TRUST": c.path("trust")}[name]
		},
	})
	return code, errs.String()
}

func (c tool) must(stdin string, args ...string) string {
	c.t.Helper()
	code, stderr := c.run(stdin, args...)
	if code != 0 {
		c.t.Fatalf("%q: exit %d\n%s", args, code, stderr)
	}
	return stderr
}

// fails runs a command line that must fail with a message, and change no file.
func (c tool) fails(want, stdin string, args ...string) {
	c.t.Helper()
	before := c.files()
	code, stderr := c.run(stdin, args...)
	if code == 0 || !strings.Contains(stderr, want) {
		c.t.Errorf("%q: exit %d, want a failure with %q\n%s", args, code, want, stderr)
	}
	if after := c.files(); after != before {
		c.t.Errorf("%q failed and left %s, before %s", args, after, before)
	}
}

func (c tool) files() string {
	var all strings.Builder
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range entries {
		if data, err := os.ReadFile(c.path(e.Name())); err == nil && !strings.HasSuffix(e.Name(), ".lock") {
			all.WriteString(e.Name() + "=" + string(data) + "\n")
		}
	}
	return all.String()
}

// extend changes a PCR, as an update does: TPM2_PCR_Extend.
func extend(t *testing.T, address string, pcr byte) {
	t.Helper()
	tpm, err := guest.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	cmd := []byte{0x80, 0x02, 0, 0, 0, 0, 0, 0, 0x01, 0x82, 0, 0, 0, pcr, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0b}
	cmd = append(cmd, make([]byte, 32)...)
	binary.BigEndian.PutUint32(cmd[2:], uint32(len(cmd)))
	rsp, err := tpm.Send(cmd)
	if err != nil || len(rsp) < 10 || binary.BigEndian.Uint32(rsp[6:]) != 0 {
		t.Fatalf("extend: %x, %v", rsp, err)
	}
}

var revealed = regexp.MustCompile(`(?m)^    ([0-9a-z]{5}(-[0-9a-z]{5}){5})$`)

// TestKeyStoreInTPM is the key store's life with a real swtpm.
func TestKeyStoreInTPM(t *testing.T) {
	c := tool{t, t.TempDir(), vtpmtest.New(t).TPM}
	stderr := c.must("", "keygen", "-storekey", "-t", "ECDSA", "-n", "Intel", "-k", "@ks", "-r", "@ks.csr", "-e", "/CN=x")
	found := revealed.FindStringSubmatch(stderr)
	if found == nil {
		t.Fatalf("no passphrase in %q", stderr)
	}
	passphrase := found[1]
	if strings.Contains(c.files(), passphrase) {
		t.Error("a file has the passphrase")
	}
	c.must("", "trust", "add", "@primary_ks.csr.crt")
	c.must("", "keygen", "-storecert", "-c", "@primary_ks.csr.crt", "-k", "@ks")
	c.must("", "keygen", "-sign", "-i", "@primary_ks.csr", "-o", "@sig", "-k", "@ks")
	sign := []string{"keygen", "-sign", "-i", "@primary_ks.csr", "-o", "@sig2", "-k", "@ks"}

	extend(t, c.tpm, 7)
	c.fails("PCRs 7", "", sign...)
	c.fails("keygen -reseal", "", sign...)
	c.fails("mistyped", "00000-00000-00000-00000-00000-00001\n", "keygen", "-reseal", "-k", "@ks")
	c.fails("no line", "", "keygen", "-reseal", "-k", "@ks")
	if stderr := c.must(passphrase+"\n", "keygen", "-reseal", "-k", "@ks"); strings.Contains(stderr, passphrase) {
		t.Errorf("the passphrase is repeated: %q", stderr)
	}
	c.must("", sign...)
	c.must("", "keygen", "-verify", "-i", "@primary_ks.csr", "-v", "@sig2", "-k", "@ks")

	var shown bytes.Buffer
	if code := Program(keystore.Machine()).Run(t.Context(), guestcli.Env{Args: []string{"inspect", c.path("ks")}, Stdout: &shown, Stderr: &shown}); code != 0 || !strings.Contains(shown.String(), "PCRs 0, 1, 2, 3, 4, 6, 7, 9, 11") {
		t.Errorf("inspect: exit %d\n%s", code, &shown)
	}

	// Under other registers, without a passphrase while the TPM still opens it.
	c.must("", "keygen", "-reseal", "-k", "@ks", "-pcrs", "0,4")
	extend(t, c.tpm, 7)
	c.must("", "keygen", "-getcert", "-k", "@ks", "-c", "@got.crt")

	// On another machine: a copy of the file is of no use without the passphrase.
	c.tpm = vtpmtest.New(t).TPM
	c.fails("another TPM", "", "keygen", "-sign", "-i", "@primary_ks.csr", "-o", "@sig3", "-k", "@ks")
	c.fails("no TPM at", passphrase, "keygen", "-reseal", "-k", "@ks", "-tpm", "/nowhere/tpm")
	c.must(passphrase, "keygen", "-reseal", "-k", "@ks", "-pcrs", "none")
	extend(t, c.tpm, 0)
	c.must("", "keygen", "-sign", "-i", "@primary_ks.csr", "-o", "@sig3", "-k", "@ks")
}

// TestKeyStoreChangesTakeTurns: of certificates that are stored at the same time,
// none is lost.
func TestKeyStoreChangesTakeTurns(t *testing.T) {
	c := tool{t, t.TempDir(), "/nowhere/tpm"}
	c.must("", "keygen", "-storekey", "-t", "ECDSA", "-n", "Intel", "-k", "@ks", "-r", "@ks.csr", "-e", "/CN=x", "-insecure-software-keystore")
	c.must("", "trust", "add", "@primary_ks.csr.crt", "@secondary_ks.csr.crt")
	var group sync.WaitGroup
	for range 4 {
		for _, cert := range []string{"@primary_ks.csr.crt", "@secondary_ks.csr.crt"} {
			group.Go(func() {
				if code, stderr := c.run("", "keygen", "-storecert", "-c", cert, "-k", "@ks"); code != 0 {
					t.Errorf("exit %d: %s", code, stderr)
				}
			})
		}
	}
	group.Wait()
	c.must("", "keygen", "-getcert", "-k", "@ks", "-c", "@one")
	c.must("", "keygen", "-getcert", "-k", "@ks", "-c", "@two", "-s")
}

func TestWithoutTPM(t *testing.T) {
	c := tool{t, t.TempDir(), "/nowhere/tpm"}
	storekey := func(more ...string) []string {
		return append([]string{"keygen", "-storekey", "-t", "ECDSA", "-n", "Intel", "-k", "@ks", "-r", "@ks.csr", "-e", "/CN=x"}, more...)
	}
	c.fails("-insecure-software-keystore", "", storekey()...)
	c.fails("resettable", "", storekey("-pcrs", "0,16")...)
	c.fails("-pcrs", "", storekey("-pcrs", "7,0")...)
	c.fails("uses no TPM", "", storekey("-insecure-software-keystore", "-pcrs", "0")...)
	if stderr := c.must("", storekey("-insecure-software-keystore")...); !strings.Contains(stderr, "whoever has the file has its keys") {
		t.Errorf("no warning: %q", stderr)
	}
	c.fails("nothing to seal again", "", "keygen", "-reseal", "-k", "@ks")
}
