package licenseserver

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func customerCommands(run binder) []guestcli.Command {
	one := func(name, summary string, do func(reader, customer) error) guestcli.Command {
		return guestcli.Command{
			Name: "customers " + name, Summary: summary, Operands: "CUSTOMER", Kind: guestcli.File, Min: 1, Max: 1,
			Flags: []guestcli.Flag{dbFlag(), jsonFlag()},
			Run: run(reading(func(r reader) error {
				c, err := r.customer(r.Operands[0])
				if err != nil {
					return err
				}
				return do(r, c)
			})),
		}
	}
	return []guestcli.Command{
		{Name: "customers ls", Summary: "list the customers, and how many licences each has", Flags: []guestcli.Flag{dbFlag(), jsonFlag(), allFlag()}, Run: run(reading(reader.customers))},
		one("show", "show a customer's licences; CUSTOMER is the start of an ID, or a primary certificate", reader.showCustomer),
		one("archive", "put a customer's licences away: leases end at their next renewal, and none is given", func(r reader, c customer) error {
			return r.changed(c, "archived", r.ledger.Archive(r.ctx, c.keys, r.Now()))
		}),
		one("restore", "take a customer's archived licences back", func(r reader, c customer) error {
			return r.changed(c, "restored", r.ledger.Restore(r.ctx, c.keys, r.Now()))
		}),
		one("remove", "forget a customer whose licences are archived; the audit log stays", func(r reader, c customer) error {
			err := r.ledger.Remove(r.ctx, c.keys, r.Now())
			if errors.Is(err, ledger.ErrInUse) {
				err = hint.Wrap(err, "archive them first, and wait until the guests' leases are over: license_server customers archive %s", c.ID[:16])
			}
			return r.changed(c, "removed", err)
		}),
	}
}

func allFlag() guestcli.Flag { return guestcli.Flag{Name: "all", Help: "those that are archived, too"} }

// customer is whoever has the key of a primary certificate.
type customer struct {
	ID       string `json:"id"` // as it is revoked
	Subject  string `json:"subject"`
	Licences int    `json:"licences"`
	Archived int    `json:"archived"` // of these

	keys []ledger.Key
}

// everyCustomer returns the customers whose IDs begin with a word, in the order of
// their subjects.
func (r reader) everyCustomer(id string) ([]customer, error) {
	known := map[string]*customer{}
	err := r.each(func(lic ledger.Licence) error {
		cert, err := primaryOf(lic)
		if err != nil {
			return err
		}
		key := customerID(cert)
		if !strings.HasPrefix(key, id) {
			return nil
		}
		c := known[key]
		if c == nil {
			c = &customer{ID: key, Subject: cert.Subject.String()}
			known[key] = c
		}
		c.Licences++
		if !lic.Archived.IsZero() {
			c.Archived++
		}
		c.keys = append(c.keys, lic.Key())
		return nil
	})
	all := []customer{}
	for _, c := range known {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b customer) int {
		return cmp.Or(strings.Compare(a.Subject, b.Subject), strings.Compare(a.ID, b.ID))
	})
	return all, err
}

// customer is the only one that a word names.
func (r reader) customer(word string) (customer, error) {
	id := strings.ToLower(word)
	if certs, err := pki.ReadFile(word); err == nil {
		id = customerID(certs[0])
	} else if !isIDStart(id) {
		return customer{}, fmt.Errorf("want 8 to 64 digits of a customer's ID, as customers ls prints it, or a certificate: %w", err)
	}
	found, err := r.everyCustomer(id)
	switch {
	case err != nil:
		return customer{}, err
	case len(found) == 0:
		return customer{}, hint.Wrap(fmt.Errorf("%q: no such customer", word), "license_server customers ls -all")
	case len(found) > 1:
		return customer{}, fmt.Errorf("%q: %d customers' IDs begin so", word, len(found))
	}
	return found[0], nil
}

func isIDStart(s string) bool {
	return len(s) >= 8 && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func (r reader) customers() error {
	all, err := r.everyCustomer("")
	if err != nil {
		return err
	}
	if !r.Has("all") {
		all = slices.DeleteFunc(all, func(c customer) bool { return c.Archived == c.Licences })
	}
	if r.json {
		return writeJSON(r.Stdout, all)
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CUSTOMER\tLICENCES\tARCHIVED\tSUBJECT")
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", c.ID[:16], c.Licences, c.Archived, visible.Line(c.Subject))
	}
	return w.Flush()
}

func (r reader) showCustomer(c customer) error {
	var licences []licence
	for _, k := range c.keys {
		lic, err := r.ledger.Licence(r.ctx, k.GUID, k.Model)
		if err != nil {
			return err
		}
		one, _, _, err := read(lic)
		if err != nil {
			return err
		}
		licences = append(licences, one)
	}
	if r.json {
		return writeJSON(r.Stdout, struct {
			customer
			List []licence `json:"list"`
		}{c, licences})
	}
	fmt.Fprintf(r.Stdout, "customer: %s\nid:       %s\n\n", visible.Line(c.Subject), c.ID)
	return writeLicences(r.Stdout, licences)
}

// changed is what became of a customer's licences, for programs.
type changed struct {
	What     string `json:"what"`
	ID       string `json:"id"`
	Subject  string `json:"subject"`
	Licences int    `json:"licences"`
}

// changed tells of a change that went well.
func (r reader) changed(c customer, what string, err error) error {
	if err != nil {
		return err
	}
	return r.Report(changed{what, c.ID, c.Subject, len(c.keys)}, "%s: licences: %d, of %s", what, len(c.keys), visible.Line(c.Subject))
}
