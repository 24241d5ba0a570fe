package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"github.com/ovsactl/ovsactl/internal/remote"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
)

// openSite opens a host for the verbs that change it: the data directory is
// made where it is missing, and the key that guests let in.
func openSite(ctx context.Context, env Env, host roles.Host, packages packagesFlags) (*provision.Engine, func(), error) {
	// Not 0700: libvirt's QEMU, which is not root, passes through it to the disks.
	if err := os.MkdirAll(host.DataDir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("make data directory: %w", err)
	}
	engine, done, err := openSiteToRead(ctx, env, host, packages)
	if err != nil {
		return nil, nil, err
	}
	client, err := remote.Open(filepath.Join(host.DataDir, "ssh"))
	if err != nil {
		done()
		return nil, nil, err
	}
	engine.Remote = client
	return engine, done, nil
}

// openSiteToRead opens a host for the verbs that only look. Nothing is made.
func openSiteToRead(ctx context.Context, env Env, host roles.Host, packages packagesFlags) (*provision.Engine, func(), error) {
	images, err := openImages(env, host.DataDir)
	if err != nil {
		return nil, nil, err
	}
	tpm, err := openTPM(host)
	if err != nil {
		return nil, nil, err
	}
	hypervisor, err := vm.Open(ctx, host.URI, vm.Options{
		DataDir: host.DataDir,
		Reconnecting: func(err error) {
			fmt.Fprintf(env.Stderr, "ovsactl: connection to libvirt lost (%v), connecting again\n", err)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	return &provision.Engine{
		Hypervisor:  hypervisor,
		TPM:         tpm,
		Attestation: attestation{tpm},
		Images:      images,
		Packages:    packages.resolve(env),
		DataDir:     host.DataDir,
		Owner:       owner(),
	}, func() { hypervisor.Close() }, nil
}

// owner is who runs this, as user@host, for the record in the guest's domain.
func owner() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return name + "@" + host
}
