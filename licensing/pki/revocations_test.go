package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// authority makes one, and its key.
func authority(t testing.TB) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestRevoke(t *testing.T) {
	ca, key := authority(t)
	revoke := func(last *x509.RevocationList, serials ...int64) *x509.RevocationList {
		t.Helper()
		var all []*big.Int
		for _, s := range serials {
			all = append(all, big.NewInt(s))
		}
		text, err := Revoke(last, all, ca, key, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		list, err := ParseRevocations(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := list.CheckSignatureFrom(ca); err != nil || !list.NextUpdate.Equal(ca.NotAfter) {
			t.Errorf("until %s, %v", list.NextUpdate, err)
		}
		return list
	}
	first := revoke(nil, 7)
	second := revoke(first, 7, 8)
	if n := len(second.RevokedCertificateEntries); n != 2 || first.Number.Int64() != 1 || second.Number.Int64() != 2 {
		t.Errorf("%d entries, numbers %s and %s", n, first.Number, second.Number)
	}
	for _, tt := range []struct {
		list   *x509.RevocationList
		serial int64
		want   bool
	}{{nil, 7, false}, {first, 7, true}, {first, 8, false}, {second, 7, true}, {second, 8, true}, {second, 9, false}} {
		if got := IsRevoked(tt.list, big.NewInt(tt.serial)); got != tt.want {
			t.Errorf("%d: %t", tt.serial, got)
		}
	}
}

func TestNoRevocations(t *testing.T) {
	ca, key := authority(t)
	good, err := Revoke(nil, nil, ca, key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":        "",
		"a certificate":  string(EncodePEM(ca)),
		"two":            string(good) + string(good),
		"text behind it": string(good) + "x",
		"damaged":        string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("x")})),
		"too long":       string(good) + strings.Repeat("\n", MaxRevocations),
	} {
		if _, err := ParseRevocations([]byte(text)); !errors.Is(err, ErrRevocations) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is parsed can be added to, and has then what it had.
func FuzzParseRevocations(f *testing.F) {
	ca, key := authority(f)
	for _, serials := range [][]*big.Int{nil, {big.NewInt(7)}} {
		text, err := Revoke(nil, serials, ca, key, time.Now())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParseRevocations(text)
		if err != nil || list.CheckSignatureFrom(ca) != nil {
			return // only those of one's own are added to
		}
		next, err := Revoke(list, []*big.Int{big.NewInt(9)}, ca, key, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRevocations(next)
		if err != nil || !IsRevoked(again, big.NewInt(9)) || len(again.RevokedCertificateEntries) < len(list.RevokedCertificateEntries) {
			t.Errorf("%v, %v", again, err)
		}
	})
}
