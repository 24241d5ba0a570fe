// Package vtpm makes virtual TPMs under swtpm and binds them to the host's TPM.
//
// [Host.Manufacture] builds a vTPM's state (endorsement keys, certificates from
// the host's own CA) where libvirt expects it; [Host.Bind] writes into its NVRAM
// a record in which the host's TPM vouches for it. The record and its
// verification are in vtpm/quote, which does no I/O.
package vtpm

import "time"

// Identity names a vTPM: the VM it belongs to.
type Identity struct {
	UUID string // the domain's UUID
	Name string // the domain's name, for the certificates' subject
}

// Binding says how a vTPM stands to the host's TPM.
type Binding string

const (
	Missing Binding = "missing" // there is no vTPM state
	Unbound Binding = "unbound" // state without a record
	Bound   Binding = "bound"   // the record verifies and is of this boot of the host
	Stale   Binding = "stale"   // the record is of an earlier boot of the host, or of other keys
)

// Status describes a vTPM without starting it.
type Status struct {
	Binding   Binding   `json:"binding"`
	Simulated bool      `json:"simulated"`                // the host TPM is a stand-in
	Issuer    string    `json:"host_ek_issuer,omitempty"` // of the host TPM's EK certificate
	BoundAt   time.Time `json:"bound_at,omitzero"`        // zero when unbound
	Reason    string    `json:"reason,omitempty"`         // why it is stale or unbound
	Certified bool      `json:"certified"`                // the record has the certificate that the host's attestation key has now
}
