package quote

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Status is how a step of a verification went.
type Status string

const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Warning Status = "warning" // passed, with something that the reader must know
	Skipped Status = "skipped" // could not run after a failure, or was not asked for
)

// Step is one check and its outcome.
type Step struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// Result is a verification: every step is listed, also those that could not run.
// Its other fields are filled as far as things could be parsed, and are to be
// believed only when OK.
type Result struct {
	Steps      []Step            `json:"steps"`
	Claims     Claims            `json:"claims"`
	Clock      *Clock            `json:"clock,omitempty"`       // of the host's TPM, at the record
	GuestClock *Clock            `json:"guest_clock,omitempty"` // of the vTPM, at the evidence
	HostClock  *Clock            `json:"host_clock,omitempty"`  // of the host's TPM, at its word in the evidence
	Life       []byte            `json:"-"`                     // TPM name that is the vTPM's until its next reset; nil when it was not proven
	Record     *Record           `json:"-"`
	Digest     [32]byte          `json:"-"` // of the record's bytes
	Evidence   *Evidence         `json:"-"`
	AKCert     *x509.Certificate `json:"-"` // the host AK's, when it chains to the policy's issuers
}

// OK says that no step failed, and that none was cut short by a failure.
func (r Result) OK() bool {
	for _, s := range r.Steps {
		if s.Status == Failed {
			return false
		}
	}
	return len(r.Steps) > 0
}

// Err is nil when r is OK, else the first failure.
func (r Result) Err() error {
	for _, s := range r.Steps {
		if s.Status == Failed {
			return fmt.Errorf("%s: %s", s.Name, s.Detail)
		}
	}
	if len(r.Steps) == 0 {
		return errors.New("nothing was verified")
	}
	return nil
}

// Step returns the step of that name, or a zero Step.
func (r Result) Step(name string) Step {
	for _, s := range r.Steps {
		if s.Name == name {
			return s
		}
	}
	return Step{}
}

// Clock is a TPM's clock and counters as a quote states them.
type Clock struct {
	Millis       uint64 `json:"millis"`
	ResetCount   uint32 `json:"reset_count"`
	RestartCount uint32 `json:"restart_count"`
}

// After says that c is not earlier than prev of the same TPM.
func (c Clock) After(prev Clock) bool {
	switch {
	case c.ResetCount != prev.ResetCount:
		return c.ResetCount > prev.ResetCount && c.Millis >= prev.Millis
	case c.RestartCount != prev.RestartCount:
		return c.RestartCount > prev.RestartCount && c.Millis >= prev.Millis
	}
	return c.Millis >= prev.Millis
}

// Policy is what a record must satisfy.
type Policy struct {
	PCRs            []int               // the exact selection; nil means DefaultPCRs
	Trust           []*x509.Certificate // host TPM vendors' roots
	AKIssuers       []*x509.Certificate // roots of the attestation CA that certifies host AKs
	AllowUnenrolled bool                // an AK without a certificate is a warning, not a failure
	VM              string              // the UUID expected; "" is a failure
	EKs             []EK                // what is in the vTPM; nil: not compared
	VTPMRoots       []*x509.Certificate // the host's own CA for EK certificates; nil: not checked
	Previous        *Clock              // of an earlier record of the same host TPM
	Now             time.Time           // for certificates; zero is a failure
	Chains          *Chains             // certificates verified before; nil: none
}

// DefaultPCRs are the host's registers that a record covers: firmware, option
// ROMs, boot loader, partition table and secure boot policy.
func DefaultPCRs() []int { return []int{0, 1, 2, 3, 4, 5, 6, 7} }

// outcome of one check: nil passes, a *note passes with a remark, a skip was not
// asked for, another error fails.
type note struct {
	status Status
	text   string
}

func (n *note) Error() string { return n.text }

func warn(format string, args ...any) error {
	return &note{Warning, fmt.Sprintf(format, args...)}
}

func pass(format string, args ...any) error {
	return &note{Passed, fmt.Sprintf(format, args...)}
}

func skip(format string, args ...any) error {
	return &note{Skipped, fmt.Sprintf(format, args...)}
}

// check is one named step; those after a fatal one that failed do not run.
type check struct {
	name  string
	fatal bool // later steps make no sense without it
	run   func() error
}

func runChecks(checks []check) []Step {
	steps := make([]Step, 0, len(checks))
	stopped := ""
	for _, c := range checks {
		if stopped != "" {
			steps = append(steps, Step{c.name, Skipped, "not run: " + stopped + " failed"})
			continue
		}
		step := outcome(c.name, c.run())
		if step.Status == Failed && c.fatal {
			stopped = c.name
		}
		steps = append(steps, step)
	}
	return steps
}

func outcome(name string, err error) Step {
	var n *note
	switch {
	case err == nil:
		return Step{Name: name, Status: Passed}
	case errors.As(err, &n):
		return Step{name, n.status, n.text}
	}
	return Step{name, Failed, err.Error()}
}
