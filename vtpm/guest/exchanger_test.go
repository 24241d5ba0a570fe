package guest

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"
)

// wire hears all that passes on the bus.
type wire struct {
	transport.TPM
	heard []byte
}

func (w *wire) Send(command []byte) ([]byte, error) {
	rsp, err := w.TPM.Send(command)
	w.heard = append(append(w.heard, command...), rsp...)
	return rsp, err
}

// The TPM agrees on what the peer does, and does not say it aloud.
func TestExchanger(t *testing.T) {
	tpm := &wire{TPM: open1(t, startTPM(t))}
	k, err := NewReleaseKey(t.Context(), tpm, []int{0, 7})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for range 8 {
		peer, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		want, err := peer.ECDH(k.public)
		if err != nil {
			t.Fatal(err)
		}
		got, err := exchanger{t.Context(), k}.ECDH(peer.PublicKey())
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %x, %v, want %x", got, err, want)
		}
		if bytes.Contains(tpm.heard, want) {
			t.Error("the secret passed in clear")
		}
	}
	other, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (exchanger{t.Context(), k}).ECDH(other.PublicKey()); err == nil {
		t.Error("agreed on another curve")
	}
}
