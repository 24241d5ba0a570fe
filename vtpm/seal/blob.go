package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Limits and names of the encoding.
const (
	MaxSecret = 128     // bytes that can be sealed
	MaxBlob   = 8 << 10 // bytes of a marshalled Blob

	version  = 1
	template = "tcg-srk-ecc-p256" // TCG TPM v2.0 Provisioning Guidance, 7.5.1
	bank     = "sha256"
)

// Blob is a sealed secret. It is of no use without the TPM that made it, and
// says nothing of the secret but its size. Nothing in it proves who sealed it.
type Blob struct {
	parent  []byte      // name of the storage root key
	pcrs    []quote.PCR // what the registers were when it was sealed
	public  []byte      // TPMT_PUBLIC
	private []byte      // TPM2B_PRIVATE's buffer
}

// document is a Blob's encoding.
type document struct {
	Version  int         `json:"version"`
	Template string      `json:"parent_template"`
	Parent   []byte      `json:"parent"`
	Bank     string      `json:"bank"`
	PCRs     []quote.PCR `json:"pcrs"`
	Policy   []byte      `json:"policy"`
	Public   []byte      `json:"public"`
	Private  []byte      `json:"private"`
}

// PCRs are the registers that must be as they were to unseal, none when any
// state will do.
func (b *Blob) PCRs() []int {
	var pcrs []int
	for _, p := range b.pcrs {
		pcrs = append(pcrs, p.Index)
	}
	return pcrs
}

// Policy is the policy digest that the TPM enforces, empty when any state of its
// registers will do.
func (b *Blob) Policy() []byte {
	if len(b.pcrs) == 0 {
		return []byte{}
	}
	// Both ways to a Blob have computed it before, without an error.
	digest, _ := quote.PolicyPCRDigest(b.pcrs)
	return digest
}

// Marshal returns the one encoding of b that ParseBlob accepts: JSON.
func (b *Blob) Marshal() ([]byte, error) {
	out, err := json.Marshal(document{
		Version: version, Template: template, Parent: b.parent, Bank: bank, PCRs: append([]quote.PCR{}, b.pcrs...),
		Policy: b.Policy(), Public: b.public, Private: b.private,
	})
	if err != nil {
		return nil, fmt.Errorf("encode sealed secret: %w", err)
	}
	return out, nil
}

// ParseBlob parses what Marshal made, and nothing else: unknown, repeated or
// differently spelled fields, other spacing and trailing bytes are refused, and
// so is an object that the TPM would give to whoever asks although the blob
// names registers.
func ParseBlob(data []byte) (*Blob, error) {
	b, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("parse sealed secret: %w", err)
	}
	return b, nil
}

func parse(data []byte) (*Blob, error) {
	if len(data) > MaxBlob {
		return nil, fmt.Errorf("%d bytes, over the limit of %d", len(data), MaxBlob)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	if d.Version != version || d.Template != template || d.Bank != bank {
		return nil, fmt.Errorf("version %d with parent %q and bank %q: want %d, %q and %q", d.Version, d.Template, d.Bank, version, template, bank)
	}
	b := &Blob{parent: d.Parent, pcrs: d.PCRs, public: d.Public, private: d.Private}
	if err := b.check(); err != nil {
		return nil, err
	}
	again, err := b.Marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, errors.New("not the canonical encoding (unknown, repeated or misplaced fields, or stray bytes)")
	}
	return b, nil
}

// check insists that the public area is what Seal makes under this policy.
func (b *Blob) check() error {
	var policy []byte
	if len(b.pcrs) > 0 {
		var err error
		if policy, err = quote.PolicyPCRDigest(b.pcrs); err != nil {
			return err
		}
	}
	if len(b.parent) != nameSize {
		return fmt.Errorf("the parent's name has %d bytes", len(b.parent))
	}
	want := tpm2.Marshal(object(policy))
	const idSize = 2 + 32 // its last field, which the TPM fills: a digest
	head := want[:len(want)-2]
	if len(b.public) != len(head)+idSize || !bytes.HasPrefix(b.public, head) || b.public[len(head)] != 0 || b.public[len(head)+1] != 32 {
		return errors.New("the public area is not that of a sealed secret under these registers")
	}
	if len(b.private) == 0 || len(b.private) > 1024 {
		return fmt.Errorf("the private area has %d bytes", len(b.private))
	}
	return nil
}

const nameSize = 2 + 32

// object is the template of a sealed secret. Without a policy it is used with an
// empty password, which needs no protection against guessing.
func object(policy []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, NoDA: true,
			UserWithAuth: len(policy) == 0, AdminWithPolicy: len(policy) > 0,
		},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policy},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{}),
	}
}
