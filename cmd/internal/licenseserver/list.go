package licenseserver

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// page is how many licences are read at once.
const page = 500

func readCommands(run binder) []guestcli.Command {
	flags := []guestcli.Flag{dbFlag(), jsonFlag()}
	return []guestcli.Command{
		{Name: "list", Summary: "list the licences", Flags: append(flags, allFlag(), guestcli.Flag{Name: "product", Arg: "GUID", Help: "only those of this product: the GUID that controlAccess was given"}), Run: run(reading(reader.list))},
		{Name: "show", Operands: "GUID", Summary: "show a licence: its customer, servers, use, and what of it can be revoked", Min: 1, Max: 1, Flags: flags,
			Run: run(reading(func(r reader) error { return r.show(r.Operands[0]) }))},
		{Name: "usage", Operands: "[GUID]", Summary: "count the leases of the licences, or of one", Max: 1, Flags: flags, Run: run(reading(reader.usage))},
	}
}

// reader answers questions about the ledger.
type reader struct {
	session
	ctx    context.Context
	ledger *ledger.Ledger
	json   bool
}

func reading(run func(reader) error) action {
	return func(ctx context.Context, s session) error {
		return s.withDatabase(ctx, func(l *ledger.Ledger) error { return run(reader{s, ctx, l, s.Has("json")}) })
	}
}

// each calls f with every licence, in the order of their GUIDs.
func (r reader) each(f func(ledger.Licence) error) error {
	guid, model := "", ""
	for {
		some, err := r.ledger.Licences(r.ctx, guid, model, page)
		if err != nil {
			return err
		}
		for _, lic := range some {
			if err := f(lic); err != nil {
				return err
			}
			guid, model = lic.GUID, lic.Model
		}
		if len(some) < page {
			return nil
		}
	}
}

// named returns the licences with a GUID: one for each model it is for.
func (r reader) named(word string) ([]ledger.Licence, error) {
	guid, err := licensing.ParseGUID(word)
	if err != nil {
		return nil, err
	}
	some, err := r.ledger.Licences(r.ctx, string(guid), "", page)
	if err != nil {
		return nil, err
	}
	for i, lic := range some {
		if lic.GUID != string(guid) {
			some = some[:i]
			break
		}
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("%q: %w", word, ledger.ErrNoLicence)
	}
	return some, nil
}

// licence is a row of list.
type licence struct {
	GUID      string    `json:"licence"`
	Model     string    `json:"model"`
	Name      string    `json:"name"`
	Type      string    `json:"type"`
	Instances int       `json:"instances,omitzero"`
	Ends      time.Time `json:"ends,omitzero"`
	Customer  string    `json:"customer"`
	Updated   time.Time `json:"updated"`
	Product   string    `json:"product"`
	Archived  time.Time `json:"archived,omitzero"`

	limit string // type and limit, for people
}

// read takes a stored licence apart. Its signature was verified when it was
// stored, and whoever can write to the database can also write to this.
func read(lic ledger.Licence) (licence, licensing.Licence, *x509.Certificate, error) {
	signed, err := licensing.Verify[licensing.Licence](lic.Document)
	if err != nil {
		return licence{}, licensing.Licence{}, nil, fmt.Errorf("stored licence %q: %w", lic.GUID, err)
	}
	primary, err := primaryOf(lic)
	if err != nil {
		return licence{}, licensing.Licence{}, nil, err
	}
	return licence{
		GUID: lic.GUID, Model: lic.Model, Name: signed.Document.Name, Type: string(lic.Type), Instances: lic.Instances,
		Ends: lic.NotAfter, Customer: primary.Subject.String(), Updated: lic.Updated, Product: string(signed.Document.Product()),
		Archived: lic.Archived, limit: limit(lic),
	}, signed.Document, signed.Chain[0], nil
}

func (r reader) list() error {
	var product licensing.GUID
	if r.Has("product") {
		var err error
		if product, err = licensing.ParseGUID(r.Text("product")); err != nil {
			return fmt.Errorf("-product: %w", err)
		}
	}
	all := []licence{}
	err := r.each(func(lic ledger.Licence) error {
		if !lic.Archived.IsZero() && !r.Has("all") {
			return nil
		}
		one, _, _, err := read(lic)
		if err != nil || product != "" && one.Product != string(product) {
			return err
		}
		all = append(all, one)
		return nil
	})
	if err != nil {
		return err
	}
	if r.json {
		return writeJSON(r.Stdout, all)
	}
	return writeLicences(r.Stdout, all)
}

// writeLicences writes a table of licences for people.
func writeLicences(out io.Writer, all []licence) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "LICENCE\tMODEL\tLIMIT\tUPDATED\tCUSTOMER\tNAME")
	for _, one := range all {
		name := visible.Line(one.Name)
		if !one.Archived.IsZero() {
			name += " (archived " + day(one.Archived) + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", one.GUID, one.Model, one.limit, day(one.Updated), visible.Line(one.Customer), name)
	}
	return w.Flush()
}

// detail is what show tells beside a row of list.
type detail struct {
	licence
	Version    string   `json:"version"`
	ISV        string   `json:"isv"`
	CustomerID string   `json:"customer_id"`
	Servers    []server `json:"servers"`
	TCBs       []string `json:"tcbs"`
	Held       int      `json:"held"`
	Claims     int64    `json:"claims"`
	Revoked    []string `json:"revoked"`
}

type server struct {
	Address   string `json:"address"`
	Pin       string `json:"pin"`
	FuturePin string `json:"future_pin,omitempty"`
}

// primaryOf is the primary certificate of a stored licence's customer. Behind it
// are its issuers, if it has any.
func primaryOf(lic ledger.Licence) (*x509.Certificate, error) {
	chain, err := x509.ParseCertificates(lic.Primary)
	if err == nil && len(chain) == 0 {
		err = errors.New("there is none")
	}
	if err != nil {
		return nil, fmt.Errorf("stored licence %q: its customer's certificate: %w", lic.GUID, err)
	}
	return chain[0], nil
}

// customerID is how a customer's certificate is revoked.
func customerID(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func (r reader) show(word string) error {
	found, err := r.named(word)
	if err != nil {
		return err
	}
	var all []detail
	for _, lic := range found {
		d, err := r.detail(lic)
		if err != nil {
			return err
		}
		all = append(all, d)
	}
	if r.json {
		return writeJSON(r.Stdout, all)
	}
	for i, d := range all {
		if i > 0 {
			fmt.Fprintln(r.Stdout)
		}
		d.write(r.Stdout)
	}
	return nil
}

func (r reader) detail(lic ledger.Licence) (detail, error) {
	row, document, isv, err := read(lic)
	if err != nil {
		return detail{}, err
	}
	customer, err := primaryOf(lic)
	if err != nil {
		return detail{}, err
	}
	usage, err := r.ledger.Usage(r.ctx, lic.GUID, lic.Model, r.Now())
	if err != nil {
		return detail{}, err
	}
	d := detail{licence: row, Version: document.Version, ISV: isv.Subject.String(), CustomerID: customerID(customer),
		Held: usage.Held, Claims: usage.Claims, TCBs: []string{}, Revoked: []string{}}
	for _, s := range document.Servers {
		d.Servers = append(d.Servers, server{s.Address, s.Pin.String(), s.FuturePin.String()})
	}
	for _, t := range document.TCBs {
		d.TCBs = append(d.TCBs, t.Name+" "+t.Version)
	}
	revoked, err := r.ledger.Revocations(r.ctx)
	for _, v := range revoked {
		if v.Subject == (ledger.Subject{Kind: ledger.KindLicence, ID: lic.GUID}) || v.Subject == (ledger.Subject{Kind: ledger.KindCustomer, ID: d.CustomerID}) {
			d.Revoked = append(d.Revoked, fmt.Sprintf("the %s on %s: %s", v.Kind, day(v.At), v.Reason))
		}
	}
	return d, err
}

func (d detail) write(w io.Writer) {
	line := func(name, value string) { fmt.Fprintf(w, "%-13s%s\n", name+":", visible.Line(value)) }
	line("licence", d.GUID)
	line("product", d.Product)
	line("model", d.Model)
	line("name", d.Name+" "+d.Version)
	line("limit", d.limit)
	line("isv", d.ISV)
	line("customer", d.Customer)
	line("customer id", d.CustomerID)
	for _, s := range d.Servers {
		line("server", s.Address+" "+s.Pin)
		if s.FuturePin != "" {
			line("  later", s.FuturePin)
		}
	}
	for _, t := range d.TCBs {
		line("tcb", t)
	}
	line("leases", fmt.Sprintf("%d held, %d ever", d.Held, d.Claims))
	if !d.Archived.IsZero() {
		line("archived", d.Archived.UTC().Format(time.RFC3339))
	}
	line("updated", d.Updated.UTC().Format(time.RFC3339))
	for _, why := range d.Revoked {
		line("revoked", why)
	}
}

// use is a row of usage.
type use struct {
	GUID   string `json:"licence"`
	Model  string `json:"model"`
	Held   int    `json:"held"`
	Claims int64  `json:"claims"`
	Limit  int    `json:"limit,omitzero"`
}

func (r reader) usage() error {
	all := []use{}
	add := func(lic ledger.Licence) error {
		u, err := r.ledger.Usage(r.ctx, lic.GUID, lic.Model, r.Now())
		all = append(all, use{lic.GUID, lic.Model, u.Held, u.Claims, lic.Instances})
		return err
	}
	if len(r.Operands) == 0 {
		if err := r.each(add); err != nil {
			return err
		}
	} else {
		found, err := r.named(r.Operands[0])
		if err != nil {
			return err
		}
		for _, lic := range found {
			if err := add(lic); err != nil {
				return err
			}
		}
	}
	if r.json {
		return writeJSON(r.Stdout, all)
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "LICENCE\tMODEL\tHELD\tOF\tEVER")
	for _, u := range all {
		of := "-"
		if u.Limit > 0 {
			of = fmt.Sprint(u.Limit)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\n", u.GUID, u.Model, u.Held, of, u.Claims)
	}
	return w.Flush()
}
