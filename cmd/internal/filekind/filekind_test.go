package filekind

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const vectors = "../../../licensing/testdata/vectors/"

func vector(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(vectors + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOf(t *testing.T) {
	pem := func(kind string) []byte {
		return []byte("-----BEGIN " + kind + "-----\nAAAA\n-----END " + kind + "-----\n")
	}
	for want, data := range map[string][]byte{
		"a master licence":        vector(t, "model.masterlic"),
		"a licence configuration": vector(t, "instances.config"),
		"a reference TCB":         vector(t, "runtime.tcb"),
		"a licence":               vector(t, "sale.lic"),
		"a key store":             vector(t, "keystore"),
		"a private key":           vector(t, "isv.key"),
		"a certificate":           pem("CERTIFICATE"),
		"a certificate request":   pem("CERTIFICATE REQUEST"),
		"an encrypted model":      []byte("OVSA-MODEL-1\r\n\x1a\nand more"),
		"an empty file":           []byte(" \n"),
		"":                        []byte(`{"a":1}`),
	} {
		if got := Of(data); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestWrong: one sentence, without a parser's words, that still is the error that
// it was.
func TestWrong(t *testing.T) {
	why := errors.New("invalid character '{' looking for beginning of value")
	dir := t.TempDir()
	damaged := vector(t, "sale.lic")
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"model.dat": {[]byte("OVSA-MODEL-1\r\n\x1a\n"), `is an encrypted model, and not a licence`},
		"junk":      {[]byte("junk"), `is not a licence, or it is damaged`},
		"cut":       {damaged[:len(damaged)-9], `is not a licence, or it is damaged`},
		"new":       {damaged, `is a licence that is damaged, or of another version`},
		"large":     {make([]byte, 2*maxHead), `is not a licence, or it is damaged`},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, tt.data, 0o600); err != nil {
			t.Fatal(err)
		}
		err := Wrong(path, "a licence", why)
		if !errors.Is(err, why) || strings.Contains(err.Error(), "character") || !strings.HasSuffix(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add(vector(f, "sale.lic"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if what := Of(head); what != "" && !strings.HasPrefix(what, "a") {
			t.Errorf("%q", what)
		}
	})
}
