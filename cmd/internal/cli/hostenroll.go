package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vtpm"
)

// enrolFlags say with whom and for what a host is enrolled.
type enrolFlags struct {
	ca     string
	pin    string
	issuer string
	roles  []string
	json   bool
}

func newHostEnrollCommand(env Env) *cobra.Command {
	var host hostFlags
	var flags enrolFlags
	cmd := &cobra.Command{
		Use:   "enroll URL",
		Short: "Have a licence server certify this host's attestation key",
		Long: `Proves to a licence server that this host's attestation key and its endorsement
key are in one TPM of a vendor that the server trusts, and keeps the certificate
that the server gives for it. Records that are made from then on carry it, and
vtpm verify needs no --allow-unenrolled.

The server is known by --ca, the authority of its certificate, or by --pin, the
SHA-256 of its public key; the system's web authorities are never asked. Get the
pin from the server's administrator, who has it from

    openssl x509 -in server.crt -noout -pubkey |
      openssl pkey -pubin -outform der | openssl sha256

The host's ID is printed before the server is asked, whatever comes of it: the
server's administrator puts it into hosts.allow.

--issuer is the attestation authority that issues the certificate, as its
administrator gave it to you: this host trusts it from then on. Nothing that the
server sends is trusted by itself. --vm limits the guests that this host may
vouch for; without it, to those that the server allows.`,
		Example: `  sudo ovsactl host enroll https://lic.example.org:4452 --ca server-ca.pem \
    --issuer attestation-ca.pem
  sudo ovsactl host enroll https://lic.example.org:4452 --pin $PIN --vm runtime`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runHostEnroll(cmd.Context(), env, &host, flags, args[0])
		},
	}
	host.register(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.ca, "ca", "", "`file` with the authority of the server's certificate")
	f.StringVar(&flags.pin, "pin", "", "SHA-256 of the server's public key (SubjectPublicKeyInfo), in `hex`")
	f.StringVar(&flags.issuer, "issuer", "", "`file` with the attestation authority, which this host is to trust")
	f.StringSliceVar(&flags.roles, "vm", nil, "a `role` that this host may vouch for; may be repeated")
	f.BoolVar(&flags.json, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("ca", "pin")
	return cmd
}

func runHostEnroll(ctx context.Context, env Env, host *hostFlags, flags enrolFlags, address string) error {
	trust, err := flags.trust()
	if err != nil {
		return err
	}
	var issuers []*x509.Certificate
	if flags.issuer != "" {
		if issuers, err = authorities(flags.issuer); err != nil {
			return err
		}
	}
	client, err := enrol.NewClient(address, trust)
	if errors.Is(err, enrol.ErrURL) {
		return usageError(err.Error(), "for example: https://lic.example.org:4452")
	}
	if err != nil {
		return err
	}
	h, err := host.resolve(env)
	if err != nil {
		return err
	}
	var vms []string
	for _, role := range flags.roles {
		vms = append(vms, provision.DomainUUID(h.Name, role))
	}
	tpm, err := openTPM(h)
	if err != nil {
		return err
	}
	// The server's administrator needs the ID, and most of all where enrolling fails.
	who, err := tpm.Enrolment(ctx)
	if err != nil {
		return fmt.Errorf("enrol with %s: %w", address, err)
	}
	fmt.Fprintf(env.Stderr, "This host's ID is %s.\n", who.HostID)
	e, err := enrollHost(ctx, tpm, who, client, vms, issuers)
	if err != nil {
		err = fmt.Errorf("enrol with %s: %w", address, explainEnrolment(err))
		if flags.json {
			err = errors.Join(err, writeIndented(env.Stdout, notEnrolled{who.HostID, who.Simulated, err.Error()}))
		}
		return err
	}
	if flags.json {
		return writeIndented(env.Stdout, e)
	}
	return e.write(env.Stdout)
}

// notEnrolled is a host that did not get a certificate, for programs.
type notEnrolled struct {
	HostID    string `json:"host_id"`
	Simulated bool   `json:"simulated"`
	Error     string `json:"error"`
}

// trust is the server that the flags name.
func (f enrolFlags) trust() (enrol.Trust, error) {
	switch {
	case f.ca != "":
		certs, err := authorities(f.ca)
		return enrol.Trust{Authorities: certs}, err
	case f.pin != "":
		pin, err := hex.DecodeString(strings.TrimPrefix(f.pin, "sha256:"))
		if err != nil || len(pin) != sha256.Size {
			return enrol.Trust{}, usageError(fmt.Sprintf("--pin %q is not a SHA-256 in hex", f.pin), "ovsactl host enroll --help tells how to get it")
		}
		return enrol.Trust{Pin: pin}, nil
	}
	return enrol.Trust{}, usageError("neither --ca nor --pin: nothing says which server is the right one",
		"on the server: openssl x509 -in server.crt -noout -pubkey | openssl pkey -pubin -outform der | openssl sha256")
}

func authorities(path string) ([]*x509.Certificate, error) {
	certs, err := pki.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for _, c := range certs {
		if !c.IsCA {
			return nil, hint.Wrap(fmt.Errorf("%q: %q is not an authority's certificate", path, c.Subject), "for a server's own certificate use --pin")
		}
	}
	return certs, nil
}

func explainEnrolment(err error) error {
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return hint.Wrap(err, "the server's certificate is of another authority than the one that was given for it")
	case errors.Is(err, enrol.ErrIdentity):
		return hint.Wrap(err, "ask the server's administrator for its pin; the server may have a new key, or this is another server")
	}
	return err
}

// enrolled is what a host got.
type enrolled struct {
	HostID    string    `json:"host_id"`
	Simulated bool      `json:"simulated"`
	Issuer    string    `json:"issuer"`
	IssuerSum string    `json:"issuer_sha256"`
	IssuerPEM string    `json:"issuer_pem"`
	Trusted   bool      `json:"issuer_trusted"` // by this host
	VMs       []string  `json:"vms"`            // none: any
	NotAfter  time.Time `json:"not_after"`
}

// enrollHost has a service certify the host's attestation key, and keeps the
// certificate.
func enrollHost(ctx context.Context, host *vtpm.Host, who vtpm.Enrolment, client *enrol.Client, vms []string, issuers []*x509.Certificate) (enrolled, error) {
	got, err := certifyHost(ctx, host, who, client, vms)
	if err != nil {
		return enrolled{}, err
	}
	if err := host.InstallAKCert(ctx, got.Certificate, issuers...); err != nil {
		return enrolled{}, err
	}
	return describe(host, who, got)
}

// certifyHost has a service certify the host's attestation key.
func certifyHost(ctx context.Context, host *vtpm.Host, who vtpm.Enrolment, client *enrol.Client, vms []string) (enrol.Certificate, error) {
	c, err := client.Begin(ctx, enrol.Request{
		Enrolment: enrol.Enrolment{HostID: who.HostID, AK: who.AK, EKChain: who.EKChain, Simulated: who.Simulated}, VMs: vms,
	})
	if err != nil {
		return enrol.Certificate{}, err
	}
	secret, err := host.Activate(ctx, c.Credential, c.EncryptedSecret)
	if err != nil {
		return enrol.Certificate{}, err
	}
	defer clear(secret)
	return client.Finish(ctx, enrol.Answer{ID: c.ID, Secret: secret})
}

func describe(host *vtpm.Host, who vtpm.Enrolment, got enrol.Certificate) (enrolled, error) {
	cert, err := x509.ParseCertificate(got.Certificate)
	if err != nil {
		return enrolled{}, err
	}
	issuer, err := x509.ParseCertificate(got.Issuers[0])
	if err != nil {
		return enrolled{}, fmt.Errorf("the issuer that the server sent: %w", err)
	}
	if !bytes.Equal(issuer.RawSubject, cert.RawIssuer) || cert.CheckSignatureFrom(issuer) != nil {
		return enrolled{}, errors.New("the issuer that the server sent did not issue the certificate")
	}
	e := enrolled{
		HostID: who.HostID, Simulated: who.Simulated, Issuer: issuer.Subject.String(), IssuerSum: pki.Fingerprint(issuer),
		IssuerPEM: string(pki.EncodePEM(issuer)), VMs: []string{}, NotAfter: cert.NotAfter,
	}
	for _, uri := range cert.URIs {
		if vm, ok := strings.CutPrefix(uri.String(), "urn:uuid:"); ok {
			e.VMs = append(e.VMs, vm)
		}
	}
	e.Trusted, err = host.TrustsAKIssuer(issuer.Raw)
	return e, err
}

func (e enrolled) write(out io.Writer) error {
	limit := "any virtual machine"
	if len(e.VMs) > 0 {
		limit = strings.Join(e.VMs, ", ")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "This host, %s,\nis enrolled until %s, by %s.\n", e.HostID, e.NotAfter.UTC().Format(time.RFC3339), visible.Text(e.Issuer))
	fmt.Fprintf(&b, "It may vouch for %s.\n", limit)
	if e.Simulated {
		b.WriteString("Its TPM is a stand-in, which proves nothing about hardware.\n")
	}
	if !e.Trusted {
		fmt.Fprintf(&b, `
This host does not trust that authority yet, and ovsactl vtpm verify fails here.
Its certificate's SHA-256 is
    %s
Compare it with the administrator's, and enrol again with --issuer FILE.
`, e.IssuerSum)
	}
	b.WriteString("\nGuests get the certificate with their next start, or at once, when they are off:\n    ovsactl vtpm rebind ROLE\n")
	_, err := io.WriteString(out, b.String())
	return err
}
