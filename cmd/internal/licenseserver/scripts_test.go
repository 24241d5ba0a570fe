package licenseserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/ovsaruntime"
	"github.com/ovsactl/ovsactl/cmd/internal/ovsatool"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// scriptNow is when the scripts take place unless NOW says otherwise.
const scriptNow = "2026-03-28T12:00:00Z"

// scriptClock is the programs' clock in a script.
func scriptClock() time.Time {
	if now, err := time.Parse(time.RFC3339, os.Getenv("NOW")); err == nil {
		return now
	}
	return time.Now()
}

// TestMain makes this test binary be the programs, too, where a script or a test
// runs them. The server's protocol is the tests' own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "launch-engine" {
		os.Exit(ovsaruntime.Main(keystore.Machine(), os.Args[1:]))
	}
	server := func() {
		ports := Machine()
		ports.Now = scriptClock
		if os.Getenv("OVSA_TEST_SERVICE") != "" {
			ports.NewService = newEcho
		}
		os.Exit(Main(ports, os.Args))
	}
	testscript.Main(m, map[string]func(){
		"license_server": server, certScript: server, storeScript: server,
		"flood":       floodMain,
		"h2engine":    h2EngineMain,
		"ovsaruntime": func() { os.Exit(ovsaruntime.Main(keystore.Machine(), os.Args[1:])) },
		"ovsatool": func() {
			ports := keystore.Machine()
			ports.Now = scriptClock
			os.Exit(ovsatool.Program(ports).Main())
		},
	})
}

// TestScripts runs test/scripts/license_server. Beside testscript's own commands:
//
//	tcb OUT KEYSTORE              a reference TCB, signed by a software key store
//	guid NAME LIC                 sets NAME to a licence's GUID
//	sign REQUEST OUT [KEYUSAGE]   have an authority, ca.crt, sign a certificate request
//	newkey FILE                   a P-384 key
//	claim DB GUID                 take leases of a licence's only model until one is refused
//	prove DB GUID GUEST LINEAGE   take a lease for a guest, or fail
//	sethead NAME                  set NAME to the hash that the last audit verify printed
//	removeold DIR                 remove key-release keys that were replaced
//	forge DB                      change an entry of the audit log behind the server's back
//	flip FILE OLD NEW OUT         change text of a file
//	append FILE LINE              add a line to a file
//	mode WANT FILE...             compare permissions
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../../../test/scripts/license_server",
		UpdateScripts:       os.Getenv("OVSA_UPDATE") != "",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("NOW", scriptNow)
			env.Setenv("OVSA_TRUST", env.WorkDir+"/trust")
			env.Setenv("A", "000b03af"+strings.Repeat("00", 30))
			env.Setenv("B", "000b03af"+strings.Repeat("ff", 30))
			env.Setenv("HOST", "000bff"+strings.Repeat("0a", 31))
			env.Setenv("OTHER", "ak:000b"+strings.Repeat("0b", 32))
			env.Setenv("GUID", "0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a01")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"tcb": cmdTCB, "guid": cmdGUID, "sign": cmdSign, "newkey": cmdNewKey, "claim": cmdClaim, "prove": cmdProve, "removeold": cmdRemoveOld, "sethead": cmdSetHead, "forge": cmdForge, "flip": cmdFlip, "mode": cmdMode, "append": cmdAppend,
		},
	})
}

func scriptTime(ts *testscript.TestScript) time.Time {
	now, err := time.Parse(time.RFC3339, ts.Getenv("NOW"))
	ts.Check(err)
	return now
}

func cmdTCB(ts *testscript.TestScript, _ bool, args []string) {
	var bank []quote.PCR
	for i := range 24 {
		sum := sha256.Sum256([]byte{byte(i)})
		bank = append(bank, quote.PCR{Index: i, Digest: sum[:]})
	}
	registers, err := licensing.Mask(0xff).Select(bank)
	ts.Check(err)
	ks, err := licensing.ParseKeyStore(context.Background(), []byte(ts.ReadFile(args[1])), nil)
	ts.Check(err)
	chain, err := ks.Certificates(licensing.Primary)
	ts.Check(err)
	file, err := licensing.Sign(licensing.TCB{Name: "Runtime VM", Version: "1.0", Guest: registers, Host: registers}, ks.Key(licensing.Primary), chain)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), file, 0o600))
}

func cmdGUID(ts *testscript.TestScript, _ bool, args []string) {
	signed, err := licensing.Verify[licensing.Licence]([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	ts.Setenv(args[0], string(signed.Document.LicenceGUID))
}

func cmdNewKey(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ts.Check(err)
	ts.Check(certDir(ts.MkAbs(".")).create(args[0], key))
}

// cmdSign signs a request, or a key's own when a file ends in .key, with a new
// authority whose certificate it writes to ca.crt.
func cmdSign(ts *testscript.TestScript, _ bool, args []string) {
	var public any
	block, _ := pem.Decode([]byte(ts.ReadFile(args[0])))
	if request, err := x509.ParseCertificateRequest(block.Bytes); err == nil {
		public = request.PublicKey
	} else {
		key, err := readKey(ts.MkAbs(args[0]))
		ts.Check(err)
		public = &key.PublicKey
	}
	now := scriptTime(ts)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ts.Check(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(9, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	ts.Check(err)
	authority, err := x509.ParseCertificate(der)
	ts.Check(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "licences.example.org"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)}
	if len(args) > 2 {
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{map[string]x509.ExtKeyUsage{"server": x509.ExtKeyUsageServerAuth, "client": x509.ExtKeyUsageClientAuth}[args[2]]}
	}
	der, err = x509.CreateCertificate(rand.Reader, leaf, authority, public, key)
	ts.Check(err)
	cert, err := x509.ParseCertificate(der)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pki.EncodePEM(cert, authority), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("ca.crt"), pki.EncodePEM(authority), 0o644))
}

func cmdClaim(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	l, err := sqlite.Open(ctx, ts.MkAbs(args[0]))
	ts.Check(err)
	defer l.Close()
	some, err := l.Licences(ctx, args[1], "", 1)
	ts.Check(err)
	now := scriptTime(ts)
	for i := range 10 {
		guest := string(rune('a' + i))
		_, err := l.Claim(ctx, ledger.Claim{GUID: args[1], Model: some[0].Model, Guest: guest, Expires: now.Add(time.Hour)}, now)
		if err != nil {
			ts.Logf("claim %d: %v", i+1, err)
			return
		}
	}
}

func cmdProve(ts *testscript.TestScript, neg bool, args []string) {
	ctx := context.Background()
	l, err := sqlite.Open(ctx, ts.MkAbs(args[0]))
	ts.Check(err)
	defer l.Close()
	some, err := l.Licences(ctx, args[1], "", 1)
	ts.Check(err)
	now := scriptTime(ts)
	_, err = l.Claim(ctx, ledger.Claim{
		GUID: args[1], Model: some[0].Model, Guest: args[2], Lineage: args[3], Life: "life", VM: "6f1d4c1e-52ab-4b07-9c55-0d6b1f3f0a11",
		Host: ledger.HostBoot{ID: "000b9c70"}, Subjects: []ledger.Subject{{Kind: ledger.KindGuest, ID: args[2]}}, Expires: now.Add(time.Hour),
	}, now)
	if (err != nil) != neg {
		ts.Fatalf("claim: %v", err)
	}
}

func cmdRemoveOld(ts *testscript.TestScript, _ bool, args []string) {
	old, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), oldRelease))
	ts.Check(err)
	if len(old) == 0 {
		ts.Fatalf("there are none")
	}
	for _, path := range old {
		ts.Check(os.Remove(path))
	}
}

func cmdSetHead(ts *testscript.TestScript, _ bool, args []string) {
	words := strings.Fields(ts.ReadFile("stdout"))
	ts.Setenv(args[0], words[len(words)-1])
}

// cmdForge overwrites a byte of the first entry in the log.
func cmdForge(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite3", ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	result, err := db.Exec(`UPDATE audit SET entry = replace(CAST(entry AS TEXT), '"what":"store"', '"what":"storf"') WHERE seq = 1`)
	ts.Check(err)
	if n, _ := result.RowsAffected(); n != 1 {
		ts.Fatalf("%d entries were changed", n)
	}
}

func cmdFlip(ts *testscript.TestScript, _ bool, args []string) {
	was := ts.ReadFile(args[0])
	if !strings.Contains(was, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), []byte(strings.Replace(was, args[1], args[2], 1)), 0o600))
}

func cmdAppend(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.ReadFile(args[0])+args[1]+"\n"), 0o644))
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
