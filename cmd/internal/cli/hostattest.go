package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vtpm/attester"
)

// newHostAttestCommand is the host's attestation service.
func newHostAttestCommand(env Env) *cobra.Command {
	var host roles.Host
	var socket string
	cmd := &cobra.Command{
		Use:   "attest",
		Short: "Serve guests that prove themselves with fresh quotes of the host's TPM",
		Long: `Answers the guests of this host: for each proof that a guest gives to a licence
server, the host's TPM quotes the host's state anew, over the server's nonce, the
virtual machine and the guest's key. A copied virtual TPM gets no such quote
elsewhere, so it proves nothing.

Which guest asks follows from the QEMU process at the other end of the socket; a
guest can ask for nothing else, and only so often. systemd starts the service
when a guest connects (host prepare installs the units); without systemd, have it
run all the time: guests with a vTPM do not start without its socket. It needs
root.`,
		Example: `  sudo ovsactl host prepare
  sudo ovsactl host attest --data-dir /var/OVSA`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tpm, err := openTPM(host)
			if err != nil {
				return err
			}
			l, err := attestListener(cmd.Context(), socket)
			if err != nil {
				return err
			}
			s := attester.Service{
				Host: tpm, Log: slog.New(slog.NewTextHandler(env.Stderr, nil)),
				VM: func(pid int) (string, error) { return attestedVM(pid, host.DataDir) },
			}
			fmt.Fprintf(env.Stderr, "attestation service listens at %s\n", l.Addr())
			return s.Serve(cmd.Context(), l)
		},
	}
	cmd.Flags().StringVar(&host.DataDir, "data-dir", "/var/OVSA", "data directory")
	cmd.Flags().StringVar(&host.TPM, "tpm", "/dev/tpmrm0", "host TPM: a device, or unix:PATH")
	cmd.Flags().StringVar(&socket, "socket", vm.AttestSocket, "where to listen, when systemd has not opened a socket")
	return cmd
}

// attestedVM is the VM whose QEMU is a process, when it is ours, of this data
// directory.
func attestedVM(pid int, dataDir string) (string, error) {
	s, err := vm.OfProcess(pid)
	if err != nil {
		return "", err
	}
	return attested(s, dataDir)
}

// attested is the UUID of a domain that is ours and of a data directory: no other's
// guests are vouched for.
func attested(s vm.State, dataDir string) (string, error) {
	if !s.Ours || s.Metadata.DataDir != dataDir {
		return "", fmt.Errorf("domain %q is not of the data directory %q", s.Name, dataDir)
	}
	return s.UUID, nil
}

// attestListener is the socket that systemd has opened (sd_listen_fds(3)), or a
// new one at path. One that a dead service left there is removed; that of a living
// one is an error.
func attestListener(ctx context.Context, path string) (*net.UnixListener, error) {
	given, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take systemd's socket: %w", err)
	}
	if len(given) > 0 {
		l, ok := given[0].(*net.UnixListener)
		if len(given) != 1 || !ok {
			return nil, errors.New("take systemd's socket: want one UNIX stream socket")
		}
		l.SetUnlinkOnClose(false) // it is systemd's, and guests connect to it later
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		c.Close()
		return nil, hint.Wrap(fmt.Errorf("listen at %q: somebody does already", path), "see: systemctl status ovsactl-attest.socket")
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("attestation service: %w", err)
	}
	// Anybody may connect: who it is the kernel says, and QEMU's user differs from
	// one distribution to the next.
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, err
	}
	return l.(*net.UnixListener), nil
}
