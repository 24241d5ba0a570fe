package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/component"
	"github.com/ovsactl/ovsactl/internal/diag"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vm"
)

// reach waits until the guest lets us in. Its host keys are known before the
// first connection: from an earlier run, or from its channel to the host.
func (s *roleRun) reach(ctx context.Context) error {
	if s.plan.Action == Update {
		s.metadata = s.plan.state.Metadata
	}
	if !s.metadata.Address.IsValid() {
		return hint.Wrap(errors.New("its address is not known"), `on a bridge, say in the role's network block which "address" the guest gets there`)
	}
	limit := s.patience()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	if len(s.metadata.HostKeys) == 0 {
		keys, err := s.Hypervisor.HostKeys(ctx, s.domain())
		if err != nil {
			return s.unreachable(ctx, err)
		}
		s.metadata.HostKeys = keys
		if err := s.Hypervisor.SetMetadata(ctx, s.domain(), s.metadata); err != nil {
			return fmt.Errorf("record host keys: %w", err)
		}
	}
	if err := s.Remote.Remember(s.domain(), s.metadata.Address, s.metadata.HostKeys); err != nil {
		return fmt.Errorf("record known host: %w", err)
	}
	guest, err := s.Remote.Dial(ctx, s.metadata.Address, s.metadata.User, s.metadata.HostKeys)
	if err != nil {
		return s.unreachable(ctx, err)
	}
	s.guest = guest
	return nil
}

// patience is how long the guest may take until it answers.
func (s *roleRun) patience() time.Duration {
	switch {
	case s.opts.Timeout > 0:
		return s.opts.Timeout
	case s.emulated:
		return emulatedTimeout
	}
	return defaultTimeout
}

// unreachable adds what the guest printed last, and where to look.
func (s *roleRun) unreachable(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if tail, tailErr := s.Hypervisor.SerialTail(ctx, s.domain(), 5); tailErr == nil && len(tail) > 0 {
		var b strings.Builder
		for _, line := range tail {
			b.WriteString("\n    | " + diag.Visible(line))
		}
		err = fmt.Errorf("%w; its serial log ends:%s", err, b.String())
	}
	return hint.Wrap(err, "look closer with: ovsactl logs %s, or ovsactl console %s; a slow guest needs a longer --timeout", s.plan.Role, s.plan.Role)
}

// install brings the guest's components to those of the plan, one after
// another, and records each as soon as it is in.
func (s *roleRun) install(ctx context.Context) error {
	for i, c := range s.plan.role.Components {
		pkg := s.plan.packages[i]
		if s.installed(c.Name, pkg) {
			continue
		}
		s.emit(Event{Kind: Progress, Step: "role." + s.plan.Role + "/components", Stage: "install " + c.Name})
		limited, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not done within %s", c.Timeout))
		err := s.installOne(limited, pkg, c.Port)
		cancel()
		if err != nil {
			return fmt.Errorf("component %q: %w", c.Name, err)
		}
		s.metadata.Components = slices.DeleteFunc(slices.Clone(s.metadata.Components), func(r vm.ComponentRecord) bool { return r.Name == c.Name })
		s.metadata.Components = append(s.metadata.Components, vm.ComponentRecord{Name: c.Name, Version: pkg.Version, Digest: pkg.Digest})
		if err := s.Hypervisor.SetMetadata(ctx, s.domain(), s.metadata); err != nil {
			return fmt.Errorf("record component %q: %w", c.Name, err)
		}
	}
	return s.record(ctx)
}

// installed tells whether a component needs nothing.
func (s *roleRun) installed(name string, pkg component.Package) bool {
	record, ok := installedComponent(s.metadata, name)
	if !ok || record.Digest != pkg.Digest {
		return false
	}
	prefix := "component." + name + "."
	return !slices.ContainsFunc(s.plan.Changes, func(c Change) bool { return strings.HasPrefix(c.Attribute, prefix) })
}

// installOne pushes a tarball and runs its installer as root. What is unpacked
// is in a directory that only root can change.
func (s *roleRun) installOne(ctx context.Context, pkg component.Package, port int) error {
	f, err := os.Open(pkg.Path)
	if err != nil {
		return fmt.Errorf("open package: %w", err)
	}
	defer f.Close()
	tarball := "/var/tmp/ovsactl-" + short(pkg.Digest) + ".tar.gz"
	if err := s.guest.Put(ctx, f, pkg.Size, pkg.Digest, tarball, 0o600); err != nil {
		return fmt.Errorf("push package: %w", err)
	}
	work := "/var/lib/ovsactl/install/" + pkg.Name
	environment := []string{"OVSA_PACKAGE_SHA256=" + pkg.Digest}
	if port != 0 {
		environment = append(environment, "OVSA_PORT="+strconv.Itoa(port))
	}
	installer := path.Join(work, pkg.Dir, "install.sh")
	for _, step := range []struct {
		doing string
		argv  []string
	}{
		{"make room for the package", []string{"rm", "-rf", "--", work}},
		{"make room for the package", []string{"mkdir", "-p", "-m", "0700", "--", work}},
		{"unpack", []string{"tar", "-x", "--no-same-owner", "-f", tarball, "-C", work}},
		{"run install.sh", append(append([]string{"env"}, environment...), "sh", installer)},
		{"clean up", []string{"rm", "-rf", "--", work, tarball}},
	} {
		if err := s.sudo(ctx, step.argv...); err != nil {
			return fmt.Errorf("%s: %w", step.doing, err)
		}
	}
	return nil
}

// sudo runs argv as root in the guest; its last output is part of the error.
func (s *roleRun) sudo(ctx context.Context, argv ...string) error {
	var out tail
	err := s.guest.Run(ctx, append([]string{"sudo", "-n", "--"}, argv...), nil, io.Discard, &out)
	if err == nil {
		return nil
	}
	if text := out.String(); text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}

// record makes the intent what the domain remembers, once it is true.
func (s *roleRun) record(ctx context.Context) error {
	intent, digest := s.plan.intent.encode()
	if bytes.Equal(intent, s.metadata.Intent) {
		return nil
	}
	s.metadata.Intent, s.metadata.Manifest = intent, digest
	return s.Hypervisor.SetMetadata(ctx, s.domain(), s.metadata)
}

// tail keeps the end of what is written to it, fit for a message.
type tail struct{ buf []byte }

const maxTail = 2048

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if len(t.buf) > maxTail {
		t.buf = slices.Clone(t.buf[len(t.buf)-maxTail:])
	}
	return len(p), nil
}

func (t *tail) String() string {
	var lines []string
	for line := range bytes.Lines(bytes.TrimSpace(t.buf)) {
		lines = append(lines, diag.Visible(strings.TrimRight(string(line), "\r\n")))
	}
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}
