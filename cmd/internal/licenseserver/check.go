package licenseserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/trust"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/licensing/ledger"
)

// finding is something that a server needs, and whether it is there.
type finding struct {
	What   string `json:"what"`
	Status state  `json:"status"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

type state string

const (
	good   state = "ok"
	ending state = "soon"    // it works, and will not for long
	absent state = "missing" // something cannot work yet
	broken state = "failed"  // nothing works
)

// setup is what a server has.
type setup struct {
	certificate error     // why the keys and certificates cannot be used
	end         time.Time // of the TLS certificate
	authorized  time.Time // until when the authority's certificate is, of its own
	stores      []trust.Content
	trustErr    error
	authority   bool // of its own
	hosts       int  // on its list
	hostsErr    error
	database    error
	licences    int // that are not archived and have not ended, of the first that there are
}

// licences is the part of a ledger that lists them.
type licences interface {
	Check(context.Context) error
	Licences(ctx context.Context, guid, model string, n int) ([]ledger.Licence, error)
}

// look finds out what a server has. m are its keys and certificates or, where those
// cannot be used, the reason.
func (d certDir) look(ctx context.Context, m Material, mErr error, l licences, lErr error, now time.Time) setup {
	s := setup{certificate: mErr, database: lErr}
	if mErr == nil {
		s.end = licensing.CertificateEnd(m.TLS.Leaf)
	}
	if m.Authority != nil {
		s.authorized = m.Authority.Certificate.NotAfter
	}
	s.stores, s.trustErr = trust.List(d.stores().All...)
	own, err := d.has(authorityCert)
	if s.authority = own && err == nil; s.authority {
		var hosts []enrol.Allowed
		hosts, s.hostsErr = enrol.AllowList{Path: d.path(allowList)}.List()
		s.hosts = len(hosts)
	}
	if lErr == nil {
		s.licences, s.database = usable(ctx, l, now)
	}
	return s
}

// usable counts the licences of which keys are given, of the first page.
func usable(ctx context.Context, l licences, now time.Time) (n int, err error) {
	if err := l.Check(ctx); err != nil {
		return 0, err
	}
	some, err := l.Licences(ctx, "", "", page)
	for _, lic := range some {
		if lic.Archived.IsZero() && (lic.NotAfter.IsZero() || now.Before(lic.NotAfter)) {
			n++
		}
	}
	if n == 0 && len(some) == page {
		n = 1 // there are more than are looked at here
	}
	return n, err
}

// findings judge what a server has.
func (s setup) findings(now time.Time) []finding {
	all := []finding{s.keys(now)}
	if s.database != nil {
		all = append(all, failing("database", s.database))
	} else {
		all = append(all, finding{"database", good, "it answers, and takes what is written", ""}, count("licences", "there are some", s.licences, "no licence is stored that guests could use", "license_server store LICENCE PRIMARY SECONDARY"))
	}
	if s.trustErr != nil {
		all = append(all, failing("trust", s.trustErr))
	}
	for _, store := range s.stores {
		all = append(all, ofStore(store, now)...)
	}
	switch {
	case !s.authority:
	case !s.authorized.IsZero() && s.authorized.Before(now.Add(soon)):
		all = append(all, finding{"attestation authority", ending, "it certifies hosts until " + day(s.authorized), "have another beside it: license_server trust add -for attestation FILE"})
	case s.hostsErr != nil:
		f := failing("hosts", s.hostsErr)
		f.Status = absent // guests of those that are enrolled go on
		all = append(all, f)
	default:
		all = append(all, count("hosts", fmt.Sprintf("that are allowed: %d", s.hosts), s.hosts, "no host is allowed: none can be enrolled", "license_server hosts allow ID, with the one that ovsactl host enroll prints"))
	}
	return all
}

func (s setup) keys(now time.Time) finding {
	const fix = "license_server gencert-new, and provision-new-cert when the licences know it"
	f := finding{What: "certificate", Status: good, Detail: "used until " + day(s.end)}
	switch {
	case s.certificate != nil:
		return failing(f.What, s.certificate)
	case !now.Before(s.end):
		f.Status, f.Detail, f.Fix = broken, "it ended on "+day(s.end), fix
	case s.end.Before(now.Add(soon)):
		f.Status, f.Detail, f.Fix = ending, "it is used until "+day(s.end), fix
	}
	return f
}

func ofStore(store trust.Content, now time.Time) []finding {
	what := "trust for " + store.For
	if store.Missing != "" {
		return []finding{{what, absent, store.Missing, "license_server trust add -for " + store.For + " FILE"}}
	}
	all := []finding{}
	if n := len(store.Certificates); n > 0 {
		all = append(all, finding{what, good, fmt.Sprintf("certificates: %d", n), ""})
	}
	for _, c := range store.Certificates {
		f := finding{What: what, Fix: "have a new one, and: license_server trust rm -for " + store.For + " " + c.ID[:16]}
		switch {
		case !now.Before(c.Ends):
			f.Status, f.Detail = absent, fmt.Sprintf("%s ended on %s", c.Subject, day(c.Ends))
		case c.Ends.Before(now.Add(soon)):
			f.Status, f.Detail = ending, fmt.Sprintf("%s ends on %s", c.Subject, day(c.Ends))
		default:
			continue
		}
		all = append(all, f)
	}
	return all
}

func count(what, some string, n int, none, fix string) finding {
	if n == 0 {
		return finding{what, absent, none, fix}
	}
	return finding{what, good, some, ""}
}

func failing(what string, err error) finding {
	return finding{what, broken, err.Error(), hint.Of(err)}
}

// worst is the worst of findings.
func worst(all []finding) state {
	is := map[state]bool{}
	for _, f := range all {
		is[f.Status] = true
	}
	for _, s := range []state{broken, absent, ending} {
		if is[s] {
			return s
		}
	}
	return good
}

func checkCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "check", Summary: "say what a server has, and what cannot work yet; exits with an error when something cannot",
		Flags: append([]guestcli.Flag{dirFlag(), dbFlag(), jsonFlag()}, ocspFlags()...),
		Run:   run(check),
	}
}

// errIncomplete is the error of check. What it is about has been said.
var errIncomplete = errors.New("something cannot work yet")

func check(ctx context.Context, s session) error {
	d := s.certDir()
	m, mErr := d.material(s.Now, s.status(nil))
	var all []finding
	look := func(l licences, lErr error) {
		all = d.look(ctx, m, d.explain(mErr), l, lErr, s.Now()).findings(s.Now())
	}
	if err := s.withDatabase(ctx, func(l *ledger.Ledger) error { look(l, nil); return nil }); err != nil {
		look(nil, err)
	}
	is := worst(all)
	if s.Has("json") {
		if err := guestcli.WriteJSON(s.Stdout, checked{is, all}); err != nil {
			return err
		}
	} else if err := writeFindings(s.Stdout, all); err != nil {
		return err
	}
	if is == absent || is == broken {
		return errIncomplete
	}
	return nil
}

// checked is the answer to check.
type checked struct {
	Status   state     `json:"status"` // the worst
	Findings []finding `json:"findings"`
}

func writeFindings(out io.Writer, all []finding) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, f := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Status, f.What, visible.Line(f.Detail))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, f := range all {
		if f.Fix != "" {
			if _, err := fmt.Fprintf(out, "\n%s: %s\n    %s\n", f.Status, f.What, visible.Line(f.Fix)); err != nil {
				return err
			}
		}
	}
	return nil
}

// lacks are the lines of /readyz about what is not as it should be.
func lacks(all []finding) string {
	var b strings.Builder
	for _, f := range all {
		if f.Status != good {
			fmt.Fprintf(&b, "%s: %s: %s\n", f.Status, f.What, visible.Line(f.Detail))
		}
	}
	return b.String()
}
