package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/roles"
	"github.com/ovsactl/ovsactl/templates"
	"github.com/ovsactl/ovsactl/vm"
)

// receiveDir is where a guest unpacks components, for root only.
const receiveDir = "/var/lib/ovsactl/install"

// wanted is a component that the guest has to get.
type wanted struct {
	roles.Component
	pkg component.Package
}

// install brings the guest's components to those of the plan, all in one stream,
// and records each as soon as it is in.
func (s *roleRun) install(ctx context.Context) error {
	var missing []wanted
	for i, c := range s.plan.role.Components {
		if pkg := s.plan.packages[i]; !s.installed(c, pkg) {
			missing = append(missing, wanted{c, pkg})
		}
	}
	// What a service may load is there before the service starts, whatever comes first in
	// the manifest.
	slices.SortStableFunc(missing, func(a, b wanted) int { return cmp.Compare(loadedBy(a.Name), loadedBy(b.Name)) })
	if len(missing) > 0 {
		if err := s.push(ctx, missing); err != nil {
			return err
		}
	}
	for i, c := range s.plan.role.Components {
		if s.configured(c, s.plan.intent.Components[i]) {
			continue
		}
		if err := s.configure(ctx, c); err != nil {
			return err
		}
	}
	return s.record(ctx)
}

// loadedBy is how many components of ours may load what a component brings, negative.
func loadedBy(component string) int {
	if component == "openvino" {
		return -1
	}
	return 0
}

// installed tells whether a component's installer has nothing to do. Arguments of ours
// are not told to installers.
func (s *roleRun) installed(c roles.Component, pkg component.Package) bool {
	record, ok := installedComponent(s.metadata, c.Name)
	if !ok || record.Digest != pkg.Digest {
		return false
	}
	_, service := serviceOf(c)
	return service || !s.argumentsChange(c)
}

// configured tells whether a component is as its arguments say.
func (s *roleRun) configured(c roles.Component, in componentIntent) bool {
	_, service := serviceOf(c)
	switch {
	case !service:
		return true
	case s.fresh():
		return in.asItIs()
	}
	before, err := decodeIntent(s.metadata.Intent)
	i := slices.IndexFunc(before.Components, func(b componentIntent) bool { return b.Name == c.Name })
	if err != nil || i < 0 {
		return in.asItIs()
	}
	return before.Components[i].Port == in.Port && slices.Equal(before.Components[i].Arguments, in.Arguments)
}

// asItIs tells whether a component of ours is to be as it is by itself.
func (in componentIntent) asItIs() bool {
	return len(in.Arguments) == 0 && (in.Port == 0 || in.Name == "license_server" && in.Port == licensePort)
}

// licensePort is where a licence server listens by itself.
const licensePort = 4452

func (s *roleRun) argumentsChange(c roles.Component) bool {
	prefix := "component." + c.Name + "."
	return slices.ContainsFunc(s.plan.Changes, func(c Change) bool { return strings.HasPrefix(c.Attribute, prefix) })
}

// push has the guest receive and install components, in one command. The guest
// says which are in, and each is recorded then.
func (s *roleRun) push(ctx context.Context, missing []wanted) error {
	bundle := component.Bundle{Codec: component.Gzip}
	if s.plan.intent.Image.Build != nil {
		bundle.Codec = component.Zstd // our own images have it
	}
	argv := []string{"sudo", "-n", "--", "sh", "-c", templates.ReceiveScript, "ovsactl-receive", receiveDir, string(bundle.Codec)}
	for _, w := range missing {
		bundle.Packages = append(bundle.Packages, w.pkg)
		argv = append(argv, w.arguments()...)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	in := &installation{roleRun: s, ctx: ctx, cancel: cancel, left: missing}
	in.limit()
	defer in.timer.Stop()

	stream, out := io.Pipe()
	bundled := make(chan error, 1)
	go func() {
		size := bundle.Size()
		err := bundle.Write(ctx, out, func(n int64) { s.progress(in.step())("send components", n, size) })
		out.CloseWithError(err)
		bundled <- err
	}()
	var errs tail
	err := s.guest.Run(ctx, argv, stream, in, &errs)
	stream.CloseWithError(errNobodyReads) // so that nothing more is written
	sendErr := <-bundled

	switch {
	case in.err != nil:
		return in.err
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case sendErr != nil && !errors.Is(sendErr, errNobodyReads):
		err = sendErr
	case err == nil && len(in.left) > 0:
		err = errors.New("the guest does not say that it is installed")
	case err == nil:
		return nil
	case errs.String() != "":
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	if !in.received {
		return fmt.Errorf("send components: %w", err)
	}
	return fmt.Errorf("component %q: run install.sh: %w", in.left[0].Name, err)
}

var errNobodyReads = errors.New("the guest takes no more")

// installation follows what a guest says while it installs: it is what the
// command's output is written to.
type installation struct {
	*roleRun
	ctx      context.Context
	cancel   context.CancelCauseFunc
	left     []wanted // the first is being installed
	received bool
	timer    *time.Timer // of the first
	line     []byte
	err      error
}

// limit ends the installation when the first of what is left is not done in its
// time; for the first of all, what is sent is part of that.
func (in *installation) limit() {
	d := in.left[0].Timeout
	in.timer = time.AfterFunc(d, func() { in.cancel(fmt.Errorf("not done within %s", d)) })
}

func (in *installation) step() string { return "role." + in.plan.Role + "/components" }

// maxLine bounds what a guest says in one line.
const maxLine = 1024

func (in *installation) Write(p []byte) (int, error) {
	for _, c := range p {
		switch {
		case in.err != nil:
		case c == '\n':
			in.err = in.heard(string(in.line))
			in.line = in.line[:0]
		case len(in.line) == maxLine:
			in.err = fmt.Errorf("install components: the guest says a line of over %d bytes", maxLine)
		default:
			in.line = append(in.line, c)
		}
	}
	if in.err != nil {
		in.cancel(in.err)
	}
	return len(p), nil
}

// heard takes a line of the guest's.
func (in *installation) heard(line string) error {
	switch {
	case line == "received" && !in.received:
		in.received = true
		in.progress(in.step())("install "+in.left[0].Name, 0, 0)
		return nil
	case !in.received || len(in.left) == 0 || line != "installed "+in.left[0].Name:
		return fmt.Errorf("install components: the guest says %q", visible.Text(line))
	}
	in.timer.Stop()
	done := in.left[0]
	if in.left = in.left[1:]; len(in.left) > 0 {
		in.limit()
		in.progress(in.step())("install "+in.left[0].Name, 0, 0)
	}
	return in.installedNow(in.ctx, done)
}

// installedNow records a component that is in.
func (s *roleRun) installedNow(ctx context.Context, w wanted) error {
	others := slices.DeleteFunc(slices.Clone(s.metadata.Components), func(r vm.ComponentRecord) bool { return r.Name == w.Name })
	s.metadata.Components = append(others, vm.ComponentRecord{Name: w.Name, Version: w.pkg.Version, Digest: w.pkg.Digest})
	if err := s.Hypervisor.SetMetadata(ctx, s.domain(), s.metadata); err != nil {
		return fmt.Errorf("record component %q: %w", w.Name, err)
	}
	return nil
}

// arguments are those of the script for one component.
func (w wanted) arguments() []string {
	port, owner := "-", "user's"
	if w.Port != 0 {
		port = strconv.Itoa(w.Port)
	}
	if w.pkg.Ours {
		owner = "ours"
	}
	return []string{w.Name, w.pkg.Dir, w.pkg.Digest, port, owner}
}
