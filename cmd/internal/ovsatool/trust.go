package ovsatool

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func trustVerbs() []verb {
	dir := flag{name: "trust", args: "DIR", help: "the directory (default $OVSA_TRUST, or " + DefaultTrust + ")"}
	return []verb{
		{name: "trust add", summary: "believe a certificate: an authority's, or a self-signed one", flags: []flag{dir}, operand: "FILE...", min: 1, max: greedy, run: trustAdd},
		{name: "trust ls", summary: "list the certificates that are believed", flags: []flag{dir, {name: "json", help: "as JSON"}}, run: trustList},
		{name: "trust rm", summary: "believe a certificate no longer; the first 8 digits of its SHA-256 are enough", flags: []flag{dir}, operand: "SHA-256", min: 1, max: 1, run: trustRemove},
	}
}

func trustAdd(_ context.Context, s session, c call) error {
	store := s.trust(c)
	for _, path := range c.operands {
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
		s.say("believed: %s  %s", a.ID, name(a.Certificate))
	}
	return nil
}

func trustList(_ context.Context, s session, c call) error {
	anchors, err := s.trust(c).List()
	if err != nil {
		return err
	}
	if c.has("json") {
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

func trustRemove(_ context.Context, s session, c call) error {
	a, err := s.trust(c).Remove(c.operands[0])
	if err != nil {
		return err
	}
	s.say("no longer believed: %s  %s", a.ID, name(a.Certificate))
	return nil
}
