package ovsaruntime

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/licensing/hosting"
	"github.com/ovsactl/ovsactl/templates/front"
)

// off is the address of what is to listen nowhere.
const off = "off"

// behindFront puts nginx in front of an engine, as the flags say.
func (s session) behindFront(engine hosting.Command) (hosting.Engine, error) {
	o := front.Options{
		Dir: filepath.Join(filepath.Dir(engine.Dir), "front"), Certs: s.Text("certs"), User: s.Text("nginx-user"),
		Server: engine.REST, GRPCServer: engine.GRPC, MaxBody: int64(s.Number("max-body")), Connections: s.Number("max-connections"), Timeout: s.Duration("timeout"),
	}
	var listens []string
	for _, at := range []struct {
		flag string
		to   *string
	}{{"front", &o.REST}, {"front-grpc", &o.GRPC}} {
		address := s.Text(at.flag)
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
	if len(listens) == 0 {
		return engine, nil
	}
	if o.MaxBody < 1 || o.Connections < 1 || o.Timeout <= 0 {
		return nil, guestcli.Usagef("limits are numbers from 1, and a timeout is some time")
	}
	for _, name := range []string{"server.pem", "server.key", "client_ca.pem"} {
		if _, err := os.Stat(filepath.Join(o.Certs, name)); err != nil {
			return nil, hint.Wrap(fmt.Errorf("look for the front's certificates: %w", err), "make them: ovsaruntime gencerts -certs %s; or do without the front: -front off", o.Certs)
		}
	}
	program, found := s.Text("nginx"), true
	if filepath.Base(program) == program {
		program, found = run.Find(program, os.Getenv("PATH")+":/usr/sbin:/sbin")
	}
	if !found {
		return nil, hint.Wrap(errors.New("there is no nginx"), "apt-get install nginx-light; or do without the front: -front off")
	}
	config, err := o.Render()
	if err != nil {
		return nil, err
	}
	return hosting.Fronted{Engine: engine, Program: program, Config: config, Dir: o.Dir, Listens: listens, Log: engine.Log}, nil
}
