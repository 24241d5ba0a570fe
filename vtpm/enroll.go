package vtpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/internal/roots"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Errors of enrolment.
var (
	ErrNoEKCert   = errors.New("the host's TPM has no EK certificate")
	ErrCredential = roots.ErrCredential // the challenge is for another TPM or AK
)

// Enrolment is what an attestation service has to know to certify the host's AK.
// It is public, and proves nothing until the host has answered a challenge, see
// quote.MakeCredential and Activate.
type Enrolment struct {
	HostID    string   `json:"host_id"`   // what the AK's certificate names, see quote.HostURI
	AK        []byte   `json:"ak"`        // TPMT_PUBLIC
	EKChain   [][]byte `json:"ek_chain"`  // DER, the EK's first, without the vendor's root
	Simulated bool     `json:"simulated"` // the TPM is a stand-in, as the host says
}

// Enrolment tells what the host's TPM is. It makes the AK where there is none.
func (h *Host) Enrolment(ctx context.Context) (Enrolment, error) {
	e := Enrolment{Simulated: h.simulated()}
	err := h.withHostTPM(ctx, func(t transport.TPM) error {
		self, err := h.self(t)
		if err != nil {
			return err
		}
		if len(self.chain) == 0 {
			return noEKCert()
		}
		e.HostID, e.AK = self.id, self.ak.public
		for _, c := range self.chain {
			e.EKChain = append(e.EKChain, c.Raw)
		}
		return nil
	})
	if err != nil {
		return Enrolment{}, fmt.Errorf("enrol host: %w", err)
	}
	return e, nil
}

func noEKCert() error {
	return hint.Wrap(ErrNoEKCert, "the host cannot be enrolled: some vendors give the certificate on their server only; ovsactl host check tells about the TPM")
}

// Activate answers a service's challenge to the EK and the AK of Enrolment.
func (h *Host) Activate(ctx context.Context, credential, encryptedSecret []byte) ([]byte, error) {
	var secret []byte
	err := h.withHostTPM(ctx, func(t transport.TPM) error {
		t = roots.Within(ctx, t)
		self, err := h.self(t)
		if err != nil {
			return err
		}
		if len(self.chain) == 0 {
			return noEKCert()
		}
		ek, err := certifiedEK(t, self.chain[0])
		if err != nil {
			return err
		}
		defer ek.Close(t)
		ak := tpm2.NamedHandle{Handle: akHandle, Name: tpm2.TPM2BName{Buffer: self.ak.name}}
		secret, err = roots.Activate(t, ak, ek, credential, encryptedSecret)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("enrol host: %w", err)
	}
	return secret, nil
}

// certifiedEK is the EK that cert is of.
func certifiedEK(t transport.TPM, cert *x509.Certificate) (roots.Key, error) {
	kind := tpm2.TPMAlgECC
	if _, ok := cert.PublicKey.(*rsa.PublicKey); ok {
		kind = tpm2.TPMAlgRSA
	}
	ek, err := roots.EndorsementKey(t, kind)
	if err != nil {
		return roots.Key{}, err
	}
	public, err := tpm2.Pub(ek.Public)
	if err == nil && !cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
		err = errors.New("the EK certificate in the TPM is of another key than the TPM's")
	}
	if err != nil {
		ek.Close(t)
		return roots.Key{}, err
	}
	return ek, nil
}

// InstallAKCert keeps the certificate that a service issued for the host's AK;
// from the next binding on it is in the records. It refuses one that verifiers
// would: of another key or host, for another purpose, not valid now, or by an
// authority that is not among this host's, when it has any. Issuers that are given
// become this host's when the certificate is kept; they are believed without a
// question, so they must not be the service's word alone.
func (h *Host) InstallAKCert(ctx context.Context, der []byte, issuers ...*x509.Certificate) error {
	known, err := h.trust(akTrust)
	if err != nil {
		return err
	}
	err = h.withHostTPM(ctx, func(t transport.TPM) error {
		self, err := h.self(t)
		if err != nil {
			return err
		}
		return quote.CheckAKCert(der, self.ak.public, self.id, append(known, issuers...), h.opts.Now())
	})
	if err != nil {
		return hint.Wrap(fmt.Errorf("install AK certificate: %w", err), "enrol the host again; the authorities that it trusts are in %s", h.dir(akTrust))
	}
	if err := h.trustAKIssuers(issuers); err != nil {
		return fmt.Errorf("install AK certificate: %w", err)
	}
	if err := writeCert(h.akCertPath(), der); err != nil {
		return fmt.Errorf("install AK certificate: %w", err)
	}
	return nil
}

// akTrust has the authorities whose certificates of AKs this host believes.
const akTrust = "ak-trust"

// TrustsAKIssuer says whether this host believes the certificates that an
// authority issues for AKs.
func (h *Host) TrustsAKIssuer(der []byte) (bool, error) {
	known, err := h.trust(akTrust)
	return slices.ContainsFunc(known, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, der) }), err
}

func (h *Host) trustAKIssuers(issuers []*x509.Certificate) error {
	for _, c := range issuers {
		known, err := h.TrustsAKIssuer(c.Raw)
		if err != nil {
			return err
		}
		if known {
			continue
		}
		if err := writeCert(h.dir(akTrust, fingerprint(c)+".pem"), c.Raw); err != nil {
			return err
		}
	}
	return nil
}

func writeCert(path string, der []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// self is who the host is.
type self struct {
	id    string
	ak    attestationKey
	chain []*x509.Certificate // empty when the TPM has no EK certificate
}

// self asks the host's TPM, and makes its AK where there is none.
func (h *Host) self(t transport.TPM) (self, error) {
	ak, err := ensureAK(t)
	if err != nil {
		return self{}, err
	}
	chain, err := h.ekChain(t)
	if err != nil {
		return self{}, err
	}
	var ekName []byte
	if len(chain) > 0 {
		if ekName, err = quote.EKName(chain[0].PublicKey); err != nil {
			return self{}, fmt.Errorf("name the host's EK: %w", err)
		}
	}
	return self{quote.HostID(ekName, ak.name), ak, chain}, nil
}
