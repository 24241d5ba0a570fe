// Package trust is the command about trust stores: which a program has, who fills
// them, what is in them, and what cannot work because one is empty. All programs have
// it, each with its own stores.
package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/owner"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

// Store is a trust store: a directory of certificates that are believed for one
// purpose.
type Store struct {
	For   string // the purpose, in a word
	Dir   string
	Whose string // certificates these are
	Lacks string // what does not work while it is empty
	// Then is what else has to be done when it has changed; "" for nothing.
	Then string
	// Authorities tells that only authorities' certificates mean something in it.
	Authorities bool
}

// Stores are those of a program, the one first that is meant when none is named;
// where that is "" one has to be named.
type Stores struct {
	Default string
	All     []Store
}

// Purposes are the words of -for.
func (s Stores) Purposes() []string {
	var words []string
	for _, one := range s.All {
		words = append(words, one.For)
	}
	return words
}

// Named is the store for a purpose; of "" it is the default one.
func (s Stores) Named(purpose string) (Store, error) {
	if purpose == "" {
		purpose = s.Default
	}
	for _, one := range s.All {
		if one.For == purpose {
			return one, nil
		}
	}
	what := fmt.Errorf("%q is nothing that certificates are believed for", purpose)
	if purpose == "" {
		what = errors.New("nothing says what to believe it for")
	}
	return Store{}, hint.Wrap(what, "there is %s", strings.Join(s.Purposes(), ", "))
}

// Add adds the certificate of each file to a store.
func (s Store) Add(paths ...string) ([]Certificate, error) {
	var added []Certificate
	for _, path := range paths {
		certs, err := pki.ReadFile(path)
		if err != nil {
			return added, err
		}
		one, err := s.one(fmt.Sprintf("%q", path), certs)
		if err != nil {
			return added, err
		}
		added = append(added, one)
	}
	return added, nil
}

// one adds the one certificate of a source.
func (s Store) one(source string, certs []*x509.Certificate) (Certificate, error) {
	if len(certs) != 1 {
		return Certificate{}, fmt.Errorf("%s has %d certificates: add them one by one, each in its own file", source, len(certs))
	}
	if s.Authorities && !certs[0].IsCA {
		return Certificate{}, fmt.Errorf("%s is not an authority's certificate, and so nothing that a %s issues leads to it", source, s.For)
	}
	a, err := pki.NewStore(s.Dir).Add(certs[0])
	if err != nil {
		return Certificate{}, explain(err, s.Dir)
	}
	return s.describe(a), nil
}

// Remove takes the certificate out of a store whose SHA-256 begins with id.
func (s Store) Remove(id string) (Certificate, error) {
	a, err := pki.NewStore(s.Dir).Remove(id)
	if err != nil {
		return Certificate{}, explain(err, s.Dir)
	}
	return s.describe(a), nil
}

// explain says who may change a store.
func explain(err error, dir string) error {
	if errors.Is(err, fs.ErrPermission) {
		return hint.Wrap(err, "%s fills it: run it as %s", owner.Name(dir), owner.Name(dir))
	}
	return err
}

// Certificate is one that is believed.
type Certificate struct {
	For       string    `json:"for"`
	ID        string    `json:"sha256"`
	Subject   string    `json:"subject"`
	Authority bool      `json:"authority"`
	Ends      time.Time `json:"ends"` // it is believed no longer
	File      string    `json:"file"`
}

func (s Store) describe(a pki.Anchor) Certificate {
	c := Certificate{s.For, a.ID, a.Certificate.Subject.String(), a.Certificate.IsCA, a.Certificate.NotAfter.UTC(), a.Path}
	if !c.Authority {
		c.Ends = licensing.CertificateEnd(a.Certificate).UTC()
	}
	return c
}

// Content is a store and what is in it.
type Content struct {
	For          string        `json:"for"`
	Whose        string        `json:"whose"`
	Dir          string        `json:"dir"`
	FilledBy     string        `json:"filled_by"`         // the user who may, beside root
	Missing      string        `json:"missing,omitempty"` // what does not work, because it is empty
	Certificates []Certificate `json:"certificates"`
}

// List reads stores.
func List(stores ...Store) ([]Content, error) {
	all := []Content{}
	for _, s := range stores {
		anchors, err := pki.NewStore(s.Dir).List()
		if err != nil {
			return nil, explain(err, s.Dir)
		}
		c := Content{For: s.For, Whose: s.Whose, Dir: s.Dir, FilledBy: owner.Name(s.Dir), Certificates: []Certificate{}}
		for _, a := range anchors {
			c.Certificates = append(c.Certificates, s.describe(a))
		}
		if len(anchors) == 0 {
			c.Missing = s.Lacks
		}
		all = append(all, c)
	}
	return all, nil
}

// Write writes stores for people. add is the command that fills one, before a purpose.
func Write(out io.Writer, all []Content, add string) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FOR\tCERTIFICATES\tFILLED BY\tDIRECTORY\tWHOSE")
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", c.For, len(c.Certificates), c.FilledBy, visible.Line(c.Dir), c.Whose)
	}
	if slices.ContainsFunc(all, func(c Content) bool { return len(c.Certificates) > 0 }) {
		fmt.Fprintln(w, "\nFOR\tSHA-256\tKIND\tENDS\tSUBJECT")
	}
	for _, c := range all {
		for _, one := range c.Certificates {
			kind := "self-signed"
			if one.Authority {
				kind = "authority"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", one.For, one.ID[:16], kind, one.Ends.Format(time.DateOnly), visible.Line(one.Subject))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, c := range all {
		if c.Missing != "" {
			if _, err := fmt.Fprintf(out, "\nmissing: %s: %s\n    %s %s FILE\n", c.For, c.Missing, add, c.For); err != nil {
				return err
			}
		}
	}
	return nil
}
