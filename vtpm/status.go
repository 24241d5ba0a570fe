package vtpm

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ovsactl/ovsactl/vtpm/nv"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// policy is what a record of this host has to fulfil.
func (h *Host) policy(ctx context.Context, uuid string, eks []quote.EK, allowUnenrolled bool) (quote.Policy, error) {
	trust, err := h.trust("trust")
	if err != nil {
		return quote.Policy{}, err
	}
	issuers, err := h.trust(akTrust)
	if err != nil {
		return quote.Policy{}, err
	}
	roots, err := h.roots()
	if err != nil {
		return quote.Policy{}, err
	}
	return quote.Policy{
		Trust: trust, AKIssuers: issuers, AllowUnenrolled: allowUnenrolled,
		VM: uuid, EKs: eks, VTPMRoots: roots, Now: h.opts.Now(),
	}, nil
}

// structural is r's first failure that is the record's own: not that of a host
// which nobody has enrolled, or not for this VM, whose TPM's vendor nobody trusts,
// or whose firmware measures nothing. Those say how much a true record is worth.
func structural(r quote.Result) error {
	for _, s := range r.Steps {
		switch s.Name {
		case quote.StepEnrolled, quote.StepVMAllowed, quote.StepHostEK, quote.StepHostID, quote.StepMeasured:
			continue
		}
		if s.Status == quote.Failed {
			return fmt.Errorf("%s: %s", s.Name, s.Detail)
		}
	}
	return nil
}

// Status describes the VM's vTPM from what is on the host, without starting it.
// Missing state is a Status, not an error.
func (h *Host) Status(ctx context.Context, uuid string) (Status, error) {
	if err := checkUUID(uuid); err != nil {
		return Status{}, err
	}
	s := Status{Binding: Missing, Simulated: h.simulated()}
	if made, err := h.exists(uuid); err != nil || !made {
		return s, err
	}
	data, err := os.ReadFile(h.recordPath(uuid))
	if errors.Is(err, fs.ErrNotExist) {
		s.Binding, s.Reason = Unbound, "the host's TPM has never vouched for it"
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read record: %w", err)
	}
	p, err := h.policy(ctx, uuid, nil, true)
	if err != nil {
		return s, err
	}
	p.Trust = nil // structural does not ask who made the host's TPM, and it costs most
	r := quote.Verify(data, p)
	if err := structural(r); err != nil {
		s.Binding, s.Reason = Unbound, "its record is not good: "+err.Error()
		return s, nil //nolint:nilerr // a bad record is a state, not a failure
	}
	if at, err := time.Parse(time.RFC3339, r.Claims.Time); err == nil {
		s.BoundAt = at
	}
	if len(r.Record.EKChain) > 0 {
		s.Issuer = issuer(r.Record.EKChain[0])
	}
	certs, err := readCerts(h.akCertPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("read the host's AK certificate: %w", err)
	}
	s.Certified = len(certs) > 0 && bytes.Equal(certs[0].Raw, r.Record.AKCert)
	now, err := h.hostState(ctx)
	if err != nil {
		return s, err
	}
	switch {
	case !bytes.Equal(now.ak, r.Record.AK):
		s.Binding, s.Reason = Stale, "its record is by another TPM or attestation key"
	case r.Clock.ResetCount != now.resetCount:
		s.Binding, s.Reason = Stale, "its record is of an earlier boot of the host: start the guest again"
	default:
		s.Binding = Bound
	}
	return s, nil
}

// Source says where a record was read.
type Source string

const (
	FromNVRAM Source = "vTPM NVRAM" // the guest is off
	FromHost  Source = "the host's copy"
)

// Verification is a full verification of a VM's record.
type Verification struct {
	Source Source `json:"source"`
	quote.Result
}

// Verify verifies the VM's record offline, every step of it. While the guest is
// off the record and the endorsement keys are read from the vTPM itself; while it
// runs, from the copy that the host keeps.
func (h *Host) Verify(ctx context.Context, uuid string, allowUnenrolled bool) (Verification, error) {
	record, eks, source, err := h.read(ctx, uuid)
	if err != nil {
		return Verification{}, err
	}
	p, err := h.policy(ctx, uuid, eks, allowUnenrolled)
	if err != nil {
		return Verification{}, err
	}
	return Verification{source, quote.Verify(record, p)}, nil
}

// VerifyEvidence verifies what a guest says about itself, for the nonce that it
// was asked with, and that the record in it is the one this host wrote.
func (h *Host) VerifyEvidence(ctx context.Context, uuid string, evidence, nonce []byte, allowUnenrolled bool) (quote.Result, error) {
	p, err := h.policy(ctx, uuid, nil, allowUnenrolled)
	if err != nil {
		return quote.Result{}, err
	}
	r := quote.VerifyEvidence(evidence, nonce, quote.EvidencePolicy{Record: p})
	step := quote.Step{Name: "record is the host's", Status: quote.Passed}
	own, err := os.ReadFile(h.recordPath(uuid))
	if errors.Is(err, fs.ErrNotExist) {
		return quote.Result{}, ErrMissing
	}
	if err != nil {
		return quote.Result{}, fmt.Errorf("read record: %w", err)
	}
	switch {
	case r.Evidence == nil:
		step.Status, step.Detail = quote.Skipped, "not run: there is no evidence to look at"
	case quote.Digest(own) != r.Digest:
		step.Status, step.Detail = quote.Failed, "the guest shows another record than the one that this host wrote last"
	}
	r.Steps = append(r.Steps, step)
	return r, nil
}

// read gets the record from the vTPM, or from the host's copy while it runs.
func (h *Host) read(ctx context.Context, uuid string) (record []byte, eks []quote.EK, source Source, err error) {
	if err := checkUUID(uuid); err != nil {
		return nil, nil, "", err
	}
	l, err := h.lockState(ctx, uuid)
	if err != nil {
		return nil, nil, "", err
	}
	defer l.Release()
	made, err := h.exists(uuid)
	if err != nil {
		return nil, nil, "", err
	}
	if !made {
		return nil, nil, "", ErrMissing
	}
	err = withSWTPM(ctx, h.stateDir(uuid), func(t transport.TPM) error {
		if eks, err = readEKs(t); err != nil {
			return err
		}
		record, err = nv.ReadRecord(t)
		return err
	})
	if !errors.Is(err, ErrRunning) {
		return record, eks, FromNVRAM, err
	}
	record, eks, err = h.kept(uuid)
	return record, eks, FromHost, err
}

// Info is what there is to know about a VM's vTPM.
type Info struct {
	Status  Status       `json:"status"`
	Source  Source       `json:"source"`
	Claims  quote.Claims `json:"claims"`
	Clock   *quote.Clock `json:"clock"`
	PCRs    []PCR        `json:"pcrs"` // of the host, SHA-256 bank
	AKName  string       `json:"host_ak"`
	Issuer  string       `json:"host_ek_issuer,omitempty"`
	RawSize int          `json:"record_bytes"`
}

// PCR is a register's value, for people.
type PCR struct {
	Index  int    `json:"index"`
	Digest string `json:"digest"` // lower-case hex
}

// Show describes the VM's vTPM and its record, which it does not judge.
func (h *Host) Show(ctx context.Context, uuid string) (Info, error) {
	status, err := h.Status(ctx, uuid)
	if err != nil {
		return Info{}, err
	}
	info := Info{Status: status}
	record, _, source, err := h.read(ctx, uuid)
	if errors.Is(err, nv.ErrNoRecord) || errors.Is(err, nv.ErrTorn) {
		return info, nil
	}
	if err != nil {
		return info, err
	}
	p, err := h.policy(ctx, uuid, nil, true)
	if err != nil {
		return info, err
	}
	r := quote.Verify(record, p)
	info.Source, info.Claims, info.Clock, info.RawSize = source, r.Claims, r.Clock, len(record)
	if r.Record == nil {
		return info, nil
	}
	info.AKName = publicName(r.Record.AK)
	for _, v := range r.Record.PCRs {
		info.PCRs = append(info.PCRs, PCR{v.Index, hex.EncodeToString(v.Digest)})
	}
	if len(r.Record.EKChain) > 0 {
		info.Issuer = issuer(r.Record.EKChain[0])
	}
	return info, nil
}
