// Package seal keeps a small secret so that one TPM alone gives it back, and
// only while chosen registers are as they were.
//
// [Seal] makes a [Blob], which may lie anywhere; [Blob.Unseal] asks the TPM for
// the secret. On the way to and from the TPM the secret is encrypted to its
// storage root key, so that who listens on the bus learns nothing.
package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/attest"
	"github.com/ovsactl/ovsactl/vtpm/internal/roots"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Why a secret is not given back; each comes with a hint.
var (
	ErrOtherTPM = errors.New("it was sealed by another TPM, or by this one before it was cleared")
	ErrPolicy   = errors.New("the PCR policy does not hold")
	ErrDamaged  = errors.New("the sealed secret is damaged")
	ErrLockout  = errors.New("the TPM is in lockout")
)

// ErrNoPCRs says that Seal was given no registers.
var ErrNoPCRs = errors.New("no PCRs were chosen")

// Seal seals a secret of 1 to MaxSecret bytes under the values that registers of
// the SHA-256 bank have now. They must be ascending, without 16 and 23, which
// software can reset. To do without registers takes SealUnbound.
func Seal(ctx context.Context, t transport.TPM, secret []byte, pcrs []int) (*Blob, error) {
	if len(pcrs) == 0 {
		return nil, fmt.Errorf("seal: %w", ErrNoPCRs)
	}
	if err := quote.ValidSelection(pcrs); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return seal(ctx, t, secret, pcrs)
}

// SealUnbound seals a secret that the TPM gives back in any state: it binds to
// the machine and not to what runs there.
func SealUnbound(ctx context.Context, t transport.TPM, secret []byte) (*Blob, error) {
	return seal(ctx, t, secret, nil)
}

func seal(ctx context.Context, t transport.TPM, secret []byte, pcrs []int) (*Blob, error) {
	if len(secret) == 0 || len(secret) > MaxSecret {
		return nil, fmt.Errorf("seal: a secret of %d bytes: want 1 to %d", len(secret), MaxSecret)
	}
	b, err := create(roots.Within(ctx, t), secret, pcrs)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", explain(err))
	}
	return b, nil
}

func create(t transport.TPM, secret []byte, pcrs []int) (*Blob, error) {
	values, err := attest.ReadPCRs(t, pcrs)
	if err != nil {
		return nil, err
	}
	b := &Blob{pcrs: values}
	srk, err := roots.StorageRoot(t)
	if err != nil {
		return nil, err
	}
	defer srk.Close(t)
	session, done, err := srk.Hide(t)
	if err != nil {
		return nil, err
	}
	defer done()
	rsp, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: srk.Handle, Name: srk.Name, Auth: session},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}},
		InPublic: tpm2.New2B(object(b.Policy())),
	}.Execute(t)
	if err != nil {
		return nil, err
	}
	b.parent, b.public, b.private = srk.Name.Buffer, rsp.OutPublic.Bytes(), rsp.OutPrivate.Buffer
	return b, b.check()
}

// Unseal returns the secret, which is the caller's to wipe. It leaves nothing in
// the TPM.
func (b *Blob) Unseal(ctx context.Context, t transport.TPM) ([]byte, error) {
	secret, err := b.unseal(roots.Within(ctx, t))
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", explain(err))
	}
	return secret, nil
}

func (b *Blob) unseal(t transport.TPM) ([]byte, error) {
	srk, err := roots.StorageRoot(t)
	if err != nil {
		return nil, err
	}
	defer srk.Close(t)
	if !bytes.Equal(srk.Name.Buffer, b.parent) {
		return nil, ErrOtherTPM
	}
	if err := b.compare(t); err != nil {
		return nil, err
	}
	object, err := b.load(t, srk)
	if err != nil {
		return nil, err
	}
	defer object.Close(t)
	var session tpm2.Session
	var done func() error
	if len(b.pcrs) > 0 {
		session, done, err = srk.HideAnswerUnder(t, b.PCRs())
	} else {
		session, done, err = srk.HideAnswer(t)
	}
	if err != nil {
		return nil, err
	}
	defer done()
	rsp, err := tpm2.Unseal{
		ItemHandle: tpm2.AuthHandle{Handle: object.Handle, Name: object.Name, Auth: session},
	}.Execute(t)
	if errors.Is(err, tpm2.TPMRCPolicyFail) || errors.Is(err, tpm2.TPMRCPCRChanged) {
		return nil, fmt.Errorf("%w: PCRs %s of the %s bank changed just now", ErrPolicy, list(b.PCRs()), bank)
	}
	if err != nil {
		return nil, err
	}
	return rsp.OutData.Buffer, nil
}

func (b *Blob) load(t transport.TPM, srk roots.Key) (roots.Key, error) {
	session, done, err := srk.Hide(t)
	if err != nil {
		return roots.Key{}, err
	}
	defer done()
	rsp, err := tpm2.Load{
		ParentHandle: tpm2.AuthHandle{Handle: srk.Handle, Name: srk.Name, Auth: session},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: b.private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](b.public),
	}.Execute(t)
	if errors.Is(err, tpm2.TPMRCIntegrity) || errors.Is(err, tpm2.TPMRCSize) {
		return roots.Key{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return roots.Key{}, fmt.Errorf("load: %w", err)
	}
	return roots.Key{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
}

// compare says which registers are not what they were. It is for people: what
// counts is the TPM's own comparison.
func (b *Blob) compare(t transport.TPM) error {
	values, err := attest.ReadPCRs(t, b.PCRs())
	if err != nil {
		return err
	}
	var changed []int
	for i, v := range values {
		if !bytes.Equal(v.Digest, b.pcrs[i].Digest) {
			changed = append(changed, v.Index)
		}
	}
	if len(changed) > 0 {
		return fmt.Errorf("%w: PCRs %s of the %s bank are not what they were (the policy selects %s)", ErrPolicy, list(changed), bank, list(b.PCRs()))
	}
	return nil
}

func list(pcrs []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(pcrs), " ", ", "), "[]")
}

// explain gives an error its hint.
func explain(err error) error {
	switch {
	case errors.Is(err, ErrOtherTPM):
		return hint.Wrap(err, "use it on the machine that sealed it, or open what it protects by its recovery and seal again")
	case errors.Is(err, ErrPolicy):
		return hint.Wrap(err, "firmware, boot loader and kernel updates change PCRs: boot what ran when it was sealed, or open what it protects by its recovery and seal again")
	case errors.Is(err, ErrDamaged):
		return hint.Wrap(err, "restore the file from a backup")
	case errors.Is(err, tpm2.TPMRCLockout):
		return hint.Wrap(fmt.Errorf("%w: %w", ErrLockout, err), "wait for its recovery time, or, as its owner: tpm2_dictionarylockout --clear-lockout")
	}
	return err
}
