package ovsatool

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func trustCommands(run binder) []guestcli.Command {
	dir := keystore.Trust()
	return []guestcli.Command{
		{Name: "trust add", Summary: "believe a certificate: an authority's, or a self-signed one", Flags: []guestcli.Flag{dir}, Operands: "FILE...", Kind: guestcli.File, Min: 1, Max: guestcli.Many, Run: run(trustAdd)},
		{Name: "trust ls", Summary: "list the certificates that are believed", Flags: []guestcli.Flag{dir, {Name: "json", Help: "as JSON"}}, Run: run(trustList)},
		{Name: "trust rm", Summary: "believe a certificate no longer; the first 8 digits of its SHA-256 are enough", Flags: []guestcli.Flag{dir}, Operands: "SHA-256", Min: 1, Max: 1, Run: run(trustRemove)},
	}
}

func trustAdd(_ context.Context, s session) error {
	store := s.TrustStore()
	for _, path := range s.Operands {
		certs, err := pki.ReadFile(path)
		if err != nil {
			return err
		}
		if len(certs) != 1 {
			return fmt.Errorf("%q has %d certificates: add them one by one, each in its own file", path, len(certs))
		}
		a, err := store.Add(certs[0])
		if err != nil {
			return err
		}
		s.Say("believed: %s  %s", a.ID, name(a.Certificate))
	}
	return nil
}

func trustList(_ context.Context, s session) error {
	anchors, err := s.TrustStore().List()
	if err != nil {
		return err
	}
	if s.Has("json") {
		list := []rows{}
		for _, a := range anchors {
			list = append(list, append(certificate(a.Certificate), row{"authority", a.Certificate.IsCA}, row{"file", a.Path}))
		}
		return writeJSON(s.Stdout, list)
	}
	w := tabwriter.NewWriter(s.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SHA-256\tKIND\tENDS\tSUBJECT")
	for _, a := range anchors {
		kind, end := "self-signed", licensing.CertificateEnd(a.Certificate)
		if a.Certificate.IsCA {
			kind, end = "authority", a.Certificate.NotAfter
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.ID[:16], kind, end.UTC().Format(time.DateOnly), name(a.Certificate))
	}
	return w.Flush()
}

func trustRemove(_ context.Context, s session) error {
	a, err := s.TrustStore().Remove(s.Operands[0])
	if err != nil {
		return err
	}
	s.Say("no longer believed: %s  %s", a.ID, name(a.Certificate))
	return nil
}
