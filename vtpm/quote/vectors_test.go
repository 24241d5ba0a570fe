package quote

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// The vectors of docs/tpm-formats.md.
func TestVectors(t *testing.T) {
	doc, err := os.ReadFile("../../docs/tpm-formats.md")
	if err != nil {
		t.Fatal(err)
	}
	nonce, record, ak := bytes.Repeat([]byte{1}, 32), [32]byte(bytes.Repeat([]byte{2}, 32)), append([]byte{0, 0x0b}, bytes.Repeat([]byte{3}, 32)...)
	for name, sum := range map[string][32]byte{
		"qualifying data of the host's word":   HostExtraData(nonce, "6f1d4c1e-52ab-4b07-9c55-0d6b1f3f0a11", record, ak),
		"qualifying data of the life":          LifeExtraData(nonce),
		"qualifying data of the guest's quote": GuestExtraData(nonce, record),
	} {
		if line := "| " + name + " | `" + hex.EncodeToString(sum[:]) + "` |"; !strings.Contains(string(doc), line) {
			t.Errorf("the document does not say %s", line)
		}
	}
}
