package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// newVTPMCommand is `ovsactl vtpm`. Its verbs need the host's data directory
// and TPM, and no libvirt.
func newVTPMCommand(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vtpm",
		Short: "Look at, verify and renew the binding of virtual TPMs",
		Long: `The host's TPM vouches for the virtual TPM of each role, in a record that is
written into the virtual TPM before every start of the guest. These verbs show,
check and renew that record; libvirt is not needed.`,
	}
	cmd.AddCommand(newVTPMShowCommand(env), newVTPMVerifyCommand(env), newVTPMRebindCommand(env), newVTPMStandInCommand(env))
	return cmd
}

// roleTPM is the vTPM of one role.
type roleTPM struct {
	role string
	id   vtpm.Identity
	host *vtpm.Host
}

// openRoleTPM finds the vTPM of a role. Its name follows from the host's and
// the role's: neither the manifest's roles nor libvirt are asked.
func openRoleTPM(env Env, flags *hostFlags, role string) (roleTPM, error) {
	h, err := flags.resolve(env)
	if err != nil {
		return roleTPM{}, err
	}
	host, err := openTPM(h)
	if err != nil {
		return roleTPM{}, err
	}
	id := vtpm.Identity{UUID: provision.DomainUUID(h.Name, role), Name: provision.DomainName(role)}
	return roleTPM{role, id, host}, nil
}

// explain names the role and says what to do about what the user can repair.
func (r roleTPM) explain(err error) error {
	if err == nil {
		return nil
	}
	named := fmt.Errorf("role %q: %w", r.role, err)
	switch {
	case errors.Is(err, vtpm.ErrMissing):
		return hint.Wrap(named, "check the role's name; vTPMs are made by ovsactl apply")
	case errors.Is(err, vtpm.ErrRunning):
		return hint.Wrap(named, "shut the guest down first (ovsactl ssh %s -- sudo poweroff); its next start renews the binding by itself", r.role)
	}
	return named
}

func newVTPMShowCommand(env Env) *cobra.Command {
	var flags hostFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ROLE",
		Short: "Show what the host's TPM says about a role's vTPM",
		Long: `Shows the record in which the host's TPM vouches for a role's vTPM: the claims,
the digests of the endorsement keys, the host's PCRs, and whose TPM the host's
is; "simulated" when it is a software stand-in. Nothing is judged: vtpm verify
does that.`,
		Example: `  ovsactl vtpm show runtime
  ovsactl vtpm show runtime --json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeOneRole(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openRoleTPM(env, &flags, args[0])
			if err != nil {
				return err
			}
			info, err := r.host.Show(cmd.Context(), r.id.UUID)
			if err == nil && info.Status.Binding == vtpm.Missing {
				err = vtpm.ErrMissing
			}
			if err != nil {
				return r.explain(err)
			}
			if asJSON {
				return writeIndented(env.Stdout, struct {
					Role string `json:"role"`
					UUID string `json:"uuid"`
					vtpm.Info
				}{r.role, r.id.UUID, info})
			}
			return writeInfo(env.Stdout, r, info)
		},
	}
	flags.register(cmd)
	registerJSON(cmd, &asJSON)
	return cmd
}

func writeInfo(out io.Writer, r roleTPM, info vtpm.Info) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, visible.Text(value))
		}
	}
	line("role", r.role)
	line("virtual machine", r.id.UUID)
	line("binding", because(string(info.Status.Binding), info.Status.Reason))
	if !info.Status.BoundAt.IsZero() {
		line("bound at", info.Status.BoundAt.Format(time.RFC3339))
	}
	switch {
	case info.Status.Simulated:
		line("host TPM", because("simulated", info.Issuer))
	default:
		line("host TPM", info.Issuer)
	}
	line("host", info.Claims.HostID)
	line("host AK", info.AKName)
	for _, ek := range info.Claims.EKs {
		line("EK "+ek.Algorithm, "certificate sha256:"+ek.CertSHA256)
		line("", "name "+ek.Name)
	}
	if info.Clock != nil {
		line("host boots", fmt.Sprintf("%d resets, %d restarts", info.Clock.ResetCount, info.Clock.RestartCount))
	}
	for _, p := range info.PCRs {
		line(fmt.Sprintf("host PCR %d", p.Index), p.Digest)
	}
	if info.RawSize > 0 {
		line("record", fmt.Sprintf("%d bytes, from %s", info.RawSize, info.Source))
	}
	return w.Flush()
}

func newVTPMVerifyCommand(env Env) *cobra.Command {
	var flags hostFlags
	var asJSON, allowUnenrolled bool
	var evidence guestEvidence
	cmd := &cobra.Command{
		Use:   "verify ROLE",
		Short: "Verify a role's vTPM against the host's TPM, every step of it",
		Long: `Verifies the record in which the host's TPM vouches for a role's vTPM, offline,
and lists every step as passed, failed, warning or skipped. Exits 1 when one has
failed. While the guest is off the record is read from its vTPM, while it runs
from the copy that the host keeps.

With --quote it verifies what the guest says about itself, as printed by
ovsaruntime quote, for the nonce that it was asked with, and that the record in
it is the one that this host wrote.`,
		Example: `  ovsactl vtpm verify runtime --allow-unenrolled
  n=$(openssl rand -hex 32)
  ovsactl ssh runtime -- sudo /opt/ovsa/kvm/bin/ovsaruntime \
    quote --nonce $n > q.json
  ovsactl vtpm verify runtime --allow-unenrolled --quote q.json --nonce $n`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeOneRole(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openRoleTPM(env, &flags, args[0])
			if err != nil {
				return err
			}
			v, err := evidence.verify(cmd.Context(), env, r, allowUnenrolled)
			if err != nil {
				return r.explain(err)
			}
			if err := writeVerification(env.Stdout, r, v, asJSON); err != nil {
				return err
			}
			if !v.OK() {
				hintUnenrolled(env, v)
				return exitStatus(exitError)
			}
			return nil
		},
	}
	flags.register(cmd)
	evidence.register(cmd)
	cmd.Flags().BoolVar(&allowUnenrolled, "allow-unenrolled", false, "only warn when no attestation CA has certified the host's key")
	registerJSON(cmd, &asJSON)
	return cmd
}

// hintUnenrolled says what to do where nothing failed but the enrolment of the
// host's key.
func hintUnenrolled(env Env, v vtpm.Verification) {
	for _, s := range v.Steps {
		if s.Status == quote.Failed && !strings.HasSuffix(s.Name, quote.StepEnrolled) {
			return
		}
	}
	fmt.Fprintln(env.Stderr, "ovsactl: hint: ovsactl host enroll URL, or an enroll block in the manifest, has a licence server certify this host's key; until then --allow-unenrolled makes that a warning")
}

// guestEvidence is a guest's answer to a challenge, if there is one to verify.
type guestEvidence struct {
	file  string
	nonce string // hex
}

func (e *guestEvidence) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.file, "quote", "", "`file` with the guest's evidence, - for standard input")
	cmd.Flags().StringVar(&e.nonce, "nonce", "", "the `hex` nonce that the guest was asked with")
	cmd.MarkFlagsRequiredTogether("quote", "nonce")
}

// verify verifies the guest's evidence where there is one, else the record alone.
func (e *guestEvidence) verify(ctx context.Context, env Env, r roleTPM, allowUnenrolled bool) (vtpm.Verification, error) {
	if e.file == "" {
		return r.host.Verify(ctx, r.id.UUID, allowUnenrolled)
	}
	nonce, err := hex.DecodeString(e.nonce)
	if err != nil || len(nonce) < quote.MinNonce || len(nonce) > quote.MaxNonce {
		return vtpm.Verification{}, usageError(fmt.Sprintf("--nonce %q is not %d to %d bytes of hex", e.nonce, quote.MinNonce, quote.MaxNonce),
			"give the nonce that the guest was asked with")
	}
	data, err := interruptibly(ctx, func() ([]byte, error) { return e.read(env) })
	if err != nil {
		return vtpm.Verification{}, fmt.Errorf("read evidence: %w", err)
	}
	result, err := r.host.VerifyEvidence(ctx, r.id.UUID, data, nonce, allowUnenrolled)
	return vtpm.Verification{Source: "the guest's evidence", Result: result}, err
}

func (e *guestEvidence) read(env Env) ([]byte, error) {
	in := env.Stdin
	if e.file != "-" {
		f, err := os.Open(e.file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, quote.MaxEvidence+2)) // one more for a newline
	return trimNewline(data), err
}

// trimNewline drops the line end that printing evidence adds: evidence has one
// encoding and is parsed to the byte.
func trimNewline(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		return b[:n-1]
	}
	return b
}

func writeVerification(out io.Writer, r roleTPM, v vtpm.Verification, asJSON bool) error {
	if asJSON {
		return writeIndented(out, struct {
			Role string `json:"role"`
			UUID string `json:"uuid"`
			OK   bool   `json:"ok"`
			vtpm.Verification
		}{r.role, r.id.UUID, v.OK(), v})
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	count := make(map[quote.Status]int)
	for _, s := range v.Steps {
		count[s.Status]++
		line := fmt.Sprintf("%s\t%s", s.Status, s.Name)
		if s.Detail != "" {
			line += "\t" + visible.Text(s.Detail)
		}
		fmt.Fprintln(w, line)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	verdict := "verified"
	if !v.OK() {
		verdict = "NOT verified"
	}
	_, err := fmt.Fprintf(out, "role.%s is %s, from %s: %d passed, %d failed, %d warnings, %d skipped.\n", r.role, verdict, v.Source,
		count[quote.Passed], count[quote.Failed], count[quote.Warning], count[quote.Skipped])
	return err
}

func newVTPMRebindCommand(env Env) *cobra.Command {
	var flags hostFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rebind ROLE",
		Short: "Make the host's TPM vouch for a role's vTPM anew",
		Long: `Writes a new record into the NVRAM of a role's vTPM, as every start of its guest
does. The guest has to be off. Use it after the host's attestation key was
enrolled or its firmware was updated, when the guest is not to be started yet.`,
		Example:           `  ovsactl vtpm rebind runtime`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeOneRole(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := openRoleTPM(env, &flags, args[0])
			if err != nil {
				return err
			}
			if err := r.host.Bind(cmd.Context(), r.id); err != nil {
				return r.explain(err)
			}
			if asJSON {
				return writeIndented(env.Stdout, reboundJSON{r.role, r.id.UUID})
			}
			_, err = fmt.Fprintf(env.Stdout, "role.%s is bound to the host's TPM.\n", r.role)
			return err
		},
	}
	flags.register(cmd)
	registerJSON(cmd, &asJSON)
	return cmd
}

// reboundJSON is vtpm rebind --json.
type reboundJSON struct {
	Role string `json:"role"`
	UUID string `json:"uuid"`
}
