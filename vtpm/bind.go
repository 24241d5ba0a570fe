package vtpm

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/attest"
	"github.com/ovsactl/ovsactl/vtpm/nv"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// ErrMissing says that the VM has no vTPM state.
var ErrMissing = errors.New("there is no vTPM")

// Bind makes the host's TPM vouch for the VM's vTPM anew: it quotes the host's
// PCRs over what the vTPM is, and writes that record into the vTPM's NVRAM. The
// guest has to be off (ErrRunning). A process that dies on the way leaves a
// vTPM whose record reads as torn, which the next Bind repairs.
func (h *Host) Bind(ctx context.Context, id Identity) error {
	if err := checkUUID(id.UUID); err != nil {
		return err
	}
	l, err := h.lockState(ctx, id.UUID)
	if err != nil {
		return err
	}
	defer l.Release()
	if made, err := h.exists(id.UUID); err != nil {
		return err
	} else if !made {
		return hint.Wrap(fmt.Errorf("bind vtpm of %q: %w", id.Name, ErrMissing), "ovsactl apply makes it")
	}
	var record []byte
	var eks []quote.EK
	err = withSWTPM(ctx, h.stateDir(id.UUID), func(t transport.TPM) error {
		if eks, err = readEKs(t); err != nil {
			return err
		}
		lineage, err := h.lineage(t, id.UUID)
		if err != nil {
			return err
		}
		if record, err = h.makeRecord(ctx, id, eks, lineage); err != nil {
			return err
		}
		if err := h.check(ctx, record, id.UUID, eks); err != nil {
			return fmt.Errorf("the new record does not verify: %w", err)
		}
		// The host's copy goes first, so that what is half written is known as ours.
		if err := h.keep(id.UUID, record, eks); err != nil {
			return err
		}
		return writeRecord(t, record)
	})
	if err != nil {
		return fmt.Errorf("bind vtpm of %q: %w", id.Name, err)
	}
	if err := os.Rename(h.nextPath(id.UUID), h.recordPath(id.UUID)); err != nil {
		return fmt.Errorf("keep record: %w", err)
	}
	return atomicfile.SyncDir(h.dir(id.UUID))
}

// keep copies what a running guest's vTPM does not show to the host: the record
// that it is about to get and its endorsement keys, which are all public.
func (h *Host) keep(uuid string, record []byte, eks []quote.EK) error {
	if err := os.MkdirAll(h.dir(uuid), 0o755); err != nil {
		return fmt.Errorf("keep record: %w", err)
	}
	keys, err := json.Marshal(eks)
	if err != nil {
		return fmt.Errorf("keep endorsement keys: %w", err)
	}
	if err := atomicfile.WriteFile(h.eksPath(uuid), keys, 0o644); err != nil {
		return fmt.Errorf("keep endorsement keys: %w", err)
	}
	if err := atomicfile.WriteFile(h.nextPath(uuid), record, 0o644); err != nil {
		return fmt.Errorf("keep record: %w", err)
	}
	return nil
}

// lineage is that of the record which the vTPM has, when that is the one that
// this host wrote last: nothing else was done to the state. Any other state is a
// copy, was put back, or comes from elsewhere, and gets a lineage of its own. A
// record that is half written is ours, if a Bind died on the way.
func (h *Host) lineage(t transport.TPM, uuid string) (string, error) {
	have, err := nv.ReadRecord(t)
	torn := errors.Is(err, nv.ErrNoRecord) || errors.Is(err, nv.ErrTorn)
	if err != nil && !torn {
		return "", err
	}
	for _, path := range []string{h.nextPath(uuid), h.recordPath(uuid)} {
		own, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read record: %w", err)
		}
		if !bytes.Equal(own, have) && !(torn && path == h.nextPath(uuid)) {
			continue
		}
		record, err := quote.ParseRecord(own)
		if err != nil {
			break
		}
		claims, err := quote.ParseClaims(record.Claims)
		if err != nil {
			break
		}
		return claims.Lineage, nil
	}
	return random16(), nil //nolint:nilerr // no whole record is a state that is not ours
}

// random16 is 16 random bytes in hex.
func random16() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// kept reads what keep wrote.
func (h *Host) kept(uuid string) (record []byte, eks []quote.EK, err error) {
	if record, err = os.ReadFile(h.recordPath(uuid)); err != nil {
		return nil, nil, fmt.Errorf("read record: %w", err)
	}
	keys, err := os.ReadFile(h.eksPath(uuid))
	if err != nil {
		return nil, nil, fmt.Errorf("read endorsement keys: %w", err)
	}
	if err := json.Unmarshal(keys, &eks); err != nil {
		return nil, nil, fmt.Errorf("read endorsement keys: %w", err)
	}
	return record, eks, nil
}

// readEKs reads what a vTPM says about its endorsement keys.
func readEKs(t transport.TPM) ([]quote.EK, error) {
	var eks []quote.EK
	for _, ek := range []struct {
		algorithm string
		handle    tpm2.TPMHandle
		index     tpm2.TPMHandle
	}{{quote.RSA2048, rsaEKHandle, rsaCertIndex}, {quote.ECCP384, eccEKHandle, eccCertIndex}} {
		data, err := nv.ReadIndex(t, uint32(ek.index))
		if err != nil {
			return nil, hint.Wrap(fmt.Errorf("read the vTPM's EK certificate: %w", err), "this vTPM was not made by ovsactl: destroy the role and apply it again")
		}
		der, err := quote.TrimCert(data)
		if err != nil {
			return nil, fmt.Errorf("read the vTPM's EK certificate: %w", err)
		}
		name, _, err := objectName(t, ek.handle)
		if err != nil {
			return nil, err
		}
		eks = append(eks, quote.EK{Algorithm: ek.algorithm, Cert: der, Name: name})
	}
	return eks, nil
}

// makeRecord has the host's TPM vouch for a VM and the keys of its vTPM.
func (h *Host) makeRecord(ctx context.Context, id Identity, eks []quote.EK, lineage string) ([]byte, error) {
	claims := quote.Claims{
		Version: 1, VMUUID: id.UUID, VMName: id.Name,
		Serial: random16(), Lineage: lineage, Time: h.opts.Now().UTC().Truncate(time.Second).Format(time.RFC3339),
	}
	for _, ek := range eks {
		sum := sha256.Sum256(ek.Cert)
		claims.EKs = append(claims.EKs, quote.EKClaim{Algorithm: ek.Algorithm, CertSHA256: hex.EncodeToString(sum[:]), Name: hex.EncodeToString(ek.Name)})
	}
	record := quote.Record{Simulated: h.simulated()}
	err := h.withHostTPM(ctx, func(t transport.TPM) error {
		self, err := h.self(t)
		if err != nil {
			return err
		}
		for _, c := range self.chain {
			record.EKChain = append(record.EKChain, c.Raw)
		}
		claims.HostID = self.id
		if record.Claims, err = claims.Marshal(); err != nil {
			return err
		}
		extra := quote.BindExtraData(record.Claims)
		key := tpm2.NamedHandle{Handle: akHandle, Name: tpm2.TPM2BName{Buffer: self.ak.name}}
		q, err := attest.Quote(t, key, quote.DefaultPCRs(), extra[:])
		if err != nil {
			return err
		}
		record.AK, record.Attest, record.Signature, record.PCRs = self.ak.public, q.Attest, q.Signature, q.PCRs
		return nil
	})
	if err != nil {
		return nil, err
	}
	// An attestation CA puts it there once it has activated a credential with
	// the host's EK.
	if certs, err := readCerts(h.akCertPath()); err == nil {
		record.AKCert = certs[0].Raw
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the host's AK certificate: %w", err)
	}
	return record.Marshal()
}

// check is the full verification short of what others have to grant: the
// enrolment of the AK, and trust in the TPM's vendor.
func (h *Host) check(ctx context.Context, record []byte, uuid string, eks []quote.EK) error {
	p, err := h.policy(ctx, uuid, eks, true)
	if err != nil {
		return err
	}
	return structural(quote.Verify(record, p))
}

// writeRecord replaces the record in a vTPM. The first index has the length of
// all, so it goes first and comes last: in between there is none, or a torn one.
func writeRecord(t transport.TPM, record []byte) error {
	chunks := nv.Chunks(record)
	if chunks == nil {
		return fmt.Errorf("the record has %d bytes, over the limit of %d", len(record), nv.Max)
	}
	for i := range nv.MaxIndices {
		if err := removeIndex(t, tpm2.TPMHandle(nv.Base+i)); err != nil {
			return err
		}
	}
	for i := len(chunks) - 1; i >= 0; i-- {
		if err := writeIndex(t, tpm2.TPMHandle(nv.Base+i), chunks[i]); err != nil {
			return err
		}
	}
	return nil
}
