package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/standin"
)

func newVTPMStandInCommand(env Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stand-in DIR",
		Short: "Play a host and a guest's vTPM, to try licensing out without libvirt",
		Long: `Runs a simulated host's TPM and the virtual TPM of a guest that it vouches for,
with all that they are in DIR, until it is interrupted. It says what to set, so
that ovsaruntime and ovsatool take the guest's TPM for theirs. It needs neither
libvirt nor root nor a TPM.

Everything of it is marked as simulated, and proves nothing about hardware: a
licence server gives it keys only when somebody makes the server believe the
maker in DIR/vendor.pem. The guest is the same after each start, and each start
is a boot of its host. A certificate of host enroll is in its record from the
next start on.`,
		Example: `  ovsactl vtpm stand-in ~/stand-in
  ovsactl vtpm stand-in ~/stand-in --json > stand-in.json &`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runStandIn(cmd.Context(), env, args[0], asJSON)
		},
	}
	registerJSON(cmd, &asJSON)
	return cmd
}

func runStandIn(ctx context.Context, env Env, dir string, asJSON bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("start stand-in: %w", err)
	}
	id := vtpm.Identity{UUID: provision.DomainUUID("stand-in "+dir, "runtime"), Name: "stand-in"}
	s, err := standin.Start(ctx, dir, id)
	if errors.Is(err, standin.ErrBusy) {
		return hint.Wrap(err, "use it, end it, or name another directory")
	}
	if err != nil {
		return err
	}
	defer s.Stop()
	told := standsIn{true, id.UUID, s.GuestTPM, s.Port, s.HostID, s.HostTPM, s.DataDir, s.Vendor}
	if asJSON {
		err = writeIndented(env.Stdout, told)
	} else {
		err = told.write(env.Stdout)
	}
	return errors.Join(err, s.Wait(ctx))
}

// standsIn is a stand-in that runs.
type standsIn struct {
	Simulated bool   `json:"simulated"`
	VM        string `json:"vm"`
	TPM       string `json:"tpm"`       // the guest's, for OVSA_TPM
	HostPort  string `json:"host_port"` // the guest's to its host, for OVSA_HOST_PORT
	HostID    string `json:"host_id"`
	HostTPM   string `json:"host_tpm"`
	DataDir   string `json:"data_dir"`
	Vendor    string `json:"vendor"`
}

func (s standsIn) write(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, `A simulated guest runs on a simulated host. It proves nothing about hardware.

virtual machine  %s
host             %s

Programs of guests take its TPM, and its port to the host, with

    export OVSA_TPM=%s
    export OVSA_HOST_PORT=%s

A licence server believes it, and enrols its host, when its administrator says so:

    license_server trust add -for tpm-vendor %s
    license_server hosts allow %s
    ovsactl host enroll https://SERVER:4452 --pin PIN \
      --data-dir %s --tpm %s

and then start this again, so that its record has the certificate. Ctrl-C ends it.
`, s.VM, s.HostID, shellWord(s.TPM), shellWord(s.HostPort), shellWord(s.Vendor), s.HostID, shellWord(s.DataDir), shellWord(s.HostTPM))
	_, err := io.WriteString(out, b.String())
	return err
}

// shellWord is a word that people may copy into a shell.
func shellWord(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/:._-+=,@", r)
	}) {
		return "'" + strings.ReplaceAll(visible.Line(s), "'", `'\''`) + "'"
	}
	return s
}
