package licenseserver_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/licenseserver"
	"github.com/ovsactl/ovsactl/cmd/internal/ovsaruntime"
	"github.com/ovsactl/ovsactl/cmd/internal/ovsatool"
	"github.com/ovsactl/ovsactl/cmd/internal/tpmseal"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/client"
	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/licensing/exchange"
	"github.com/ovsactl/ovsactl/licensing/model"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// guide is the guide's two parties in one directory, each with a TPM.
type guide struct {
	t              testing.TB
	dir            string
	host           *vtpmtest.Host
	isv, runtime   string // TPMs of the two guests
	address        string
	stop           context.CancelFunc
	stopped        chan int
	isvVM, guestVM vtpm.Identity
	files          map[string][]byte // of the model
}

func (g *guide) path(name string) string { return filepath.Join(g.dir, name) }

// run runs a program's command line; words that begin with @ are files.
func (g *guide) run(p guestcli.Program, tpm, line string) {
	g.t.Helper()
	args := strings.Fields(strings.ReplaceAll(line, "@", g.dir+"/"))
	var out, errs bytes.Buffer
	code := p.Run(g.t.Context(), guestcli.Env{
		Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Getenv: func(name string) string {
			return map[string]string{"OVSA_TPM": tpm, "OVSA_TRUST": g.path("trust")}[name]
		},
	})
	if code != 0 {
		g.t.Fatalf("%s: exit %d\n%s%s", line, code, &out, &errs)
	}
}

func (g *guide) tool(tpm, line string) {
	g.t.Helper()
	g.run(ovsatool.Program(keystore.Machine()), tpm, line)
}

func (g *guide) server(line string) {
	g.t.Helper()
	g.run(licenseserver.Program(licenseserver.Machine()), "", line)
}

// newGuide has everything that the guide makes before a model is sold.
func newGuide(t testing.TB) *guide {
	t.Helper()
	g := &guide{
		t: t, dir: t.TempDir(), host: vtpmtest.New(t),
		isvVM:   vtpm.Identity{UUID: "0b5e7a52-9f6a-4a63-8c11-0e8f4a6d2b22", Name: "ovsa_isv_dev"},
		guestVM: vtpm.Identity{UUID: "6f1d4c1e-52ab-4b07-9c55-0d6b1f3f0a11", Name: "ovsa_runtime"},
		files:   map[string][]byte{"face.xml": []byte("<net/>"), "face.bin": bytes.Repeat([]byte("weights "), 1<<18)},
	}
	for name, data := range g.files {
		g.write(name, data)
	}
	g.startServer()
	g.enrol()
	g.isv, g.runtime = g.startGuest(g.isvVM), g.startGuest(g.guestVM)
	g.parties()
	g.tool(g.isv, "controlAccess -i @face.xml @face.bin -n face -d face -v 0004 -p @face.dat -m @face.masterlic -k @isv_keystore -g 0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a01")
	g.tcb()
	return g
}

// sold makes a licence on these terms, named after their type.
func (g *guide) sold(terms string) {
	g.t.Helper()
	g.tool(g.isv, "licgen "+terms+" -n config -v 1.0 -u "+g.address+" @certs/server.crt -k @isv_keystore -o @"+file(terms)+".config")
	g.tool(g.isv, "sale -m @face.masterlic -k @isv_keystore -l @"+file(terms)+".config -t @runtime.tcb -p @primary_cust.csr.crt -c @"+file(terms)+".lic")
}

// stored has a customer's licence in a database.
func (g *guide) stored(lic, customer, db string) {
	g.t.Helper()
	g.server("store @" + lic + ".lic @primary_" + customer + ".csr.crt @secondary_" + customer + ".csr.crt --dir @certs --db " + db)
}

// TestGuide is the guide from the first key to the model in the customer's guest:
// an ISV and a customer with their own TPMs, and a third as the host's.
func TestGuide(t *testing.T) {
	g := newGuide(t)
	every := []string{"-t Sale", "-t InstanceLimit -l 2", "-t TimeLimit -l30"}
	for _, terms := range every {
		g.sold(terms)
	}
	for _, terms := range every {
		t.Run(file(terms), func(t *testing.T) {
			// One model has one licence of a customer at a time on a server.
			db := g.path("DB/" + file(terms) + ".db")
			g.restartServer(db)
			g.stored(file(terms), "cust", db)
			key := g.acquire(t, file(terms)+".lic")
			for name, want := range g.decrypt(t, key) {
				if !bytes.Equal(want, g.files[name]) {
					t.Errorf("%s has %d other bytes", name, len(want))
				}
			}
		})
	}
}

// A runtime that is patched to go on when it is refused has what the customer
// has: one half of the key, and that opens nothing.
func TestPatchedClient(t *testing.T) {
	g := newGuide(t)
	g.sold("-t Sale")
	db := g.path("DB/ovsa.db")
	g.stored("Sale", "cust", db)
	licence, customer := g.bought("Sale.lic")
	g.server("revoke licence " + string(licence.LicenceGUID) + " -reason sold --db " + db)
	tpm, err := guest.Open(t.Context(), g.runtime)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	var problem *exchange.Problem
	if _, err := client.Acquire(t.Context(), licence, customer, client.Options{TPM: tpm, Host: g.port(g.guestVM), Rounds: 1}); !errors.As(err, &problem) || problem.Code != exchange.Revoked {
		t.Fatalf("not refused: %v", err)
	}
	half, err := licence.OpenCustomerHalf(customer.Primary)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]licensing.Key{"its half": half, "a guess": licensing.NewKey()} {
		if _, err := g.container(t).Unlock(key); !errors.Is(err, model.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := licence.OpenServerHalf(customer.Primary); err == nil {
		t.Error("the customer opens the server's half")
	}
}

func file(terms string) string { return strings.Fields(terms)[1] }

// startServer makes the server's keys and starts it.
func (g *guide) startServer() {
	g.t.Helper()
	for _, dir := range []string{"certs", "DB"} {
		if err := os.Mkdir(g.path(dir), 0o700); err != nil {
			g.t.Fatal(err)
		}
	}
	g.server("gencert -dir @certs")
	g.server("gencert-attestation -dir @certs")
	if g.host != nil {
		g.server("trust add -for tpm-vendor -dir @certs " + filepath.Join(g.host.DataDir, "vtpm", "trust", "vendor.pem"))
	}
	g.restartServer(g.path("DB/ovsa.db"))
	g.t.Cleanup(g.stopServer)
}

// stopServer ends the server. Its address stays its own.
func (g *guide) stopServer() {
	g.stop()
	<-g.stopped
	stopped := make(chan int)
	close(stopped)
	g.stop, g.stopped = func() {}, stopped
}

// restartServer serves another database, at the same address.
func (g *guide) restartServer(db string) {
	g.t.Helper()
	listen := "127.0.0.1:0"
	if g.stop != nil {
		g.stopServer()
		listen = g.address
	}
	ctx, stop := context.WithCancel(context.Background())
	g.stop, g.stopped = stop, make(chan int, 1)
	pipe, stderr := io.Pipe()
	go func() {
		g.stopped <- licenseserver.Program(licenseserver.Machine()).Run(ctx, guestcli.Env{
			Args:   []string{"serve", "-dir", g.path("certs"), "-db", db, "-listen", listen, "-ops", "off"},
			Stderr: stderr, Getenv: func(string) string { return "" },
		})
		stderr.Close()
	}()
	dec := json.NewDecoder(pipe)
	var line struct{ Msg, Address, Cause string }
	for line.Msg != "serving" {
		if err := dec.Decode(&line); err != nil {
			g.t.Fatalf("the server does not serve: %v", err)
		}
	}
	g.address = line.Address
	go func() {
		for dec.Decode(&line) == nil {
			g.t.Logf("server: %+v", line)
		}
	}()
}

// enrol has the server certify the host, which its administrator allowed.
func (g *guide) enrol() {
	g.t.Helper()
	h, ctx := g.host.Open(g.t), g.t.Context()
	e, err := h.Enrolment(ctx)
	if err != nil {
		g.t.Fatal(err)
	}
	g.write("certs/hosts.allow", []byte(e.HostID+"\n"))
	certs := g.certificates("certs/server.crt")
	c, err := enrol.NewClient("https://"+g.address, enrol.Trust{Pin: licensing.PinOf(certs[0])})
	if err != nil {
		g.t.Fatal(err)
	}
	challenge, err := c.Begin(ctx, enrol.Request{Enrolment: enrol.Enrolment(e)})
	if err != nil {
		g.t.Fatal(err)
	}
	secret, err := h.Activate(ctx, challenge.Credential, challenge.EncryptedSecret)
	if err != nil {
		g.t.Fatal(err)
	}
	issued, err := c.Finish(ctx, enrol.Answer{ID: challenge.ID, Secret: secret})
	if err != nil {
		g.t.Fatal(err)
	}
	if err := h.InstallAKCert(ctx, issued.Certificate); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guide) certificates(name string) []*x509.Certificate {
	g.t.Helper()
	certs, err := pki.ReadFile(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	return certs
}

// port leads a VM to its host's attestation service.
func (g *guide) port(vm vtpm.Identity) guest.Port { return g.host.Attest(g.t, vm.UUID) }

// startGuest makes a VM's vTPM and starts it.
func (g *guide) startGuest(vm vtpm.Identity) (tpm string) {
	g.t.Helper()
	h := g.host.Open(g.t)
	if err := h.Manufacture(g.t.Context(), vm); err != nil {
		g.t.Fatal(err)
	}
	if err := h.Bind(g.t.Context(), vm); err != nil {
		g.t.Fatal(err)
	}
	tpm, _ = g.host.StartGuest(g.t, vm.UUID)
	return tpm
}

// parties makes the key stores, and has the parties and the server believe each
// other's certificates.
func (g *guide) parties() {
	g.t.Helper()
	g.party("isv", g.isv)
	g.server("trust add -for isv @primary_isv.csr.crt -dir @certs")
	g.customer("cust", g.runtime)
}

// party makes a key store that is sealed to a guest's TPM.
func (g *guide) party(name, tpm string) {
	g.t.Helper()
	g.tool(tpm, "keygen -storekey -t ECDSA -n "+name+" -k @"+name+"_keystore -r @"+name+".csr -e /C=IN/CN="+name)
	for _, slot := range []string{"primary", "secondary"} {
		cert := "@" + slot + "_" + name + ".csr.crt"
		g.tool(tpm, "trust add "+cert)
		g.tool(tpm, "keygen -storecert -c "+cert+" -k @"+name+"_keystore")
	}
}

// customer is party for somebody whom the server believes to be a customer.
func (g *guide) customer(name, tpm string) {
	g.t.Helper()
	g.party(name, tpm)
	g.server("trust add -for customer @primary_" + name + ".csr.crt @secondary_" + name + ".csr.crt -dir @certs")
}

func (g *guide) keyStore(name, tpm string) *licensing.KeyStore {
	g.t.Helper()
	data, err := os.ReadFile(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	ks, err := licensing.ParseKeyStore(g.t.Context(), data, tpmseal.Sealer{Address: tpm})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(ks.Close)
	return ks
}

// bought is a licence file, and its customer.
func (g *guide) bought(lic string) (licensing.Licence, client.Customer) {
	g.t.Helper()
	return g.boughtBy("cust", g.runtime, lic)
}

// boughtBy is bought for a customer of that name, who has another guest.
func (g *guide) boughtBy(name, tpm, lic string) (licensing.Licence, client.Customer) {
	g.t.Helper()
	data, err := os.ReadFile(g.path(lic))
	if err != nil {
		g.t.Fatal(err)
	}
	signed, err := licensing.Verify[licensing.Licence](data)
	if err != nil {
		g.t.Fatal(err)
	}
	ks := g.keyStore(name+"_keystore", tpm)
	chain, err := ks.Certificates(licensing.Secondary)
	if err != nil {
		g.t.Fatal(err)
	}
	return signed.Document, client.Customer{Primary: ks.Key(licensing.Primary), Secondary: ks.Key(licensing.Secondary), Certificate: chain[0]}
}

// acquire is what the customer's runtime does.
func (g *guide) acquire(t *testing.T, lic string) licensing.Key {
	t.Helper()
	licence, customer := g.bought(lic)
	tpm, err := guest.Open(t.Context(), g.runtime)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	lease, err := client.Acquire(t.Context(), licence, customer, client.Options{TPM: tpm, Host: g.port(g.guestVM), Rounds: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lease.Close)
	if err := lease.Renew(t.Context()); err != nil {
		t.Error(err)
	}
	if until := licence.NotAfter; !until.IsZero() && lease.Document().Expires.After(until) {
		t.Errorf("a lease until %s, after %s", lease.Document().Expires, until.Format(time.RFC3339))
	}
	return lease.Key()
}

// container is the protected model.
func (g *guide) container(t *testing.T) *model.Container {
	t.Helper()
	f, err := os.Open(g.path("face.dat"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	opener := model.Opener{Verify: func(b []byte) ([]byte, error) {
		manifest, _, err := licensing.VerifyModel(b)
		return manifest, err
	}}
	c, err := opener.Open(t.Context(), f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// decrypt opens the protected model.
func (g *guide) decrypt(t *testing.T, key licensing.Key) map[string][]byte {
	t.Helper()
	m, err := g.container(t).Unlock(key)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	got := map[string][]byte{}
	for _, file := range m.Files() {
		var plain bytes.Buffer
		if err := m.Decrypt(t.Context(), &plain, file.Name); err != nil {
			t.Error(err)
		}
		got[file.Name] = plain.Bytes()
	}
	if len(got) != 2 {
		t.Errorf("%d files", len(got))
	}
	return got
}

// tcb has the ISV record the state in which the customer's guest quotes, as its
// host does, which is enrolled.
func (g *guide) tcb() {
	g.t.Helper()
	nonce := make([]byte, quote.MinNonce)
	rand.Read(nonce)
	evidence, err := guest.Quote(g.t.Context(), g.runtime, nonce, g.port(g.guestVM))
	if err != nil {
		g.t.Fatal(err)
	}
	text, err := evidence.Marshal()
	if err != nil {
		g.t.Fatal(err)
	}
	g.write("quote.json", text)
	if err := os.Mkdir(g.path("ak-trust"), 0o700); err != nil {
		g.t.Fatal(err)
	}
	g.write("ak-trust/isv.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.certificates("certs/attestation.crt")[0].Raw}))
	g.run(ovsaruntime.Program(keystore.Machine()), g.isv,
		"gen-tcb-signature -n runtime -v 1.0 -f @runtime.tcb -k @isv_keystore -s 0xdf -h 0x0f -guest-quote @quote.json -nonce "+
			hex.EncodeToString(nonce)+" -ak-trust @ak-trust -tpm-trust "+filepath.Join(g.host.DataDir, "vtpm", "trust"))
}

func (g *guide) write(name string, data []byte) {
	g.t.Helper()
	if err := os.WriteFile(g.path(name), data, 0o600); err != nil {
		g.t.Fatal(err)
	}
}
