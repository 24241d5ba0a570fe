package hosting

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
	"github.com/ovsactl/ovsactl/licensing/model"
)

// A licence opens the model that it names, signed by who signed the licence.
func TestOpenModel(t *testing.T) {
	isv, other := licensetest.NewParty(t, "isv"), licensetest.NewParty(t, "other")
	key := licensing.NewKey()
	write := func(name, content string, by licensetest.Party) (*os.File, model.Digest) {
		t.Helper()
		var dat bytes.Buffer
		s := model.Sealer{
			Key: key, Info: model.Info{Name: name, Version: "1", GUID: "0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a01"},
			Sign: func(manifest []byte) ([]byte, error) {
				return licensing.SignModel(manifest, by.Key, by.Chain())
			},
		}
		sealed, err := s.Seal(t.Context(), &dat, []model.Source{{Name: "face.bin", Reader: bytes.NewReader([]byte(content))}})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "face.dat")
		if err := os.WriteFile(path, dat.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f, sealed.Digest
	}
	good, digest := write("face", "weights", isv)
	foreign, foreignDigest := write("face", "weights", other)
	another, _ := write("another", "weights", isv)
	licence := func(d model.Digest) *licensing.Signed[licensing.Licence] {
		return &licensing.Signed[licensing.Licence]{Document: licensing.Licence{ModelDigest: d[:]}, Chain: isv.Chain()}
	}
	for name, tt := range map[string]struct {
		file *os.File
		of   model.Digest
		want error
	}{
		"its own":       {good, digest, nil},
		"another model": {another, digest, ErrOtherModel},
		"another ISV's": {foreign, foreignDigest, ErrOtherISV},
	} {
		if _, err := openModel(t.Context(), tt.file, licence(tt.of)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}
