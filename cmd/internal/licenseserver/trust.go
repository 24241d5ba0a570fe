package licenseserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func trustCommands(run binder) []guestcli.Command {
	purposes := strings.Join(trustFor, "|")
	purpose := guestcli.Flag{Name: "for", Arg: purposes, Values: purposes, Help: "what it is believed for"}
	one := purpose
	one.Required = true
	return []guestcli.Command{
		{Name: "trust add", Summary: "believe a certificate: an authority's, or a self-signed one", Operands: "FILE...", Kind: guestcli.File, Min: 1, Max: guestcli.Many,
			Flags: []guestcli.Flag{dirFlag(), one}, Run: run(trusting(trustAdd))},
		{Name: "trust ls", Summary: "list the certificates that are believed", Flags: []guestcli.Flag{dirFlag(), purpose, jsonFlag()}, Run: run(trusting(trustList))},
		{Name: "trust rm", Summary: "believe a certificate no longer; the first 8 digits of its SHA-256 are enough", Operands: "SHA-256", Min: 1, Max: 1,
			Flags: []guestcli.Flag{dirFlag(), one}, Run: run(trusting(trustRemove))},
	}
}

func trusting(run func(s session, d certDir, purpose string) error) action {
	return func(_ context.Context, s session) error {
		purpose := s.Text("for")
		if purpose != "" && !slices.Contains(trustFor, purpose) {
			return guestcli.Usagef("-for %q: want one of %s", purpose, strings.Join(trustFor, ", "))
		}
		return s.certDir().explain(run(s, s.certDir(), purpose))
	}
}

func trustRemove(s session, d certDir, purpose string) error {
	a, err := d.trustStore(purpose).Remove(s.Operands[0])
	if err == nil {
		s.Say("no longer believed for %s: %s  %s", purpose, a.ID, visible.Line(a.Certificate.Subject.String()))
	}
	return err
}

func trustAdd(s session, d certDir, purpose string) error {
	for _, path := range s.Operands {
		certs, err := pki.ReadFile(path)
		if err != nil {
			return err
		}
		if len(certs) != 1 {
			return fmt.Errorf("%q has %d certificates: add them one by one, each in its own file", path, len(certs))
		}
		if authority := purpose == "tpm-vendor" || purpose == "attestation"; authority && !certs[0].IsCA {
			return fmt.Errorf("%q is not an authority's certificate, and so nothing that a %s issues leads to it", path, purpose)
		}
		a, err := d.trustStore(purpose).Add(certs[0])
		if err != nil {
			return err
		}
		s.Say("believed for %s: %s  %s", purpose, a.ID, visible.Line(a.Certificate.Subject.String()))
	}
	return nil
}

// anchor is a certificate that is believed, for people and programs.
type anchor struct {
	For       string    `json:"for"`
	ID        string    `json:"sha256"`
	Subject   string    `json:"subject"`
	Authority bool      `json:"authority"`
	Ends      time.Time `json:"ends"`
	File      string    `json:"file"`
}

func trustList(s session, d certDir, only string) error {
	all := []anchor{}
	for _, purpose := range trustFor {
		if only != "" && only != purpose {
			continue
		}
		anchors, err := d.trustStore(purpose).List()
		if err != nil {
			return err
		}
		for _, a := range anchors {
			c := a.Certificate
			one := anchor{For: purpose, ID: a.ID, Subject: c.Subject.String(), Authority: c.IsCA, Ends: c.NotAfter.UTC(), File: a.Path}
			if !c.IsCA {
				one.Ends = licensing.CertificateEnd(c).UTC()
			}
			all = append(all, one)
		}
	}
	if s.Has("json") {
		return writeJSON(s.Stdout, all)
	}
	w := tabwriter.NewWriter(s.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FOR\tSHA-256\tKIND\tENDS\tSUBJECT")
	for _, a := range all {
		kind := "self-signed"
		if a.Authority {
			kind = "authority"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", a.For, a.ID[:16], kind, day(a.Ends), visible.Line(a.Subject))
	}
	return w.Flush()
}
