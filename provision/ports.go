package provision

import (
	"context"
	"crypto/x509"
	"io"
	"net/netip"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vm/image"
	"github.com/ovsactl/ovsactl/vtpm"
)

// Hypervisor is the libvirt door of one host; *vm.Host is the real one and
// vmtest.Host the one in memory. A method that makes something succeeds when it
// is there already as asked; one that removes succeeds when nothing is left.
// Errors about something that is not ours wrap vm.ErrForeign, and then nothing
// was touched.
type Hypervisor interface {
	// Domains describes every domain of the host in one bulk call, ours and
	// foreign (whose names, MACs and displays matter for conflicts).
	Domains(ctx context.Context) ([]vm.State, error)
	// Inspect describes one domain. A missing one is a State with Exists false.
	Inspect(ctx context.Context, name string) (vm.State, error)

	EnsurePool(ctx context.Context, pool vm.PoolSpec) error
	// EnsureBase uploads the base image's file (sparse, under a temporary name,
	// then renamed or recorded as complete) unless the pool has it, and returns
	// its volume's name, which is derived from the digest.
	EnsureBase(ctx context.Context, pool string, img image.Image, progress image.Progress) (string, error)
	// CreateOverlay makes a qcow2 volume of size bytes over the volume base.
	CreateOverlay(ctx context.Context, pool, name, base string, size uint64) error
	// WriteVolume makes a raw volume with these bytes, replacing an old one.
	WriteVolume(ctx context.Context, pool, name string, data []byte) error
	// DeleteVolume removes a volume.
	DeleteVolume(ctx context.Context, pool, name string) error
	// Volumes lists the names of a pool's volumes.
	Volumes(ctx context.Context, pool string) ([]string, error)

	// EnsureNetwork creates the NAT network or adopts one that agrees with spec,
	// and starts it.
	EnsureNetwork(ctx context.Context, spec vm.NetworkSpec) error
	// Reserve adds or replaces one fixed lease without disturbing others.
	Reserve(ctx context.Context, network string, r vm.Reservation) error
	// Unreserve removes the fixed lease of mac and what was leased under it.
	Unreserve(ctx context.Context, network, mac string) error

	// Define makes the domain match spec without starting it; a running domain
	// gets it at its next start.
	Define(ctx context.Context, spec vm.Spec) error
	// SetMetadata replaces our metadata, in the definition and the running domain.
	SetMetadata(ctx context.Context, name string, m vm.Metadata) error
	Start(ctx context.Context, name string) error
	// Stop shuts the guest down, and forces it off when it does not follow.
	Stop(ctx context.Context, name string) error
	// Undefine forces the domain off and removes it with NVRAM, vTPM state,
	// managed save and snapshots.
	Undefine(ctx context.Context, name string) error

	// HostKeys waits until the guest has announced its SSH host keys over its
	// virtio-serial channel, which only the host can read, and returns them.
	HostKeys(ctx context.Context, name string) ([]string, error)
	// SerialTail returns the end of the guest's serial log, for error messages.
	SerialTail(ctx context.Context, name string, lines int) ([]string, error)

	// Accelerator resolves "auto": it proves that KVM runs a guest's kernel
	// before it relies on it, remembers the answer and gives the reason.
	Accelerator(ctx context.Context, want string, kernel string) (vm.Accel, string, error)
}

// TPMHost is the host door for virtual TPMs: what libvirt cannot do.
type TPMHost interface {
	// Manufacture makes the vTPM state of the VM: EKs, certificates from the
	// host's CA. It leaves complete state alone, so it is idempotent and never
	// changes an identity.
	Manufacture(ctx context.Context, id vtpm.Identity) error
	// Bind writes a new record into the NVRAM of the vTPM of a guest that is off.
	// The start hook does the same, so that every later start renews it.
	Bind(ctx context.Context, id vtpm.Identity) error
	// Status describes the vTPM and its binding. Missing state is not an error.
	Status(ctx context.Context, uuid string) (vtpm.Status, error)
	// Remove deletes all vTPM state of the VM.
	Remove(ctx context.Context, uuid string) error
}

// Attestation is what makes others believe the host's TPM. It is used where the
// manifest says who certifies the host, and when such a guest is removed.
type Attestation interface {
	// AKCertificate looks at what the host has. It makes nothing.
	AKCertificate(ctx context.Context) (vtpm.AKCertificate, error)
	// Enrolment tells who the host is.
	Enrolment(ctx context.Context) (vtpm.Enrolment, error)
	// VendorRoot is whom to believe for this host's TPM to be a real one, of those
	// that the host believes.
	VendorRoot(ctx context.Context) (*x509.Certificate, error)
	// Enrol has a server certify the host's attestation key, and keeps the
	// certificate. A server that does not answer is ErrNotAnswering.
	Enrol(ctx context.Context, server AttestationServer) error
	// Distrust forgets an authority, by the SHA-256 of its certificate in hex, and
	// what it has certified. One that is not known is no error.
	Distrust(id string) error
}

// Images is the image cache.
type Images interface {
	// Lookup returns a cached image, false when it has to be made first.
	Lookup(ctx context.Context, src image.Source) (image.Image, bool, error)
	// Ensure builds or fetches what is missing.
	Ensure(ctx context.Context, src image.Source, progress image.Progress) (image.Image, error)
}

// Remote reaches guests over SSH with verified host keys.
type Remote interface {
	// Dial connects once the guest answers, until ctx ends. hostKeys are the
	// only keys it accepts, in authorized_keys format.
	Dial(ctx context.Context, addr netip.Addr, user string, hostKeys []string) (Guest, error)
	// AuthorizedKey is the public key that guests must let in.
	AuthorizedKey() string
	// Remember writes the guest's keys to the known_hosts file, Forget removes them.
	Remember(name string, addr netip.Addr, hostKeys []string) error
	Forget(name string, addr netip.Addr) error
}

// Guest is one connection to a guest. It is an alias, so that the package that
// connects declares the same interface without importing this one.
type Guest = interface {
	// Run runs argv (never a shell string built from data) and copies its output.
	// A non-zero exit is a *remote.ExitError, which has an ExitCode() int.
	Run(ctx context.Context, argv []string, stdin io.Reader, stdout, stderr io.Writer) error
	Close() error
}

// Packages finds the component tarballs that are ours. For a user's own there
// is component.File.
type Packages interface {
	// Open returns the tarball of a component with its version and digest.
	Open(component string) (Package, error)
}

// Package is a component's tarball, whose listing has been checked. Its Dir
// has the installer: extract it in an empty directory of root's and run
// Dir/install.sh there as root.
type Package = component.Package
