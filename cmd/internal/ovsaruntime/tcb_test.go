package ovsaruntime

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/ovsatool"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// runtimeGuest is a guest that its host vouches for, with an ISV's key store.
type runtimeGuest struct {
	t        *testing.T
	dir, tpm string
	host     *vtpmtest.Host
	uuid     string
	port     guest.Port // to the host
}

func (g runtimeGuest) path(name string) string { return filepath.Join(g.dir, name) }

// run runs a program; words that begin with @ are files of the guest's directory.
func (g runtimeGuest) run(p guestcli.Program, args ...string) (code int, stderr string) {
	g.t.Helper()
	for i, a := range args {
		if name, ok := strings.CutPrefix(a, "@"); ok {
			args[i] = g.path(name)
		}
	}
	var stdout, errs bytes.Buffer
	code = p.Run(g.t.Context(), guestcli.Env{
		Args: args, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &errs,
		Getenv: func(name string) string {
			return map[string]string{"OVSA_TPM": g.tpm, "OVSA_TRUST": g.path("trust")}[name]
		},
	})
	return code, errs.String()
}

// isv runs ovsatool.
func (g runtimeGuest) isv(args ...string) {
	g.t.Helper()
	if code, stderr := g.run(ovsatool.Program(keystore.Machine()), args...); code != 0 {
		g.t.Fatalf("%q: exit %d\n%s", args, code, stderr)
	}
}

func newRuntimeGuest(t *testing.T) runtimeGuest {
	t.Helper()
	host := vtpmtest.New(t)
	id := vtpm.Identity{UUID: "6f1c2d7e-0d0c-5c5e-9a53-0a8f3b0c7a11", Name: "ovsa_runtime"}
	h := host.Open(t)
	if err := h.Manufacture(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := h.Bind(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	tpm, _ := host.StartGuest(t, id.UUID)
	g := runtimeGuest{t: t, dir: t.TempDir(), tpm: tpm, host: host, uuid: id.UUID, port: host.Attest(t, id.UUID)}
	g.isv("keygen", "-storekey", "-t", "ECDSA", "-n", "ISV", "-k", "@isv", "-r", "@isv.csr", "-e", "/C=IN/CN=isv", "-insecure-software-keystore")
	g.isv("trust", "add", "@primary_isv.csr.crt", "@secondary_isv.csr.crt")
	g.isv("keygen", "-storecert", "-c", "@primary_isv.csr.crt", "-k", "@isv")
	g.isv("keygen", "-storecert", "-c", "@secondary_isv.csr.crt", "-k", "@isv")
	return g
}

// gen runs gen-tcb-signature as a guest does that trusts the host TPM's maker.
func (g runtimeGuest) gen(out string, args ...string) (code int, stderr string) {
	g.t.Helper()
	all := append([]string{"gen-tcb-signature", "-n", "Face Detect @ Runtime VM", "-v", "1.0", "-f", g.path(out), "-k", g.path("isv"),
		"-ak-trust", g.path("ak-trust")}, args...)
	if !slices.Contains(args, "-tpm-trust") {
		all = append(all, "-tpm-trust", filepath.Join(g.host.DataDir, "vtpm", "trust"))
	}
	if !slices.Contains(args, "-host-port") {
		all = append(all, "-host-port", string(g.port))
	}
	return g.run(Program(keystore.Machine()), all...)
}

func (g runtimeGuest) tcb(name string) licensing.TCB {
	g.t.Helper()
	file, err := os.ReadFile(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	signed, err := licensing.Verify[licensing.TCB](file)
	if err != nil {
		g.t.Fatal(err)
	}
	return signed.Document
}

// quote is the guest's answer to a nonce, in a file.
func (g runtimeGuest) quote(name string, nonce []byte) {
	g.t.Helper()
	e, err := guest.Quote(g.t.Context(), g.tpm, nonce, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	text, err := e.Marshal()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(g.path(name), append(text, '\n'), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// The guide's command records what the guest and its host quote, and another
// guest's answer gives the same.
func TestGenTCB(t *testing.T) {
	g := newRuntimeGuest(t)
	code, stderr := g.gen("all.tcb", "-s", "0xffffff", "-h", "0xffffff", "-allow-unenrolled")
	if code != 0 || !strings.Contains(stderr, "warning: ") {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	all := g.tcb("all.tcb")
	if got := all.Guest.Mask.PCRs(); !slices.Equal(got, []int{0, 1, 2, 3, 4, 6, 7, 9, 11}) {
		t.Errorf("the guest's PCRs %v", got)
	}
	if got := all.Host.Mask.PCRs(); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5, 6, 7}) {
		t.Errorf("the host's PCRs %v", got)
	}
	nonce := bytes.Repeat([]byte{7}, 32)
	g.quote("quote.json", nonce)
	code, stderr = g.gen("some.tcb", "-s0x81", "-h", "0x80", "-guest-quote", g.path("quote.json"), "-nonce", hex.EncodeToString(nonce), "-allow-unenrolled", "-tpm", "unix:/none")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	some := g.tcb("some.tcb")
	if !slices.Equal(some.Guest.Mask.PCRs(), []int{0, 7}) || !slices.Equal(some.Host.Mask.PCRs(), []int{7}) {
		t.Errorf("masks %s and %s", some.Guest.Mask, some.Host.Mask)
	}
	if err := some.Match(all.Guest.PCRs, all.Host.PCRs); err != nil {
		t.Error(err)
	}
	record := filepath.Join(g.host.DataDir, "vtpm", g.uuid, "record.json")
	if code, stderr := g.gen("record.tcb", "-from-record", record, "-allow-unenrolled"); code != 0 {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// The host's state is that of now, and without its word that of the guest's start.
func TestTCBOfTheHostNow(t *testing.T) {
	g := newRuntimeGuest(t)
	host, err := guest.Open(t.Context(), g.host.TPM)
	if err != nil {
		t.Fatal(err)
	}
	vtpmtest.Extend(t, host, 2)
	host.Close()
	for name, port := range map[string]string{"now": string(g.port), "start": "none"} {
		if code, stderr := g.gen(name+".tcb", "-allow-unenrolled", "-host-port", port); code != 0 {
			t.Fatalf("%s: exit %d: %s", name, code, stderr)
		}
	}
	now, start := g.tcb("now.tcb").Host, g.tcb("start.tcb").Host
	if err := now.Match(start.PCRs); err == nil || err.Error() != "PCRs 2 differ" {
		t.Errorf("the host that has changed since: %v", err)
	}
	code, stderr := g.gen("x.tcb", "-allow-unenrolled", "-host-port", "unix:/none")
	if code == 0 || !strings.Contains(stderr, "no port to the host") || !strings.Contains(stderr, "-host-port none") {
		t.Errorf("no port: exit %d: %s", code, stderr)
	}
}

// What does not verify is not recorded.
func TestGenTCBRefuses(t *testing.T) {
	g := newRuntimeGuest(t)
	nonce := bytes.Repeat([]byte{7}, 32)
	good := hex.EncodeToString(nonce)
	g.quote("quote.json", nonce)
	text, err := os.ReadFile(filepath.Join(g.host.DataDir, "vtpm", g.uuid, "record.json"))
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(text, []byte(`"digest":"`)) + len(`"digest":"`)
	text[i] ^= 1
	if err := os.WriteFile(g.path("record.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"a host that is not enrolled":       {nil, "ovsactl host enroll"},
		"a maker that nobody knows":         {[]string{"-allow-unenrolled", "-tpm-trust", g.path("none")}, "does not verify"},
		"another nonce":                     {[]string{"-allow-unenrolled", "-guest-quote", g.path("quote.json"), "-nonce", strings.Repeat("08", 32)}, "another nonce"},
		"a quote without its nonce":         {[]string{"-allow-unenrolled", "-guest-quote", g.path("quote.json")}, "belong together"},
		"a nonce that is none":              {[]string{"-allow-unenrolled", "-guest-quote", g.path("quote.json"), "-nonce", "xx"}, "bytes in hex"},
		"a record that was changed":         {[]string{"-allow-unenrolled", "-from-record", g.path("record.json")}, "does not verify"},
		"a quote for a record":              {[]string{"-allow-unenrolled", "-from-record", g.path("quote.json")}, "does not verify"},
		"a register that is not quoted":     {[]string{"-allow-unenrolled", "-s", "0x100"}, "PCR 8"},
		"a mask that is none":               {[]string{"-allow-unenrolled", "-h", "ghi"}, "parse PCR mask"},
		"a mask of no register":             {[]string{"-allow-unenrolled", "-s", "0"}, "selects no register"},
		"no TPM":                            {[]string{"-allow-unenrolled", "-tpm", "unix:/none"}, "quote this guest"},
		"a certificate that is not trusted": {[]string{"-allow-unenrolled", "-guest-quote", g.path("quote.json"), "-nonce", good, "-trust", g.path("none")}, "trust"},
	} {
		code, stderr := g.gen("x.tcb", tt.args...)
		if code == 0 || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit %d: %s", name, code, stderr)
		}
		if _, err := os.Stat(g.path("x.tcb")); !os.IsNotExist(err) {
			t.Fatalf("%s: a TCB was written", name)
		}
	}
	if code, stderr := g.gen("quote.json", "-allow-unenrolled"); code == 0 || !strings.Contains(stderr, "-force") {
		t.Errorf("a file that is there: exit %d: %s", code, stderr)
	}
}
