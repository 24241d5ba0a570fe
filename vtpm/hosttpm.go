package vtpm

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/attest"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/nv"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// akHandle is where the host's AK is kept, in the owner's range. It is made
// once: on a hardware TPM a primary key takes seconds.
const akHandle = tpm2.TPMHandle(0x81018000)

// hostState is what the host's TPM says about itself and does not change while
// the host is up.
type hostState struct {
	resetCount uint32
	ak         []byte // TPMT_PUBLIC
}

// withHostTPM runs do on the host's TPM, one user at a time: a stand-in's
// socket serves one client, and a resource manager's slots are few.
func (h *Host) withHostTPM(ctx context.Context, do func(transport.TPM) error) error {
	l, err := h.lock(ctx, "host-tpm")
	if err != nil {
		return err
	}
	defer l.Release()
	return h.openHostTPM(ctx, do)
}

func (h *Host) openHostTPM(ctx context.Context, do func(transport.TPM) error) error {
	t, err := guest.Open(ctx, h.opts.TPM)
	if errors.Is(err, fs.ErrNotExist) {
		return hint.Wrap(fmt.Errorf("host TPM: %w", err),
			"turn the TPM 2.0 on in the firmware's settings, or name another in the host block (tpm = ...) or OVSACTL_TPM; ovsactl host check tells what there is")
	}
	if err != nil {
		return hint.Wrap(fmt.Errorf("host TPM %q: %w", h.opts.TPM, err), "see: ovsactl host check")
	}
	defer t.Close()
	if err := do(t); err != nil {
		if errors.Is(err, tpm2.TPMRCLockout) {
			return hint.Wrap(fmt.Errorf("host TPM %q: %w", h.opts.TPM, err),
				"the TPM is in lockout after wrong passwords: wait for its recovery time, or, as its owner: tpm2_dictionarylockout --clear-lockout")
		}
		return fmt.Errorf("host TPM %q: %w", h.opts.TPM, err)
	}
	return nil
}

// hostState asks the host's TPM once.
func (h *Host) hostState(ctx context.Context) (hostState, error) {
	h.once.Do(func() {
		h.err = h.withHostTPM(ctx, func(t transport.TPM) error {
			clock, err := tpm2.ReadClock{}.Execute(t)
			if err != nil {
				return fmt.Errorf("read clock: %w", err)
			}
			h.current.resetCount = clock.CurrentTime.ClockInfo.ResetCount
			_, pub, err := objectName(t, akHandle)
			if errors.Is(err, tpm2.TPMRCHandle) {
				return nil // no AK: nothing was ever bound with this TPM
			}
			if err != nil {
				return err
			}
			h.current.ak = tpm2.Marshal(pub)
			return nil
		})
	})
	return h.current, h.err
}

type attestationKey struct {
	name   []byte
	public []byte // TPMT_PUBLIC
}

// ensureAK returns the host's AK, which it makes where there is none.
func ensureAK(t transport.TPM) (attestationKey, error) {
	name, pub, err := objectName(t, akHandle)
	if err == nil {
		want := attest.Template()
		if pub.Type != want.Type || pub.ObjectAttributes != want.ObjectAttributes {
			return attestationKey{}, hint.Wrap(fmt.Errorf("the object at %#x is not an attestation key of ours", akHandle),
				"something else uses this handle: tpm2_evictcontrol -C o -c %#x removes it", uint32(akHandle))
		}
		return attestationKey{name, tpm2.Marshal(pub)}, nil
	}
	if !errors.Is(err, tpm2.TPMRCHandle) {
		return attestationKey{}, err
	}
	rsp, err := attest.Create(t)
	if err != nil {
		return attestationKey{}, fmt.Errorf("create the host's attestation key: %w", err)
	}
	defer tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(t)
	if err := persist(t, rsp.ObjectHandle, rsp.Name, akHandle); err != nil {
		return attestationKey{}, fmt.Errorf("keep the host's attestation key: %w", err)
	}
	return attestationKey{rsp.Name.Buffer, rsp.OutPublic.Bytes()}, nil
}

// ekChain is the certificate of the host's EK and, from the trust directory,
// those that lead to its root. No certificate is no error: many TPMs have theirs
// on a vendor's server only.
func (h *Host) ekChain(t transport.TPM) ([]*x509.Certificate, error) {
	for _, index := range []tpm2.TPMHandle{rsaCertIndex, 0x01c0000a} { // L-1: RSA-2048, L-2: P-256
		data, err := nv.ReadIndex(t, uint32(index))
		if errors.Is(err, nv.ErrNoIndex) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read EK certificate: %w", err)
		}
		der, err := quote.TrimCert(data)
		if err != nil {
			return nil, fmt.Errorf("read EK certificate: %w", err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read EK certificate: %w", err)
		}
		return h.completeChain(leaf)
	}
	return nil, nil
}

// EKIssuer is the issuer of the host TPM's endorsement key certificate, "" when
// the TPM has none. It makes nothing, not even the directory of the locks.
func (h *Host) EKIssuer(ctx context.Context) (string, error) {
	open := h.withHostTPM
	if _, err := os.Stat(h.dir("locks")); errors.Is(err, fs.ErrNotExist) {
		open = h.openHostTPM // nothing here has ever used the TPM
	}
	var name string
	err := open(ctx, func(t transport.TPM) error {
		chain, err := h.ekChain(t)
		if err == nil && len(chain) > 0 {
			name = issuer(chain[0].Raw)
		}
		return err
	})
	return name, err
}

func (h *Host) completeChain(leaf *x509.Certificate) ([]*x509.Certificate, error) {
	known, err := h.trust("trust")
	if err != nil {
		return nil, err
	}
	chain := []*x509.Certificate{leaf}
	for last := leaf; len(chain) < 6 && !bytes.Equal(last.RawIssuer, last.RawSubject); last = chain[len(chain)-1] {
		i := slices.IndexFunc(known, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(c) == nil
		})
		if i < 0 {
			break
		}
		chain = append(chain, known[i])
	}
	// A root is the verifier's own to have.
	if last := chain[len(chain)-1]; len(chain) > 1 && bytes.Equal(last.RawIssuer, last.RawSubject) {
		chain = chain[:len(chain)-1]
	}
	return chain, nil
}

// trust reads the certificates of a directory below vtpm/. Without the
// directory nobody is trusted.
func (h *Host) trust(name string) ([]*x509.Certificate, error) {
	files, err := os.ReadDir(h.dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read trust anchors: %w", err)
	}
	var all []*x509.Certificate
	for _, f := range files {
		if ext := filepath.Ext(f.Name()); ext != ".pem" && ext != ".crt" {
			continue
		}
		certs, err := readCerts(h.dir(name, f.Name()))
		if err != nil {
			return nil, fmt.Errorf("read trust anchors: %w", err)
		}
		all = append(all, certs...)
	}
	return all, nil
}
