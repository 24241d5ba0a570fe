package licenseserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func hostCommands(run binder) []guestcli.Command {
	flags := []guestcli.Flag{dirFlag(), jsonFlag()}
	vm := guestcli.Flag{Name: "vm", Arg: "UUID,...", Help: "the guests that it may vouch for at most; any, without it"}
	in := func(do func(session, certDir) error) func(context.Context, *guestcli.Call) error {
		return run(func(_ context.Context, s session) error { return s.certDir().explain(do(s, s.certDir())) })
	}
	return []guestcli.Command{
		{Name: "hosts allow", Operands: "HOST", Min: 1, Max: 1, Flags: append([]guestcli.Flag{vm}, flags...),
			Summary: "let a host be enrolled: HOST is the ID that ovsactl host enroll prints; says what the host has to know, and makes the attestation authority where there is none",
			Run:     in(allowHost)},
		{Name: "hosts ls", Summary: "list the hosts that may be enrolled", Flags: flags, Run: in(listHosts)},
		{Name: "hosts rm", Operands: "HOST", Min: 1, Max: 1, Flags: flags,
			Summary: "enrol a host no more; the certificate that it has goes on (license_server revoke host)",
			Run:     in(removeHost)},
	}
}

// admitted is what a host has to know that may be enrolled.
type admitted struct {
	enrol.Allowed
	Added     bool   `json:"added"`
	Pin       string `json:"pin"`       // of this server
	Authority string `json:"authority"` // the attestation authority's certificate, PEM
}

func allowHost(s session, d certDir) error {
	// The first thing that a host asks for is who it talks to.
	server, _, err := d.bundle(bundle)
	if err != nil {
		return err
	}
	if there, err := d.has(authorityCert); err != nil {
		return err
	} else if !there {
		if err := d.makeAuthority(session{quiet(s.Call), s.Ports}); err != nil {
			return err
		}
	}
	authority, err := pki.ReadFile(d.path(authorityCert))
	if err != nil {
		return err
	}
	a := admitted{enrol.Allowed{Host: s.Operands[0], VMs: []string{}}, false, licensing.PinOf(server).String(), string(pki.EncodePEM(authority[0]))}
	if s.Has("vm") {
		a.VMs = strings.Split(s.Text("vm"), ",")
	}
	err = d.editHosts(func(list []byte) (text []byte, err error) {
		text, a.Added, err = enrol.With(list, a.Allowed)
		return text, err
	})
	if err != nil {
		return err
	}
	word := "allowed already, with the limits that it has"
	if a.Added {
		word = "allowed"
	}
	return s.Report(a, "%s: %s\non the host: ovsactl host enroll https://SERVER:4452 --pin %s --issuer attestation.crt\nwith a copy of %s", word, a.Host, a.Pin, d.path(authorityCert))
}

// quiet is a call whose report nobody sees.
func quiet(c *guestcli.Call) *guestcli.Call {
	q := *c
	q.Stdout, q.Stderr = io.Discard, io.Discard
	return &q
}

func listHosts(s session, d certDir) error {
	all, err := enrol.AllowList{Path: d.path(allowList)}.List()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		all = nil
	case err != nil:
		return err
	}
	if s.Has("json") {
		return guestcli.WriteJSON(s.Stdout, append([]enrol.Allowed{}, all...))
	}
	w := tabwriter.NewWriter(s.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tGUESTS")
	for _, a := range all {
		vms := "any"
		if len(a.VMs) > 0 {
			vms = strings.Join(a.VMs, ", ")
		}
		fmt.Fprintf(w, "%s\t%s\n", a.Host, vms)
	}
	return w.Flush()
}

func removeHost(s session, d certDir) error {
	host := s.Operands[0]
	err := d.editHosts(func(list []byte) ([]byte, error) {
		text, removed, err := enrol.Without(list, host)
		if err == nil && !removed {
			err = hint.Wrap(fmt.Errorf("%q: no such host", host), "license_server hosts ls")
		}
		return text, err
	})
	if err != nil {
		return err
	}
	return s.Report(enrol.Allowed{Host: host, VMs: []string{}}, "enrolled no more: %s; what it has goes on, or: license_server revoke host %s", host, host)
}

// editHosts replaces the allow list by what edit makes of it, one at a time. The
// lock is the directory's, and leaves nothing.
func (d certDir) editHosts(edit func([]byte) ([]byte, error)) error {
	dir, err := os.Open(string(d))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %q: %w", d, err)
	}
	list, err := guestcli.ReadFile(d.path(allowList), enrol.MaxAllowList)
	if errors.Is(err, fs.ErrNotExist) {
		list, err = []byte(allowListHead), nil
	}
	if err != nil {
		return err
	}
	text, err := edit(list)
	if err != nil || string(text) == string(list) {
		return err
	}
	return atomicfile.WriteOwned(d.path(allowList), text, public)
}
