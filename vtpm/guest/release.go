package guest

import (
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/attest"
	"github.com/ovsactl/ovsactl/vtpm/internal/roots"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// ErrPolicy says that registers are not what they were when a key was made.
var ErrPolicy = errors.New("the PCR policy does not hold")

// ReleaseKey is a key that a TPM made for one proof, to receive secrets with. It
// works only while registers are as they were when it was made, and is gone when
// it is closed or the TPM restarts. Like its TPM it is for one goroutine.
type ReleaseKey struct {
	tpm    transport.TPM
	pcrs   []int
	key    roots.Key
	public *ecdh.PublicKey
}

// NewReleaseKey makes a release key under the values that registers of the
// SHA-256 bank have now: a selection as quote.ValidSelection has it.
func NewReleaseKey(ctx context.Context, t transport.TPM, pcrs []int) (*ReleaseKey, error) {
	k, err := newReleaseKey(roots.Within(ctx, t), pcrs)
	if err != nil {
		return nil, fmt.Errorf("make release key: %w", err)
	}
	k.tpm = t
	return k, nil
}

func newReleaseKey(t transport.TPM, pcrs []int) (*ReleaseKey, error) {
	if err := quote.ValidSelection(pcrs); err != nil {
		return nil, err
	}
	values, err := attest.ReadPCRs(t, pcrs)
	if err != nil {
		return nil, err
	}
	policy, err := quote.PolicyPCRDigest(values)
	if err != nil {
		return nil, err
	}
	template, err := releaseTemplate(policy)
	if err != nil {
		return nil, err
	}
	key, err := roots.Create(t, tpm2.TPMRHEndorsement, template)
	if err != nil {
		return nil, err
	}
	public, err := ecdhKey(key.Public)
	if err != nil {
		key.Close(t)
		return nil, err
	}
	return &ReleaseKey{pcrs: append([]int{}, pcrs...), key: key, public: public}, nil
}

// releaseTemplate is what quote.VerifyCertify insists on. A primary key is a
// function of its whole template, so random bytes in it, which nobody keeps,
// make it another key each time.
func releaseTemplate(policy []byte) (tpm2.TPMTPublic, error) {
	random := make([]byte, 64)
	if _, err := rand.Read(random); err != nil {
		return tpm2.TPMTPublic{}, err
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, NoDA: true, Decrypt: true,
		},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDH,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDH, &tpm2.TPMSKeySchemeECDH{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: random[:32]}, Y: tpm2.TPM2BECCParameter{Buffer: random[32:]},
		}),
	}, nil
}

func ecdhKey(pub tpm2.TPMTPublic) (*ecdh.PublicKey, error) {
	parms, err := pub.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	point, err := pub.Unique.ECC()
	if err != nil {
		return nil, err
	}
	return tpm2.ECDHPub(parms, point)
}

// Close removes the key from the TPM.
func (k *ReleaseKey) Close() { k.key.Close(k.tpm) }

// Public is the key's TPMT_PUBLIC.
func (k *ReleaseKey) Public() []byte { return tpm2.Marshal(k.key.Public) }

// Name is the key's TPM name, which a Certification is about.
func (k *ReleaseKey) Name() []byte { return append([]byte{}, k.key.Name.Buffer...) }

// Certify has the TPM's attestation key, that of Identify, say for a verifier's
// nonce that the release key is in the TPM.
func (k *ReleaseKey) Certify(ctx context.Context, nonce []byte) (quote.Certification, error) {
	if len(nonce) < quote.MinNonce || len(nonce) > quote.MaxNonce {
		return quote.Certification{}, fmt.Errorf("certify release key for a nonce of %d bytes: want %d to %d", len(nonce), quote.MinNonce, quote.MaxNonce)
	}
	t := roots.Within(ctx, k.tpm)
	ak, err := createAK(t)
	if err != nil {
		return quote.Certification{}, err
	}
	defer ak.flush(t)
	c, err := ak.certify(t, tpm2.NamedHandle{Handle: k.key.Handle, Name: k.key.Name}, quote.ReleaseExtraData(nonce))
	if err != nil {
		return quote.Certification{}, fmt.Errorf("certify release key: %w", err)
	}
	c.Public = k.Public()
	return c, nil
}

// Open opens what quote.SealToRelease made with the same info.
func (k *ReleaseKey) Open(ctx context.Context, info, sealed []byte) ([]byte, error) {
	priv, err := hpke.NewDHKEMPrivateKey(exchanger{ctx, k})
	if err != nil {
		return nil, fmt.Errorf("open what was released: %w", err)
	}
	kdf, aead := quote.ReleaseSuite()
	plain, err := hpke.Open(priv, kdf, aead, info, sealed)
	if err != nil {
		return nil, fmt.Errorf("open what was released: %w", err)
	}
	return plain, nil
}

// exchanger is the key as crypto/hpke wants it, for the time of one call.
type exchanger struct {
	ctx context.Context
	key *ReleaseKey
}

var _ ecdh.KeyExchanger = exchanger{}

func (e exchanger) PublicKey() *ecdh.PublicKey { return e.key.public }
func (e exchanger) Curve() ecdh.Curve          { return e.key.public.Curve() }

// ECDH has the TPM agree on a secret, which only we can read on the way back.
func (e exchanger) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	k, t := e.key, roots.Within(e.ctx, e.key.tpm)
	x, y, err := coordinates(peer)
	if err != nil {
		return nil, err
	}
	srk, err := roots.StorageRoot(t)
	if err != nil {
		return nil, err
	}
	defer srk.Close(t)
	session, done, err := srk.HideAnswerUnder(t, k.pcrs)
	if err != nil {
		return nil, err
	}
	defer done()
	rsp, err := tpm2.ECDHZGen{
		KeyHandle: tpm2.AuthHandle{Handle: k.key.Handle, Name: k.key.Name, Auth: session},
		InPoint: tpm2.New2B(tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y},
		}),
	}.Execute(t)
	if errors.Is(err, tpm2.TPMRCPolicyFail) || errors.Is(err, tpm2.TPMRCPCRChanged) {
		return nil, hint.Wrap(fmt.Errorf("%w: PCRs %v changed since the key was made: %w", ErrPolicy, k.pcrs, err),
			"something was measured after the guest's boot: start the guest again")
	}
	if err != nil {
		return nil, err
	}
	z, err := rsp.OutPoint.Contents()
	if err != nil {
		return nil, err
	}
	if len(z.X.Buffer) > fieldSize {
		return nil, fmt.Errorf("the TPM gave a secret of %d bytes", len(z.X.Buffer))
	}
	// TPMs may leave leading zeros out.
	return append(make([]byte, fieldSize-len(z.X.Buffer), fieldSize), z.X.Buffer...), nil
}

const fieldSize = 32 // bytes of a coordinate on P-256

func coordinates(key *ecdh.PublicKey) (x, y []byte, err error) {
	b := key.Bytes()
	if key.Curve() != ecdh.P256() || len(b) != 1+2*fieldSize {
		return nil, nil, errors.New("not a point on P-256")
	}
	return b[1 : 1+fieldSize], b[1+fieldSize:], nil
}
