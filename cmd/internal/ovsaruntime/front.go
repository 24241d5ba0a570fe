package ovsaruntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/licensing/hosting"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/templates/front"
)

const (
	off      = "off"  // the address of what is to listen nowhere
	autoGRPC = "auto" // that of the guide, with an engine that is known to speak gRPC
)

// The files of the front.
const (
	serverName = "server"    // its certificate and key
	caName     = "client_ca" // those of the authority of its clients
	crlName    = "client.crl"
)

// frontFlags are what is said of the front.
func frontFlags() []guestcli.Flag {
	setting := func(name, arg string, kind guestcli.Kind, value, help string) guestcli.Flag {
		return guestcli.Flag{Name: name, Arg: arg, Kind: kind, Setting: true, Default: value, Help: help}
	}
	return []guestcli.Flag{
		setting("front", "ADDRESS", guestcli.Plain, ":2225", `where nginx takes HTTP/1.1 for the program, over TLS with certificates of both ends; "off" for nowhere`),
		setting("front-grpc", "ADDRESS", guestcli.Plain, autoGRPC, `where it takes gRPC; "off" for nowhere; "auto" is :3335 with the engine of ours and ovms, and nowhere with another program`),
		certsFlag("the front's server.pem, server.key, client_ca.pem and, where there is one, client.crl: see gencerts"),
		setting("max-body", "BYTES", guestcli.Number, "67108864", "how long a client's request may be"),
		setting("max-connections", "N", guestcli.Number, "1024", "connections of clients at the same time, for each core"),
		setting("max-per-client", "N", guestcli.Number, "0", "requests of one client at the same time; 0 for as many as of all"),
		setting("client-rate", "PER-SECOND:AT-ONCE", guestcli.Plain, off, `requests of one client; "off" for any number`),
		setting("timeout", "DURATION", guestcli.Duration, "5m", "how long the program may take to answer, or a client to go on"),
		setting("nginx", "PROGRAM", guestcli.File, "nginx", "which nginx"),
		setting("nginx-user", "USER", guestcli.Plain, "www-data", "whom its workers run as"),
	}
}

// listens has the front listen where the flags say, and returns where that is for this
// machine.
func (s session) listens(o *front.Options) (listens []string, err error) {
	for _, at := range []struct {
		flag string
		to   *string
	}{{"front", &o.REST}, {"front-grpc", &o.GRPC}} {
		address := s.Text(at.flag)
		if address == autoGRPC && at.flag == "front-grpc" {
			address = off
			if speaksGRPC(s.kind()) {
				address = ":3335"
			}
		}
		if address == off {
			continue
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, guestcli.Usagef("-%s %q: want ADDRESS:PORT, :PORT or %s", at.flag, address, off)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		*at.to = address
		listens = append(listens, net.JoinHostPort(host, port))
	}
	return listens, nil
}

// behindFront puts nginx in front of an engine that is a command, as the flags say.
// Without a front there is no state of one.
func (s session) behindFront(engine hosting.Engine, command hosting.Command, look time.Duration) (hosting.Engine, *hosting.FrontState, error) {
	o := front.Options{
		Dir: filepath.Join(filepath.Dir(command.Dir), "front"), Certs: s.Text("certs"), User: s.Text("nginx-user"),
		Server: command.REST, GRPCServer: command.GRPC, MaxBody: int64(s.Number("max-body")), Connections: s.Number("max-connections"), PerClient: s.Number("max-per-client"), Timeout: s.Duration("timeout"),
	}
	listens, err := s.listens(&o)
	if err != nil {
		return nil, nil, err
	}
	if len(listens) == 0 {
		return engine, nil, nil
	}
	if rate := s.Text("client-rate"); rate != off {
		perSecond, atOnce, err := guestcli.ParseRate(rate)
		if err != nil {
			return nil, nil, guestcli.Usagef("-client-rate %q: %w; or off", rate, err)
		}
		o.Rate, o.Burst = int(max(1, perSecond*60)), atOnce
	}
	if o.MaxBody < 1 || o.Connections < 1 || o.PerClient < 0 || o.Timeout <= 0 {
		return nil, nil, guestcli.Usagef("limits are numbers from 1, and a timeout is some time")
	}
	files := []string{filepath.Join(o.Certs, serverName+".pem"), filepath.Join(o.Certs, serverName+".key"), filepath.Join(o.Certs, caName+".pem")}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			return nil, nil, hint.Wrap(fmt.Errorf("look for the front's certificates: %w", err), "make them: ovsaruntime gencerts -certs %s; or do without the front: -front off", o.Certs)
		}
	}
	program, found := s.Text("nginx"), true
	if filepath.Base(program) == program {
		program, found = run.Find(program, os.Getenv("PATH")+":/usr/sbin:/sbin")
	}
	if !found {
		return nil, nil, hint.Wrap(errors.New("there is no nginx"), "apt-get install nginx-light; or do without the front: -front off")
	}
	if _, err := o.Render(); err != nil {
		return nil, nil, err
	}
	state := hosting.NewFrontState()
	return hosting.Fronted{
		Engine: engine, Program: program, Dir: o.Dir, Listens: listens, Log: command.Log, Look: look, State: state,
		Files: append(files, filepath.Join(o.Certs, crlName)), Config: func() ([]byte, error) { return configured(o) },
	}, state, nil
}

// configured is nginx's configuration, with the clients' certificates that are revoked
// where there is a list of them.
func configured(o front.Options) ([]byte, error) {
	switch _, err := os.Stat(filepath.Join(o.Certs, crlName)); {
	case err == nil:
		o.Revoked = true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("look for revoked certificates: %w", err)
	}
	return o.Render()
}

// frontCerts is the directory of the front's certificates.
type frontCerts string

// ends are when what is in its files ends. A file that cannot be read has no end: that
// is said where it is used.
func (d frontCerts) ends() map[string]time.Time {
	ends := map[string]time.Time{}
	for _, name := range []string{serverName, caName} {
		certs, err := pki.ReadFile(filepath.Join(string(d), name+".pem"))
		if err != nil {
			continue
		}
		for _, c := range certs {
			if at, is := ends[name+".pem"]; !is || c.NotAfter.Before(at) {
				ends[name+".pem"] = c.NotAfter
			}
		}
	}
	if list, err := pki.ReadRevocations(filepath.Join(string(d), crlName)); err == nil && !list.NextUpdate.IsZero() {
		ends[crlName] = list.NextUpdate
	}
	return ends
}

// soon is how long before its end a certificate is warned of.
const soon = 30 * 24 * time.Hour

// warn logs what ends soon, or has ended.
func (d frontCerts) warn(log *slog.Logger, now time.Time) {
	ends := d.ends()
	for _, file := range slices.Sorted(maps.Keys(ends)) {
		at, what := ends[file], "the front's certificate ends soon"
		if now.Before(at.Add(-soon)) {
			continue
		}
		if now.After(at) {
			what = "the front's certificate has ended: clients cannot connect"
		}
		fix := "ovsaruntime gencerts -renew"
		if file == caName+".pem" {
			fix = "move client_ca.pem and client_ca.key away, and make them and each client's certificate anew: ovsaruntime gencerts"
		}
		log.Warn(what, "file", file, "end", at.UTC().Format(time.RFC3339), "fix", fix)
	}
}

// watch warns each day until ctx ends.
func (d frontCerts) watch(ctx context.Context, log *slog.Logger, now func() time.Time) {
	days := time.NewTicker(24 * time.Hour)
	defer days.Stop()
	for {
		d.warn(log, now())
		select {
		case <-ctx.Done():
			return
		case <-days.C:
		}
	}
}
