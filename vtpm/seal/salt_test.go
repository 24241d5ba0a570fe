package seal

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// sessions hears how sessions begin.
type sessions struct {
	transport.TPM
	began [][]byte // parameters and handles of TPM2_StartAuthSession (Part 3, 11.1)
}

func (s *sessions) Send(command []byte) ([]byte, error) {
	if tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) == tpm2.TPMCCStartAuthSession {
		s.began = append(s.began, command[10:])
	}
	return s.TPM.Send(command)
}

// A session that is not salted to a key of the TPM has a key that whoever hears the
// bus can compute: what it encrypts might as well be in clear.
func TestSessionsAreSalted(t *testing.T) {
	withTPM(t, vtpmtest.New(t), func(tpm transport.TPM) {
		for _, unbound := range []bool{false, true} {
			s := &sessions{TPM: tpm}
			b, err := Seal(t.Context(), s, secret, pcrs)
			if unbound {
				b, err = SealUnbound(t.Context(), s, secret)
			}
			if err != nil {
				t.Fatal(err)
			}
			wantSecret(t, s, b)
			if len(s.began) < 3 { // to seal, to load, to unseal
				t.Errorf("%d sessions", len(s.began))
			}
			for _, p := range s.began {
				key := tpm2.TPMHandle(binary.BigEndian.Uint32(p))
				rest := p[8:]                                 // after the handle that it is bound to
				rest = rest[2+binary.BigEndian.Uint16(rest):] // the caller's nonce
				salt, rest := binary.BigEndian.Uint16(rest), rest[2+binary.BigEndian.Uint16(rest):]
				symmetric := tpm2.TPMAlgID(binary.BigEndian.Uint16(rest[1:])) // after the session's type
				if key == tpm2.TPMRHNull || salt == 0 || symmetric == tpm2.TPMAlgNull {
					t.Errorf("a session with key %#x, a salt of %d bytes, encrypting with %#x", key, salt, symmetric)
				}
			}
		}
	})
}
