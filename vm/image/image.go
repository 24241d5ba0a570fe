// Package image keeps base disk images: it builds them from distribution
// packages or fetches and verifies them, and caches them by digest. Nothing in
// the cache is ever changed in place.
package image

// FirstBoot is how a guest made from an image gets its identity.
type FirstBoot string

const (
	// Credentials: our own images read systemd credentials from SMBIOS.
	Credentials FirstBoot = "credentials"
	// CloudInit: NoCloud seed on a disk labelled cidata.
	CloudInit FirstBoot = "cloud-init"
)

// Image is a verified disk image in the cache.
type Image struct {
	Name      string // as it was asked for
	Digest    string // identity: "sha256:..." of the inputs (built) or of the fetched file
	Path      string // absolute, qcow2 or raw, read-only
	Format    string // "qcow2" or "raw"
	Virtual   uint64 // bytes, virtual size
	FirstBoot FirstBoot
	// Kernel, Initrd and Cmdline serve direct kernel boot and the accelerator
	// probe; empty for images that are not ours.
	Kernel, Initrd, Cmdline string
}

// Source says where an image comes from; exactly one of Build, URL and File is set.
type Source struct {
	Name   string
	Build  *Build
	URL    string // http, https or file
	File   string
	SHA256 string // lower-case hex; required with URL
}

// Build is the input of an image build. Its digest, with that of everything
// embedded that shapes the image, is the built image's identity.
type Build struct {
	Suite    string
	Mirror   string
	Packages []string
	Disabled []string // units of these packages that are not to start by themselves
	Size     uint64
}

// Progress is told about long work. Total is 0 when it is not known. It may be
// called from any goroutine and must not block.
type Progress func(stage string, done, total int64)
