package licenseserver

import (
	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
)

func initCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "init", Summary: "make what a new server lacks: its keys and certificate, and the authority that certifies hosts; what is there stays",
		Flags: []guestcli.Flag{
			dirFlag(),
			{Name: "subj", Arg: "/TYPE=VALUE...", Help: "whose certificates they are", Default: defaultSubject},
			jsonFlag(),
		},
		Run: run(withOptions(initServer)),
	}
}

// initServer makes a new server's keys, once: server.crt, which comes last, tells that
// there is nothing to do. A server that has one decided itself whether to certify
// hosts.
func initServer(s session, o options) error {
	there, err := o.has(bundle)
	if err != nil {
		return err
	}
	if there {
		return s.Report(struct{}{}, "%s: it is there already", o.path(bundle))
	}
	authorized, err := o.has(authorityCert)
	if err != nil {
		return err
	}
	if !authorized {
		if _, err := o.certify(s.Now()); err != nil {
			return err
		}
	}
	return genCert(s, o)
}
