package provision

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/dag"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/vm"
	"github.com/ovsactl/ovsactl/vtpm"
)

// EnrolPlan says that the host's attestation key is going to be certified.
type EnrolPlan struct {
	Server string `json:"server"` // "role.NAME", or an address
	Reason string `json:"reason"` // why it is not enough what there is
	// Vendor is the maker of the host's TPM whom the role's licence server is told to
	// believe. An address's administrator does that.
	Vendor    string `json:"tpm_vendor,omitempty"`
	Simulated bool   `json:"simulated,omitempty"` // the TPM is a stand-in

	vendor *x509.Certificate // nil where nobody is told
}

// enrolStep is when the host has its certificate.
const enrolStep = "host/enrolled"

// The change of a guest that gets the host's certificate, and of the one that has
// the licence server.
const (
	certificateAttribute = "vtpm.host_certificate"
	allowedAttribute     = "license_server.host"
)

// planEnrolment plans to have the host certified, where the manifest says by whom
// and what it has is not that or not for long, and to renew the bindings of the
// guests that lack the certificate.
func (e *Engine) planEnrolment(ctx context.Context, m *roles.Manifest, p *Plan) error {
	if m.Host.Enroll == nil {
		return nil
	}
	has, err := e.Attestation.AKCertificate(ctx)
	if err != nil {
		return fmt.Errorf("enrol host: %w", err)
	}
	p.certified = has.Problem == ""
	server := p.role(m.Host.Enroll.Role)
	// Without its licence server, which is not among the targets or cannot be made,
	// the host stays as it is.
	if m.Host.Enroll.Role == "" || server != nil && server.Action != Blocked {
		if p.Enrol, err = e.planCertificate(ctx, m, has, server); err != nil {
			return fmt.Errorf("enrol host: %w", err)
		}
	}
	for i := range p.Roles {
		rp := &p.Roles[i]
		if p.Enrol == nil || rp.Action != NoAction && rp.Action != Update {
			continue
		}
		if rp.role.VTPM != nil {
			rp.renewBinding("renewed")
		}
		if rp == server {
			rp.Changes = append(rp.Changes, Change{allowedAttribute, "", "allowed", InPlace})
			if rp.Action == NoAction {
				rp.Action = Update
			}
		}
	}
	return nil
}

// renewBinding makes a guest that may go on as it is start again, for its record to
// be written anew.
func (rp *RolePlan) renewBinding(what string) {
	rp.Action, rp.renew = Reboot, true
	rp.Changes = append(rp.Changes, Change{certificateAttribute, "", what, Restart})
}

// planCertificate is nil when the host has what it needs. server is nil for an
// address.
func (e *Engine) planCertificate(ctx context.Context, m *roles.Manifest, has vtpm.AKCertificate, server *RolePlan) (*EnrolPlan, error) {
	plan := &EnrolPlan{Server: "role." + m.Host.Enroll.Role, Simulated: strings.HasPrefix(m.Host.TPM, "unix:")}
	var authorities []string
	switch {
	case server == nil:
		plan.Server = m.Host.Enroll.URL
		issuers, err := pki.ReadFile(m.Host.Enroll.Issuer)
		if err != nil {
			return nil, err
		}
		for _, c := range issuers {
			authorities = append(authorities, pki.Fingerprint(c))
		}
	case server.Action == Create || server.Action == Remake:
		plan.Reason = plan.Server + " is made anew"
	default:
		authorities = []string{server.state.Metadata.Authority}
	}
	switch {
	case plan.Reason != "":
	case has.Problem != "":
		plan.Reason = has.Problem
	case !slices.Contains(authorities, has.Issuer):
		plan.Reason = "it was enrolled by another authority"
	case has.Due(e.now()):
		plan.Reason = "its certificate ends on " + has.NotAfter.UTC().Format(time.DateOnly)
	default:
		return nil, nil
	}
	if server != nil {
		var err error
		if plan.vendor, err = e.Attestation.VendorRoot(ctx); err != nil {
			return nil, err
		}
		plan.Vendor = plan.vendor.Subject.String()
	}
	return plan, nil
}

// role is a role's plan, nil where it is not planned.
func (p *Plan) role(name string) *RolePlan {
	i := slices.IndexFunc(p.Roles, func(rp RolePlan) bool { return rp.Role == name })
	if i < 0 {
		return nil
	}
	return &p.Roles[i]
}

// ErrNotAnswering says that an attestation service does not answer yet.
var ErrNotAnswering = errors.New("it does not answer")

// AttestationServer is who certifies the host, and why that is believed.
type AttestationServer struct {
	URL     string
	Pin     string              // SHA-256 of its public key, in hex; or
	CA      []*x509.Certificate // authorities of its certificate
	Issuers []*x509.Certificate // whose certificates the host takes, and believes from then on
}

// enrolTime is how long a licence server may take until it answers.
const (
	enrolTime  = 3 * time.Minute
	enrolRetry = time.Second
)

// enrolNode is the step in which the host gets its certificate.
func (r *run) enrolNode() dag.Node {
	var after []string
	if s := r.licenceServer(); s != nil {
		after = []string{s.last()}
	}
	return r.node(enrolStep, after, r.enrol)
}

// licenceServer is the role that certifies the host, nil where an address does.
func (r *run) licenceServer() *roleRun {
	name := r.plan.manifest.Host.Enroll.Role
	i := slices.IndexFunc(r.roles, func(s *roleRun) bool { return s.plan.Role == name })
	if name == "" || i < 0 {
		return nil
	}
	return r.roles[i]
}

func (r *run) enrol(ctx context.Context) error {
	limit := enrolTime
	if r.opts.Timeout > 0 {
		limit = r.opts.Timeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	role := r.licenceServer()
	if role == nil {
		server, err := r.serverAtAddress()
		if err == nil {
			err = r.certify(ctx, server)
		}
		return err
	}
	who, err := r.Attestation.Enrolment(ctx)
	if err != nil {
		return err
	}
	server, err := role.admitHost(ctx, who.HostID, r.plan.Enrol.vendor)
	if err != nil {
		return err
	}
	if err := r.certify(ctx, server); err != nil {
		return hint.Wrap(err, "%s", orElse(hint.Of(err), "look closer with: ovsactl exec "+role.plan.Role+" -- systemctl status license_server"))
	}
	// Last: a guest that has this is the one whose certificate the host has.
	role.metadata.Authority = pki.Fingerprint(server.Issuers[0])
	if err := r.Hypervisor.SetMetadata(ctx, role.domain(), role.metadata); err != nil {
		return fmt.Errorf("record attestation authority: %w", err)
	}
	return nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// certify has a server certify the host, as soon as it answers.
func (r *run) certify(ctx context.Context, server AttestationServer) error {
	for {
		err := r.Attestation.Enrol(ctx, server)
		if !errors.Is(err, ErrNotAnswering) {
			return err
		}
		r.progress(enrolStep)("wait for the licence server", 0, 0)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(enrolRetry):
		}
	}
}

// serverAtAddress is the server that the manifest gives an address of.
func (r *run) serverAtAddress() (AttestationServer, error) {
	e := r.plan.manifest.Host.Enroll
	server := AttestationServer{URL: e.URL, Pin: e.Pin}
	var err error
	if e.CA != "" {
		if server.CA, err = pki.ReadFile(e.CA); err != nil {
			return AttestationServer{}, err
		}
	}
	server.Issuers, err = pki.ReadFile(e.Issuer)
	return server, err
}

// The licence server's program in a guest, and its unit.
const (
	licenceProgram = "/opt/ovsa/bin/license_server"
	licenceUnit    = "license_server.service"
)

// admitHost lets the role's licence server certify this host: it is told to believe
// the maker of the host's TPM, and that this host is allowed. What it says about
// itself is believed, since it comes over the verified connection to its guest.
func (s *roleRun) admitHost(ctx context.Context, host string, vendor *x509.Certificate) (AttestationServer, error) {
	program := func(stdin io.Reader, args ...string) ([]byte, error) {
		return s.output(ctx, stdin, append([]string{"sudo", "-n", "-u", "ovsa", "--", licenceProgram}, args...)...)
	}
	if _, err := program(bytes.NewReader(pki.EncodePEM(vendor)), "trust", "add", "-for", "tpm-vendor", "-"); err != nil {
		return AttestationServer{}, fmt.Errorf("have the licence server believe the maker of the host's TPM: %w", err)
	}
	out, err := program(nil, "hosts", "allow", "-json", host)
	if err != nil {
		return AttestationServer{}, fmt.Errorf("have the licence server allow the host: %w", err)
	}
	// One that does not run reads all of it when it starts.
	if _, err := s.output(ctx, nil, "sudo", "-n", "--", "systemctl", "try-reload-or-restart", licenceUnit); err != nil {
		return AttestationServer{}, fmt.Errorf("have the licence server read that: %w", err)
	}
	var said struct {
		Pin       string `json:"pin"`
		Authority string `json:"authority"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return AttestationServer{}, fmt.Errorf("parse what the licence server says: %w", err)
	}
	issuers, err := pki.ParsePEM([]byte(said.Authority))
	if err == nil && len(issuers) != 1 {
		err = fmt.Errorf("%d certificates", len(issuers))
	}
	if err != nil {
		return AttestationServer{}, fmt.Errorf("parse the licence server's authority: %w", err)
	}
	at := netip.AddrPortFrom(s.metadata.Address, uint16(s.run.plan.manifest.Host.Enroll.Port))
	return AttestationServer{URL: "https://" + at.String(), Pin: said.Pin, Issuers: issuers}, nil
}

// maxOutput bounds what a command in a guest may say.
const maxOutput = 64 << 10

// output runs a command in the guest and returns what it prints.
func (s *roleRun) output(ctx context.Context, stdin io.Reader, argv ...string) ([]byte, error) {
	out, errs := bounded{limit: maxOutput}, tail{}
	err := s.guest.Run(ctx, argv, stdin, &out, &errs)
	switch {
	case err != nil && errs.String() != "":
		return nil, fmt.Errorf("%w: %s", err, errs.String())
	case err != nil:
		return nil, err
	}
	return out.buf, out.err
}

// bounded keeps what is written to it, up to a limit.
type bounded struct {
	buf   []byte
	limit int
	err   error
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.buf)+len(p) > b.limit {
		b.err = errors.New("the guest says more than " + strconv.Itoa(b.limit) + " bytes")
		return len(p), nil
	}
	b.buf = append(b.buf, p...)
	return len(p), nil
}

// renewed makes sure that the guest's record has the host's certificate. It is
// written while the guest is off, so one that runs since before is started again.
func (s *roleRun) renewed(ctx context.Context) error {
	if ok, err := s.hasCertificate(ctx); ok || err != nil {
		return err
	}
	accel, err := s.accel()
	if err != nil {
		return err
	}
	s.emulated = accel == vm.TCG
	s.disconnect()
	if err := s.Hypervisor.Stop(ctx, s.domain()); err != nil {
		return err
	}
	if err := s.TPM.Bind(ctx, s.identity()); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.reach(ctx); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	ok, err := s.hasCertificate(ctx)
	if err == nil && !ok {
		err = hint.Wrap(errors.New("the guest's new record has not the host's certificate"), "see: ovsactl vtpm verify %s", s.plan.Role)
	}
	return err
}

// hasCertificate tells whether the guest's record is good and has the certificate that
// the host has now.
func (s *roleRun) hasCertificate(ctx context.Context) (bool, error) {
	status, err := s.TPM.Status(ctx, s.uuid())
	return status.Binding == vtpm.Bound && status.Certified, err
}
