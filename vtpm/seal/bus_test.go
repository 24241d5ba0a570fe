package seal

import (
	"bytes"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// listener sees all that passes on the bus.
type listener struct {
	transport.TPM
	heard []byte
}

func (l *listener) Send(command []byte) ([]byte, error) {
	rsp, err := l.TPM.Send(command)
	l.heard = append(append(l.heard, command...), rsp...)
	return rsp, err
}

func TestTheBusDoesNotCarryTheSecret(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		for _, unbound := range []bool{false, true} {
			l := &listener{TPM: tpm}
			b, err := Seal(t.Context(), l, secret, pcrs)
			if unbound {
				b, err = SealUnbound(t.Context(), l, secret)
			}
			if err != nil {
				t.Fatal(err)
			}
			wantSecret(t, l, b)
			if bytes.Contains(l.heard, secret[:8]) {
				t.Error("the secret passed in clear")
			}
			if !bytes.Contains(l.heard, b.public) {
				t.Error("the listener is deaf")
			}
		}
	})
}

// interposer answers for the TPM with what another said.
type interposer struct {
	transport.TPM
	other transport.TPM
}

func (i interposer) Send(command []byte) ([]byte, error) {
	rsp, err := i.TPM.Send(command)
	if err == nil && bytes.Equal(command[6:10], []byte{0, 0, 1, 0x31}) { // CreatePrimary
		fake, err := i.other.Send(command)
		if err != nil {
			return nil, err
		}
		// The true name goes with the other's key.
		const name = 34
		return append(fake[:len(fake)-name-5], rsp[len(rsp)-name-5:]...), nil
	}
	return rsp, err
}

func TestAnInterposersKeyIsNotSaltedTo(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		withTPM(t, vtpmtest.New(t), func(other transport.TPM) {
			b := mustSeal(t, tpm, pcrs)
			wantError(t, interposer{tpm, other}, b, ErrOtherTPM, "")
			if _, err := (tpm2.FlushContext{FlushHandle: tpm2.TPMHandle(0x80000000)}).Execute(other); err != nil {
				t.Fatal(err)
			}
		})
	})
}
