package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/remote"
	"github.com/ovsactl/ovsactl/provision"
	"github.com/ovsactl/ovsactl/vm"
)

// The adapters fit the ports.
var (
	_ provision.Remote = (*remote.Client)(nil)
	_ hypervisor       = (*vm.Host)(nil)
)

// domainPrefix and a role's name are the name of its domain.
const domainPrefix = "ovsa_"

// defaultUser logs in to guests that do not say otherwise.
const defaultUser = "ovsa"

// hypervisor is what the verbs on running guests need of libvirt.
type hypervisor interface {
	Domains(ctx context.Context) ([]vm.State, error)
	Inspect(ctx context.Context, name string) (vm.State, error)
	SerialTail(ctx context.Context, name string, lines int) ([]string, error)
	Console(ctx context.Context, name string, in io.Reader, out io.Writer) error
	Screenshot(ctx context.Context, name string) ([]byte, error)
}

// guests are the roles of one host and the way to them.
type guests struct {
	hypervisor hypervisor
	sshDir     string
	port       uint16
	close      func() error
}

func openGuests(ctx context.Context, env Env, flags *hostFlags) (*guests, error) {
	h, err := flags.resolve(env)
	if err != nil {
		return nil, err
	}
	host, err := vm.Open(ctx, h.URI, vm.Options{DataDir: h.DataDir})
	if err != nil {
		return nil, err
	}
	return &guests{hypervisor: host, sshDir: filepath.Join(h.DataDir, "ssh"), port: 22, close: host.Close}, nil
}

// withGuests runs f with the guests of the host that flags name.
func withGuests(ctx context.Context, env Env, flags *hostFlags, f func(*guests) error) error {
	g, err := openGuests(ctx, env, flags)
	if err != nil {
		return err
	}
	defer g.close()
	return f(g)
}

// state describes a role's guest, which must be there and be ours.
func (g *guests) state(ctx context.Context, role string) (vm.State, error) {
	s, err := g.hypervisor.Inspect(ctx, domainPrefix+role)
	switch {
	case err != nil:
		return vm.State{}, err
	case !s.Exists:
		return vm.State{}, hint.Wrap(fmt.Errorf("role %q has no guest on this host", role), "%s", g.have(ctx))
	case !s.Ours:
		problem := cmp.Or(s.Problem, "it has no metadata of ovsactl")
		return vm.State{}, fmt.Errorf("domain %q: %w: %s", s.Name, vm.ErrForeign, problem)
	}
	return s, nil
}

// running is state of a guest that runs.
func (g *guests) running(ctx context.Context, role string) (vm.State, error) {
	s, err := g.state(ctx, role)
	if err == nil && !s.Active {
		err = hint.Wrap(fmt.Errorf("the guest of role %q does not run (%s)", role, cmp.Or(s.Status, "shut off")), "start it: ovsactl apply")
	}
	return s, err
}

// have says which roles there are, for a hint.
func (g *guests) have(ctx context.Context) string {
	names, err := g.roles(ctx, func(vm.State) bool { return true })
	if err != nil || len(names) == 0 {
		return "make it: ovsactl apply"
	}
	return "the roles with guests here: " + strings.Join(names, ", ")
}

// roles lists the roles whose guests are wanted, sorted.
func (g *guests) roles(ctx context.Context, want func(vm.State) bool) ([]string, error) {
	all, err := g.hypervisor.Domains(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range all {
		if s.Ours && want(s) {
			names = append(names, s.Metadata.Role)
		}
	}
	slices.Sort(names)
	return names, nil
}

// login says how to log in.
type login struct {
	user    string // "" for the role's
	timeout time.Duration
}

// connect connects to a running guest by what its metadata says of it.
func (g *guests) connect(ctx context.Context, role string, how login) (*remote.Conn, error) {
	s, err := g.running(ctx, role)
	if err != nil {
		return nil, err
	}
	m := s.Metadata
	if !m.Address.IsValid() || len(m.HostKeys) == 0 {
		return nil, hint.Wrap(fmt.Errorf("how to reach role %q is not known", role),
			"it was not ready yet when it was made; finish that: ovsactl apply, or look at it: ovsactl console %s", role)
	}
	client, err := remote.Open(g.sshDir)
	if err != nil {
		return nil, err
	}
	cause := fmt.Errorf("no answer for %s", how.timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, how.timeout, cause)
	defer cancel()
	conn, err := client.Connect(ctx, remote.Target{
		Addr:     netip.AddrPortFrom(m.Address, g.port),
		User:     cmp.Or(how.user, m.User, defaultUser),
		HostKeys: m.HostKeys,
	})
	if err != nil {
		return nil, fmt.Errorf("role %q: %w", role, err)
	}
	return conn, nil
}

// passExit makes a guest command's exit status that of ovsactl.
func passExit(err error) error {
	var exit *remote.ExitError
	if errors.As(err, &exit) {
		return exitStatus(exit.Code)
	}
	return err
}
