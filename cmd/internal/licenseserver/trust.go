package licenseserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func trustVerb() verb {
	return verb{
		name: "trust", operands: "add FILE... | ls | rm SHA-256", min: 1, max: 1 << 10,
		summary: "choose whose certificates are believed, and for what",
		define: func(f *flags) action {
			dir := f.dir()
			purpose := f.text("for", strings.Join(trustFor, "|"), "", "what it is believed for; ls without it lists all")
			asJSON := f.json()
			return func(_ context.Context, s session, operands []string) error {
				t := trust{s, certDir(*dir), *purpose, *asJSON}
				if *purpose != "" && !slices.Contains(trustFor, *purpose) {
					return guestcli.Usagef("-for %q: want one of %s", *purpose, strings.Join(trustFor, ", "))
				}
				return t.certDir.explain(t.run(operands[0], operands[1:]))
			}
		},
	}
}

type trust struct {
	session
	certDir
	purpose string
	json    bool
}

func (t trust) run(command string, words []string) error {
	switch {
	case command == "ls" && len(words) == 0:
		return t.list()
	case command != "add" && command != "rm" || command == "rm" && len(words) != 1 || len(words) == 0:
		return hint.Wrap(guestcli.Usagef("want add FILE..., ls, or rm SHA-256"), "see license_server trust -help")
	case t.purpose == "":
		return hint.Wrap(guestcli.Usagef("no -for"), "-for is one of %s", strings.Join(trustFor, ", "))
	case command == "rm":
		a, err := t.trustStore(t.purpose).Remove(words[0])
		if err == nil {
			t.say("no longer believed for %s: %s  %s", t.purpose, a.ID, shown(a.Certificate.Subject.String()))
		}
		return err
	}
	return t.add(words)
}

func (t trust) add(paths []string) error {
	for _, path := range paths {
		certs, err := pki.ReadFile(path)
		if err != nil {
			return err
		}
		if len(certs) != 1 {
			return fmt.Errorf("%q has %d certificates: add them one by one, each in its own file", path, len(certs))
		}
		if authority := t.purpose == "tpm-vendor" || t.purpose == "attestation"; authority && !certs[0].IsCA {
			return fmt.Errorf("%q is not an authority's certificate, and so nothing that a %s issues leads to it", path, t.purpose)
		}
		a, err := t.trustStore(t.purpose).Add(certs[0])
		if err != nil {
			return err
		}
		t.say("believed for %s: %s  %s", t.purpose, a.ID, shown(a.Certificate.Subject.String()))
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

func (t trust) list() error {
	all := []anchor{}
	for _, purpose := range trustFor {
		if t.purpose != "" && t.purpose != purpose {
			continue
		}
		anchors, err := t.trustStore(purpose).List()
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
	if t.json {
		return writeJSON(t.Stdout, all)
	}
	w := tabwriter.NewWriter(t.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FOR\tSHA-256\tKIND\tENDS\tSUBJECT")
	for _, a := range all {
		kind := "self-signed"
		if a.Authority {
			kind = "authority"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", a.For, a.ID[:16], kind, day(a.Ends), shown(a.Subject))
	}
	return w.Flush()
}
