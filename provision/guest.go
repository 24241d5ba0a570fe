package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
)

// reach waits until the guest lets us in. Its host keys are known before the
// first connection: from an earlier run, or from its channel to the host.
func (s *roleRun) reach(ctx context.Context) error {
	if s.metadata.Role == "" { // it is not defined anew
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
			b.WriteString("\n    | " + visible.Text(line))
		}
		err = fmt.Errorf("%w; its serial log ends:%s", err, b.String())
	}
	return hint.Wrap(err, "look closer with: ovsactl logs %s, or ovsactl console %s; a slow guest needs a longer --timeout", s.plan.Role, s.plan.Role)
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
		lines = append(lines, visible.Text(strings.TrimRight(string(line), "\r\n")))
	}
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}
