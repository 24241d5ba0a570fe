package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vtpm"
)

var _ provision.Attestation = attestation{}

// attestation is what host enroll does, for apply.
type attestation struct{ *vtpm.Host }

// Enrol implements provision.Attestation. The host asks for no limit of the guests
// that it may vouch for: those of the manifest change, and it is for the server to
// set one.
func (a attestation) Enrol(ctx context.Context, server provision.AttestationServer) error {
	trust := enrol.Trust{Authorities: server.CA}
	if server.Pin != "" {
		pin, err := hex.DecodeString(server.Pin)
		if err != nil {
			return fmt.Errorf("the pin of %s: %w", server.URL, err)
		}
		trust.Pin = pin
	}
	client, err := enrol.NewClient(server.URL, trust)
	if err != nil {
		return err
	}
	who, err := a.Enrolment(ctx)
	if err != nil {
		return err
	}
	got, err := certifyHost(ctx, a.Host, who, client, nil)
	if err != nil {
		return fmt.Errorf("enrol with %s: %w", server.URL, explainAnswer(err, who.HostID))
	}
	cert, err := x509.ParseCertificate(got.Certificate)
	if err != nil {
		return fmt.Errorf("enrol with %s: %w", server.URL, err)
	}
	if !slices.ContainsFunc(server.Issuers, func(c *x509.Certificate) bool { return cert.CheckSignatureFrom(c) == nil }) {
		return hint.Wrap(fmt.Errorf("enrol with %s: the certificate that it gives is by another authority, %q", server.URL, cert.Issuer),
			"ask the server's administrator for its attestation authority, and name that file as issuer")
	}
	return a.InstallAKCert(ctx, got.Certificate, server.Issuers...)
}

// explainAnswer tells a server that does not answer yet from one that says no and
// from another server, which waiting makes no better.
func explainAnswer(err error, hostID string) error {
	var refused enrol.Refusal
	var identity *tls.CertificateVerificationError
	var network *net.OpError
	var request *url.Error
	switch {
	case errors.As(err, &refused):
		switch refused.Code {
		case enrol.CodeUnavailable, enrol.CodeSlowDown:
			return fmt.Errorf("%w: %w", provision.ErrNotAnswering, err)
		case enrol.CodeRefused:
			return hint.Wrap(err, "this host's ID is %s: license_server hosts allow, on the server, and trust add -for tpm-vendor", hostID)
		}
		return err
	case errors.Is(err, enrol.ErrIdentity) || errors.As(err, &identity):
		return explainEnrolment(err)
	case errors.As(err, &network) && network.Op == "remote error":
		return err // it answers, and wants no TLS 1.3
	case errors.Is(err, enrol.ErrService) || errors.As(err, &request):
		return fmt.Errorf("%w: %w", provision.ErrNotAnswering, err)
	}
	return err
}
