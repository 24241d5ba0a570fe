package provision

import (
	"crypto/sha1" // RFC 9562 version 5; no security rests on it
	"fmt"
	"strings"
)

// Pool is the libvirt storage pool of a host's guests.
const Pool = "ovsa"

// namespace is the UUID that domain UUIDs are derived under (RFC 9562, 5.5).
var namespace = [16]byte{0x7d, 0x1e, 0x1c, 0x52, 0x2f, 0x0b, 0x4a, 0x6e, 0x9c, 0x55, 0x0b, 0x31, 0x8a, 0x47, 0xe6, 0xd9}

// DomainName is the libvirt domain of a role.
func DomainName(role string) string { return "ovsa_" + role }

// HostName is what the guest calls itself: its domain's name as RFC 952 allows it.
func HostName(role string) string { return strings.ReplaceAll(DomainName(role), "_", "-") }

// DomainUUID is the UUID of a role's domain and of its vTPM: version 5, over
// the name of the host block and the role. It depends on nothing else, so it
// outlives the guest: a role made again has its old identity.
func DomainUUID(host, role string) string {
	h := sha1.New()
	h.Write(namespace[:])
	h.Write([]byte(host + "/" + role))
	u := h.Sum(nil)[:16]
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// diskVolume and seedVolume are the volumes that a role owns.
func diskVolume(role string) string { return DomainName(role) + "_vm_disk.qcow2" }
func seedVolume(role string) string { return DomainName(role) + "_seed.img" }
