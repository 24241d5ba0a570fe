package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/licensing"
)

var now = time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// node is a certificate with its key, and whoever issued it.
type node struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// issue makes a certificate; change may be nil.
func issue(t testing.TB, by *node, name string, change func(*x509.Certificate)) *node {
	t.Helper()
	n := &node{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.Unix() + int64(len(name))), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(2, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, n.key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &n.key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if n.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return n
}

func asCA(c *x509.Certificate) {
	c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
}

func storeOf(t testing.TB, nodes ...*node) Store {
	t.Helper()
	s := NewStore(filepath.Join(t.TempDir(), "trust"))
	for _, n := range nodes {
		if _, err := s.Add(n.cert); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestParseSubject(t *testing.T) {
	for in, want := range map[string]string{
		"/C=IN/CN=localhost":              "CN=localhost,C=IN",
		`/CN=a\/b\=c\\d`:                  `CN=a/b=c\\d`,
		"/O=Intel/OU=A & B/CN=x+y":        `CN=x\+y,OU=A & B,O=Intel`,
		"/CN=Zoë":                         "CN=Zoë",
		"/DC=example/emailAddress=a@b.in": "",
	} {
		raw, err := ParseSubject(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		c, err := SelfSigned(newKey(t), raw, x509.KeyUsageDigitalSignature, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Subject.String(); want != "" && got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for _, in := range []string{
		"", "/", "C=IN", "//CN=x", "/CN=", "/CN", "/CN=x/", "/XX=1", "/cn=x", "/C=in", "/C=IND", "/C=1N", `/CN=x\`, "/CN=a\nb", "/CN=\xff",
		"/CN=" + strings.Repeat("x", 65), strings.Repeat("/OU=x", 17), "/emailAddress=ë@b", "/CN=x=\x00", `/CN\=x=y`,
	} {
		if _, err := ParseSubject(in); err == nil {
			t.Errorf("%q passes", in)
		}
	}
}

// TestSelfSigned is W24: version 3, with constraints, for as long as it is used.
func TestSelfSigned(t *testing.T) {
	subject, _ := ParseSubject("/C=IN/CN=localhost")
	c, err := SelfSigned(newKey(t), subject, x509.KeyUsageDigitalSignature, now)
	if err != nil {
		t.Fatal(err)
	}
	if c.Version != 3 || !c.BasicConstraintsValid || c.IsCA || c.SerialNumber.BitLen() < 64 || !IsSelfSigned(c) {
		t.Errorf("version %d, constraints %v, CA %v, serial %s", c.Version, c.BasicConstraintsValid, c.IsCA, c.SerialNumber)
	}
	if end := licensing.CertificateEnd(c); !end.Equal(c.NotAfter) {
		t.Errorf("it ends %s, and is used until %s", c.NotAfter, end)
	}
}

// TestOpenSSL: openssl reads requests and certificates as ours.
func TestOpenSSL(t *testing.T) {
	openssl := need.Program(t, "openssl")
	dir, key := t.TempDir(), newKey(t)
	subject, _ := ParseSubject(`/C=IN/O=a\/b/CN=localhost/emailAddress=a@b.in`)
	csr, err := Request(key, subject)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := SelfSigned(key, subject, x509.KeyUsageDigitalSignature, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"csr": csr, "crt": EncodePEM(cert)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ args, want string }{
		{"req -verify -noout -subject -in " + dir + "/csr", "C = IN, O = a/b, CN = localhost, emailAddress = a@b.in"},
		{"verify -x509_strict -CAfile " + dir + "/crt " + dir + "/crt", "OK"},
	} {
		out, err := exec.Command(openssl, strings.Fields(tt.args)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("openssl %s: %v\n%s", tt.args, err, out)
		}
	}
}

func TestParsePEM(t *testing.T) {
	n := issue(t, nil, "n", nil)
	good := EncodePEM(n.cert)
	for name, file := range map[string][]byte{"one": good, "text before it": append([]byte("Certificate:\n"), good...), "two": append(slices.Clone(good), good...)} {
		if _, err := ParsePEM(file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, file := range map[string][]byte{
		"empty":           nil,
		"nothing":         []byte("hello"),
		"cut":             good[:len(good)/2],
		"a good and cut":  append(slices.Clone(good), good[:len(good)/2]...),
		"a private key":   append(slices.Clone(good), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"...),
		"no certificate":  []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"too many":        slices.Repeat(good, 9),
		"too large":       append(slices.Clone(good), make([]byte, MaxFile)...),
		"a strange block": []byte("-----BEGIN \x1b[2J-----\nAAAA\n-----END \x1b[2J-----\n"),
	} {
		if _, err := ParsePEM(file); err == nil || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParsePEM(f *testing.F) {
	f.Add(EncodePEM(issue(f, nil, "n", nil).cert))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		certs, err := ParsePEM(file)
		if err != nil {
			return
		}
		if again, err := ParsePEM(EncodePEM(certs...)); err != nil || len(again) != len(certs) {
			t.Fatalf("%d certificates, then %d, %v", len(certs), len(again), err)
		}
	})
}

func FuzzParseSubject(f *testing.F) {
	f.Add("/C=IN/CN=localhost")
	f.Add(`/CN=a\/b\\/DC=x/emailAddress=a@b`)
	f.Fuzz(func(t *testing.T, s string) {
		raw, err := ParseSubject(s)
		if err != nil {
			return
		}
		if _, err := Request(fuzzKey, raw); err != nil {
			t.Fatalf("%q passes, and no request can be made: %v", s, err)
		}
	})
}

var fuzzKey, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)

func FuzzOCSPResponse(f *testing.F) {
	ca := issue(f, nil, "ca", asCA)
	leaf := issue(f, ca, "leaf", nil)
	f.Add(respond(f, ca, ca, leaf, nil))
	f.Fuzz(func(t *testing.T, der []byte) {
		checkResponse(der, leaf.cert, ca.cert, now)
	})
}
