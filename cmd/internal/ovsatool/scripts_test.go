package ovsatool

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/model"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// scriptNow is when the scripts take place unless NOW says otherwise.
const scriptNow = "2026-03-28T12:00:00Z"

// TestMain makes this test binary be ovsatool, too, where a script runs it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ovsatool": func() { os.Exit(Program(scriptMachine()).Main()) },
	})
}

// scriptMachine is the machine, at the time of NOW.
func scriptMachine() keystore.Ports {
	ports := keystore.Machine()
	if now, err := time.Parse(time.RFC3339, os.Getenv("NOW")); err == nil {
		ports.Now = func() time.Time { return now }
	}
	return ports
}

// TestScripts runs test/scripts/ovsatool. Beside testscript's own commands:
//
//	server FILE [KEYFILE]      a licence server's certificates, with another TLS key each time and the release key of KEYFILE
//	tcb OUT KEYSTORE [CERT]    a reference TCB, signed by a software key store
//	opens DAT LIC STORE KEY    decrypt a model with both halves and compare its files with those beside it
//	flip FILE OLD NEW OUT      change text of a file
//	mode WANT FILE...          compare permissions
func TestScripts(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil && need.Required("openssl") {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "../../../test/scripts/ovsatool",
		UpdateScripts:       os.Getenv("OVSA_UPDATE") != "",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("NOW", scriptNow)
			env.Setenv("OVSA_TRUST", env.WorkDir+"/trust")
			env.Setenv("OVSA_TPM", env.WorkDir+"/no-tpm")
			env.Setenv("GUID", "0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a01")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": cmdServer, "tcb": cmdTCB, "opens": cmdOpens, "flip": cmdFlip, "mode": cmdMode,
		},
	})
}

func scriptTime(ts *testscript.TestScript) time.Time {
	now, err := time.Parse(time.RFC3339, ts.Getenv("NOW"))
	ts.Check(err)
	return now
}

func cmdServer(ts *testscript.TestScript, _ bool, args []string) {
	release := keyFile(ts, args[1])
	tls, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ts.Check(err)
	file := append(serverCert(ts, "TLS", tls), serverCert(ts, "key release", release)...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), file, 0o644))
}

// keyFile is the P-384 key in a file, which is made when it is not there.
func keyFile(ts *testscript.TestScript, path string) *ecdsa.PrivateKey {
	data, err := os.ReadFile(ts.MkAbs(path))
	if err == nil {
		block, _ := pem.Decode(data)
		key, err := x509.ParseECPrivateKey(block.Bytes)
		ts.Check(err)
		return key
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ts.Check(err)
	der, err := x509.MarshalECPrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(path), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600))
	return key
}

func serverCert(ts *testscript.TestScript, name string, key *ecdsa.PrivateKey) []byte {
	now := scriptTime(ts)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	ts.Check(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func openSoftware(ts *testscript.TestScript, path string) *licensing.KeyStore {
	ks, err := licensing.ParseKeyStore(context.Background(), []byte(ts.ReadFile(path)), nil)
	ts.Check(err)
	return ks
}

func cmdTCB(ts *testscript.TestScript, _ bool, args []string) {
	var bank []quote.PCR
	for i := range 24 {
		sum := sha256.Sum256([]byte{byte(i)})
		bank = append(bank, quote.PCR{Index: i, Digest: sum[:]})
	}
	registers, err := licensing.Mask(0xff).Select(bank)
	ts.Check(err)
	ks := openSoftware(ts, args[1])
	chain, err := ks.Certificates(licensing.Primary)
	ts.Check(err)
	tcb := licensing.TCB{Name: "Face Detect @ Runtime VM", Version: "1.0", Guest: registers, Host: registers}
	file, err := licensing.Sign(tcb, ks.Key(licensing.Primary), chain)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), file, 0o600))
}

func cmdOpens(ts *testscript.TestScript, neg bool, args []string) {
	signed, err := licensing.Verify[licensing.Licence]([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	ks := openSoftware(ts, args[2])
	customer, err := signed.Document.OpenCustomerHalf(ks.Key(licensing.Primary))
	if neg {
		if err == nil {
			ts.Fatalf("the licence opens")
		}
		return
	}
	ts.Check(err)
	server, err := signed.Document.OpenServerHalf(keyFile(ts, args[3]))
	ts.Check(err)
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	info, err := f.Stat()
	ts.Check(err)
	opener := model.Opener{Verify: func(b []byte) ([]byte, error) {
		manifest, chain, err := licensing.VerifyModel(b)
		ts.Check(err)
		ts.Check(signed.SignedBy(chain[0]))
		return manifest, nil
	}}
	container, err := opener.Open(context.Background(), f, info.Size())
	ts.Check(err)
	if digest := container.Digest(); !bytes.Equal(digest[:], signed.Document.ModelDigest) {
		ts.Fatalf("the licence is for another model")
	}
	m, err := container.Unlock(licensing.Join(customer, server))
	ts.Check(err)
	defer m.Close()
	for _, file := range m.Files() {
		var plain bytes.Buffer
		ts.Check(m.Decrypt(context.Background(), &plain, file.Name))
		if plain.String() != ts.ReadFile(file.Name) {
			ts.Fatalf("%s has other content", file.Name)
		}
	}
}

func cmdFlip(ts *testscript.TestScript, _ bool, args []string) {
	was := ts.ReadFile(args[0])
	if !strings.Contains(was, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), []byte(strings.Replace(was, args[1], args[2], 1)), 0o600))
}

func cmdMode(ts *testscript.TestScript, _ bool, args []string) {
	for _, path := range args[1:] {
		info, err := os.Stat(ts.MkAbs(path))
		ts.Check(err)
		if got := info.Mode().Perm().String(); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", path, got, args[0])
		}
	}
}
