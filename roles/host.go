package roles

import (
	"cmp"
	"net/url"
	"path/filepath"
	"strings"
)

// decodeHost reads the host block but for its enroll block, or makes the host
// without one.
func (l *loader) decodeHost() Host {
	host := Host{
		Name:    l.hostName,
		URI:     "qemu:///system",
		DataDir: "/var/OVSA",
		Accel:   "auto",
		TPM:     cmp.Or(l.opts.DefaultTPM, "/dev/tpmrm0"),
	}
	if l.host == nil {
		return host
	}
	f := l.open(l.host, []string{"uri", "data_dir", "accel", "tpm"}, []string{"enroll"})
	host.Range = l.host.DefRange
	host.URI = f.text("uri", host.URI)
	if u, err := url.Parse(host.URI); err != nil || u.Scheme == "" {
		f.hideLogin("uri", host.URI)
		f.fail("uri", "Invalid libvirt URI", `A libvirt URI is written as "qemu:///system" or "qemu+ssh://root@host/system".`)
	} else if _, secret := u.User.Password(); secret {
		f.hideLogin("uri", host.URI)
		f.fail("uri", "Password in a URI", "URIs are shown in messages, so they cannot hold a password.")
	}
	host.DataDir = f.text("data_dir", host.DataDir)
	if !filepath.IsAbs(host.DataDir) || filepath.Clean(host.DataDir) == "/" {
		f.fail("data_dir", "Unsuitable directory", `The data directory is an absolute path of its own, such as "/var/OVSA".`)
	}
	host.DataDir = filepath.Clean(host.DataDir)
	host.Accel = f.oneOf("accel", "auto", "kvm", "tcg")
	host.TPM = f.text("tpm", host.TPM)
	if !filepath.IsAbs(strings.TrimPrefix(host.TPM, "unix:")) {
		f.fail("tpm", "Unsuitable TPM", `The host's TPM is a device such as "/dev/tpmrm0", or "unix:" and the absolute path of a stand-in's socket.`)
	}
	return host
}
