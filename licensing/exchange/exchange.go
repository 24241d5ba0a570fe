// Package exchange is what a guest and a licence server say to each other: JSON
// in HTTP/1.1 over TLS 1.3.
//
// A proof is one Begin and one Finish on one connection. Begin names a licence
// and shows the guest's keys; the Challenge can be answered only by the TPM that
// has them. Finish brings the answer, a quote and the word of the attestation key
// that the release key is in the same TPM, all over one Nonce, and the customer's
// signature of it. The Grant holds the server's half of the model's key, for the
// release key alone. Then a lease is renewed, or given back, with a MAC by a key
// that came with the half.
package exchange

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Paths of the requests, which are all POSTs.
const (
	PathBegin  = "/v1/begin"
	PathFinish = "/v1/finish"
	PathRenew  = "/v1/renew"
	PathEnd    = "/v1/end"
)

// Sizes of requests and answers at most.
const (
	MaxBegin  = 32 << 10
	MaxFinish = 2 << 20
	MaxRenew  = 4 << 10
	MaxAnswer = 1 << 20
)

// Sizes of what the server chooses.
const (
	NonceSize   = 32
	SecretSize  = 32
	RenewalSize = 32 // of the key that renews a lease
)

// Begin asks for a challenge.
type Begin struct {
	Licence    licensing.GUID `json:"licence"`
	Model      licensing.GUID `json:"model"`
	Customer   []byte         `json:"customer"`    // the customer's secondary certificate, DER
	AK         []byte         `json:"ak"`          // TPMT_PUBLIC of the guest's attestation key
	EKs        [][]byte       `json:"eks"`         // certificates, DER, that of the RSA key first
	ReleaseKey []byte         `json:"release_key"` // TPMT_PUBLIC
}

// Challenge is the answer to Begin. It is good for one Finish, on the same
// connection, until it expires.
type Challenge struct {
	ID              string    `json:"id"`
	Nonce           []byte    `json:"nonce"`
	Credential      []byte    `json:"credential"`       // content of a TPM2B_ID_OBJECT
	EncryptedSecret []byte    `json:"encrypted_secret"` // content of a TPM2B_ENCRYPTED_SECRET
	Expires         time.Time `json:"expires"`
}

// Finish is the proof.
type Finish struct {
	ID            string              `json:"id"`
	Secret        []byte              `json:"secret"`        // out of the challenge's credential
	Evidence      []byte              `json:"evidence"`      // a marshalled quote.Evidence over Nonce
	Certification quote.Certification `json:"certification"` // of the release key, over Nonce
	Possession    []byte              `json:"possession"`    // the customer's secondary key's signature of Nonce
}

// Grant is the answer to Finish. Sealed is by quote.SealToRelease with the info
// of ReleaseInfo: the server's half of the model's key and after it the key that
// renews the lease.
type Grant struct {
	Sealed []byte `json:"sealed"`
	Lease  []byte `json:"lease"` // a signed Lease
}

// Renew asks for a lease to last longer, or for it to end: it is the request of
// both PathRenew and PathEnd.
type Renew struct {
	Lease string `json:"lease"` // its ID
	Guest string `json:"guest"`
	MAC   []byte `json:"mac"` // see RenewalMAC
}

// Renewed is the answer to Renew on PathRenew. The answer on PathEnd is {}.
type Renewed struct {
	Expires time.Time `json:"expires"` // when the lease ends now, in whole seconds
	MAC     []byte    `json:"mac"`     // see RenewedMAC
}

// ExporterLabel is that of the secret which both ends take from their TLS
// connection (RFC 8446, 7.5), without a context, 32 bytes: what is bound to it
// cannot be passed on through another connection.
const ExporterLabel = "EXPORTER-ovsa-licence-exchange/v1"

// ExporterSize is the size of the exported secret.
const ExporterSize = 32

// Nonce is what the guest's evidence, the certification of its release key and
// the customer's signature are over: SHA-256 of a label, then the server's nonce,
// the connection's exported secret and the TPM name of the release key, each
// after its length as 4 bytes big-endian.
func Nonce(server, exporter, releaseName []byte) []byte {
	h := sha256.New()
	h.Write([]byte("ovsa-exchange-nonce/v1\x00"))
	for _, part := range [][]byte{server, exporter, releaseName} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	return h.Sum(nil)
}

// ReleaseInfo is the info of a grant's encryption, from the proof's Nonce.
func ReleaseInfo(nonce []byte) []byte {
	return append([]byte("ovsa-exchange-grant/v1\x00"), nonce...)
}

// RenewalMAC proves that a request about a lease is by whom the grant was for:
// HMAC-SHA-256, by the key that came with the grant, of a label, the request's
// path, the lease's ID and the connection's exported secret, each after its length
// as 4 bytes big-endian.
func RenewalMAC(key []byte, path, lease string, exporter []byte) []byte {
	return mac(key, "ovsa-exchange-renewal/v1", []byte(path), []byte(lease), exporter)
}

// RenewedMAC proves that a lease's new end is by a server that could have made
// the grant, and not only by one that has the TLS key: HMAC-SHA-256 as in
// RenewalMAC, with a label of its own, of the lease's ID, the connection's
// exported secret and the end in seconds since 1970 UTC as 8 bytes big-endian.
func RenewedMAC(key []byte, lease string, exporter []byte, expires time.Time) []byte {
	return mac(key, "ovsa-exchange-renewed/v1", []byte(lease), exporter, binary.BigEndian.AppendUint64(nil, uint64(expires.Unix())))
}

func mac(key []byte, label string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(append([]byte(label), 0))
	for _, part := range parts {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write(part)
	}
	return h.Sum(nil)
}

// Code says why a request was refused, and stays the same in all versions.
type Code string

// The codes.
const (
	BadRequest    Code = "bad_request"    // not a request of this protocol
	NotAllowed    Code = "not_allowed"    // the proof or the licence is not good; only the server's log says which and why
	ChallengeOver Code = "challenge_over" // begin again
	LeaseOver     Code = "lease_over"     // it ended, another proof took its place, or it needs a new proof
	Revoked       Code = "revoked"
	Expired       Code = "expired"
	Exhausted     Code = "exhausted" // all instances are in use
	SlowDown      Code = "slow_down"
	Unavailable   Code = "unavailable" // try again, or another server
)

// Status is the HTTP status that a code comes with.
func (c Code) Status() int {
	switch c {
	case BadRequest:
		return http.StatusBadRequest
	case ChallengeOver, LeaseOver, Exhausted:
		return http.StatusConflict
	case SlowDown:
		return http.StatusTooManyRequests
	case Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusForbidden
}

// Sentence tells a person what a code means and what to do.
func (c Code) Sentence() string {
	switch c {
	case BadRequest:
		return "the request is not one of this protocol: server and guest may be of different versions"
	case ChallengeOver:
		return "the challenge was used, is over, or was for another connection: begin again"
	case LeaseOver:
		return "the lease is over: prove the guest's state anew"
	case Revoked:
		return "the licence, or something it depends on, was revoked: ask its vendor"
	case Expired:
		return "the licence's time is over: ask its vendor for another"
	case Exhausted:
		return "all instances of the licence are in use: end one, or wait until its lease is over"
	case SlowDown:
		return "too many requests: wait"
	case Unavailable:
		return "the server cannot decide now: try again"
	}
	return "the licence's key is not given to this guest: the server's log says why"
}

// Problem is the answer to a request that was refused.
type Problem struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Request string `json:"request"` // by which the server's log knows it
}

// Error is the message with what to look for in the server's log.
func (p *Problem) Error() string {
	return p.Message + " (" + string(p.Code) + ", request " + p.Request + ")"
}
