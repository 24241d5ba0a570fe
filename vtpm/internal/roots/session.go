package roots

import (
	"context"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/vtpm/attest"
)

// The sessions here are closed by whoever opens them. Those that go-tpm makes
// just in time stay in the TPM when a command does not reach it, or a policy
// fails.

const nonceSize = 16

// Hide opens a session with an empty password in which only this TPM can read
// the first parameter of a command.
func (k Key) Hide(t transport.TPM) (tpm2.Session, func() error, error) {
	return tpm2.HMACSession(t, tpm2.TPMAlgSHA256, nonceSize, tpm2.Salted(k.Handle, k.Public), tpm2.AESEncryption(128, tpm2.EncryptIn))
}

// HideAnswer opens a session with an empty password in which only we can read
// the first parameter of the TPM's answer.
func (k Key) HideAnswer(t transport.TPM) (tpm2.Session, func() error, error) {
	return tpm2.HMACSession(t, tpm2.TPMAlgSHA256, nonceSize, k.hidesAnswer()...)
}

// HideAnswerUnder is HideAnswer with a policy: the values that registers have
// at that time.
func (k Key) HideAnswerUnder(t transport.TPM, pcrs []int) (tpm2.Session, func() error, error) {
	s, done, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, nonceSize, k.hidesAnswer()...)
	if err != nil {
		return nil, nil, err
	}
	if _, err := (tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: attest.Selection(pcrs)}).Execute(t); err != nil {
		_ = done()
		return nil, nil, err
	}
	return s, done, nil
}

func (k Key) hidesAnswer() []tpm2.AuthOption {
	return []tpm2.AuthOption{tpm2.Salted(k.Handle, k.Public), tpm2.AESEncryption(128, tpm2.EncryptOut)}
}

// Within is t until ctx ends. After that each command fails but the one that
// clears up.
func Within(ctx context.Context, t transport.TPM) transport.TPM { return within{ctx, t} }

type within struct {
	ctx context.Context
	tpm transport.TPM
}

func (w within) Send(command []byte) ([]byte, error) {
	if w.ctx.Err() != nil && !isFlush(command) {
		return nil, context.Cause(w.ctx)
	}
	return w.tpm.Send(command)
}

func isFlush(command []byte) bool {
	return len(command) >= 10 && tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) == tpm2.TPMCCFlushContext
}
