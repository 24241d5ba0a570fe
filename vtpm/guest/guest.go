// Package guest makes a guest's evidence: a quote of its vTPM for a verifier's
// nonce. It is all that a guest program needs of a TPM, and runs in the guest.
package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/attest"
	"github.com/ovsactl/ovsactl/vtpm/internal/roots"
	"github.com/ovsactl/ovsactl/vtpm/nv"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// DefaultTPM is the guest's TPM behind the kernel's resource manager.
const DefaultTPM = "/dev/tpmrm0"

// eventLog is where Linux gives the firmware's event log; root may read it.
const eventLog = "/sys/kernel/security/tpm0/binary_bios_measurements"

// NV indices of EK certificates, of the TCG EK Credential Profile.
const (
	nvRSACert = 0x01c00002
	nvECCCert = 0x01c00016
)

// Host is asked to vouch for a proof: a Port.
type Host interface {
	Attest(ctx context.Context, request quote.HostRequest) (*quote.HostQuote, error)
}

// Quote opens the TPM at path, see Open, and makes evidence for nonce, as Make
// does. The event log goes with it when path is a device and the log may be read.
func Quote(ctx context.Context, path string, nonce []byte, host Host) (quote.Evidence, error) {
	t, err := Open(ctx, path)
	if errors.Is(err, os.ErrNotExist) {
		return quote.Evidence{}, hint.Wrap(err, "this machine has no TPM there: give the role a vTPM in its manifest")
	}
	if err != nil {
		return quote.Evidence{}, err
	}
	defer t.Close()
	log, err := EventLog(path)
	if err != nil {
		return quote.Evidence{}, err
	}
	return Make(ctx, t, nonce, log, host)
}

// EventLog is the firmware's log of what it measured into the TPM at path; nil for a
// TPM that is not this machine's own device, and where the log may not be read.
func EventLog(path string) ([]byte, error) {
	if path != DefaultTPM {
		return nil, nil
	}
	return readLog(eventLog)
}

// Make makes evidence with a TPM that is open, for a nonce from quote.MinNonce to
// quote.MaxNonce bytes. It leaves nothing in the TPM. Without a host the evidence
// has no word of it, which servers do not take.
func Make(ctx context.Context, t transport.TPM, nonce, log []byte, host Host) (quote.Evidence, error) {
	if len(nonce) < quote.MinNonce || len(nonce) > quote.MaxNonce {
		return quote.Evidence{}, fmt.Errorf("quote for a nonce of %d bytes: want %d to %d", len(nonce), quote.MinNonce, quote.MaxNonce)
	}
	e, ak, err := quoteGuest(roots.Within(ctx, t), nonce, log)
	if err != nil || host == nil {
		return e, err
	}
	e.Host, err = host.Attest(ctx, quote.HostRequest{Version: 1, Nonce: nonce, AK: ak})
	return e, err
}

// quoteGuest makes all of the evidence that the guest's own TPM can give, and
// returns the name of the key that signed it.
func quoteGuest(t transport.TPM, nonce, log []byte) (e quote.Evidence, name []byte, err error) {
	record, err := nv.ReadRecord(t)
	if errors.Is(err, nv.ErrNoRecord) {
		return e, nil, hint.Wrap(err, "shut the guest down and start it again: each start binds its vTPM")
	}
	if err != nil {
		return e, nil, fmt.Errorf("read the host's record: %w", err)
	}
	certs, err := readCerts(t)
	if err != nil {
		return e, nil, err
	}
	ak, err := createAK(t)
	if err != nil {
		return e, nil, err
	}
	defer ak.flush(t)
	extra := quote.GuestExtraData(nonce, quote.Digest(record))
	signed, err := attest.Quote(t, ak.handle, quote.DefaultGuestPCRs(), extra[:])
	if err != nil {
		return e, nil, err
	}
	life, err := ak.certifyLife(t, nonce)
	if err != nil {
		return e, nil, err
	}
	return quote.Evidence{
		Version: 1, Nonce: nonce, Attest: signed.Attest, Signature: signed.Signature, PCRs: signed.PCRs,
		AK: ak.public, EKs: certs, EventLog: log, Record: record, Life: life,
	}, ak.handle.Name.Buffer, nil
}

// readCerts reads the EK certificates that the vTPM was made with.
func readCerts(t transport.TPM) ([][]byte, error) {
	var certs [][]byte
	for _, index := range []uint32{nvRSACert, nvECCCert} {
		data, err := nv.ReadIndex(t, index)
		if errors.Is(err, nv.ErrNoIndex) || errors.Is(err, tpm2.TPMRCNVUninitialized) {
			continue
		}
		if err != nil {
			return nil, err
		}
		der, err := quote.TrimCert(data)
		if err != nil {
			return nil, fmt.Errorf("read EK certificate at NV index %#x: %w", index, err)
		}
		certs = append(certs, der)
	}
	if len(certs) == 0 {
		return nil, hint.Wrap(errors.New("the TPM has no EK certificate"), "on the host, make the vTPM with ovsactl")
	}
	return certs, nil
}

// readLog reads the firmware's event log; one that is absent or kept from us is
// no log.
func readLog(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the event log: %w", err)
	}
	defer f.Close()
	log, err := io.ReadAll(io.LimitReader(f, quote.MaxLog+1))
	if err != nil {
		return nil, fmt.Errorf("read the event log: %w", err)
	}
	if len(log) > quote.MaxLog {
		return nil, fmt.Errorf("read the event log: over %d bytes", quote.MaxLog)
	}
	return log, nil
}
