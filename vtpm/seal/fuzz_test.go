package seal

import (
	"bytes"
	"os"
	"testing"
)

// testdata/blob.json was made by a TPM.
func FuzzParseBlob(f *testing.F) {
	good, err := os.ReadFile("testdata/blob.json")
	if err != nil {
		f.Fatal(err)
	}
	if _, err := ParseBlob(good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBlob(data)
		if err != nil {
			return
		}
		if again, err := b.Marshal(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q became %q, %v", data, again, err)
		}
	})
}
