package ovsaruntime

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/outfiles"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

func tcbCommand(p keystore.Ports) guestcli.Command {
	return guestcli.Command{
		Name:    "gen-tcb-signature",
		Summary: "record the state in which a guest and its host may get keys, from quotes that verify",
		Flags: append(keystore.HostTrust(), keystore.Trusting(
			guestcli.Flag{Name: "n", Arg: "NAME", Help: "the TCB's name", Required: true},
			guestcli.Flag{Name: "v", Arg: "VERSION", Help: "its version", Required: true},
			guestcli.Flag{Name: "f", Arg: "OUT.tcb", Kind: guestcli.File, Help: "where to write it", Required: true},
			keystore.Flag(),
			guestcli.Flag{Name: "s", Arg: "MASK", Help: "the guest's PCRs that must match, in hex: bit n is PCR n (default 0xffffff, all that are quoted)"},
			guestcli.Flag{Name: "h", Arg: "MASK", Help: "the host's PCRs that must match (default 0xffffff, all that are quoted)"},
			guestcli.Flag{Name: "guest-quote", Arg: "FILE", Kind: guestcli.File, Help: "a guest's answer to ovsaruntime quote, and not this guest's; needs -nonce"},
			guestcli.Flag{Name: "nonce", Arg: "HEX", Help: "the nonce that the guest was asked with"},
			guestcli.Flag{Name: "from-record", Arg: "FILE", Kind: guestcli.File, Help: "take the host's PCRs from this record, and not from the guest's"},
			guestcli.Flag{Name: "allow-unenrolled", Help: "only warn when no authority has certified the host's key"},
			hostPort(), outfiles.Flag(), guestcli.JSON(),
		)...),
		Example: `gen-tcb-signature -n "Face Detect @ Runtime VM" -v 1.0 -f face_detect_runtime_vm.tcb -k isv_keystore -s 0xffffff -h 0xffffff`,
		Run: func(ctx context.Context, c *guestcli.Call) error {
			return genTCB(ctx, session{keystore.Session{Call: c, Ports: p}})
		},
	}
}

func genTCB(ctx context.Context, s session) error {
	guestMask, err := parseMask(s, "s")
	if err != nil {
		return err
	}
	hostMask, err := parseMask(s, "h")
	if err != nil {
		return err
	}
	out := &outfiles.Set{Force: s.Has("force")}
	if err := out.Check(s.Text("f")); err != nil {
		return err
	}
	guestPCRs, hostPCRs, err := s.quoted(ctx)
	if err != nil {
		return err
	}
	tcb := licensing.TCB{Name: s.Text("n"), Version: s.Text("v")}
	if tcb.Guest, err = selectPCRs(guestMask, guestPCRs); err != nil {
		return fmt.Errorf("-s: %w", err)
	}
	if tcb.Host, err = selectPCRs(hostMask, hostPCRs); err != nil {
		return fmt.Errorf("-h: %w", err)
	}
	p, err := s.Party(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	file, err := licensing.Sign(tcb, p.Key(licensing.Primary), p.Chain)
	if err != nil {
		return err
	}
	out.Add(s.Text("f"), file)
	if err := out.Write(); err != nil {
		return err
	}
	return s.Report(recorded{s.Text("f"), tcb.Name, tcb.Version, tcb.Guest.Mask.PCRs(), tcb.Host.Mask.PCRs()},
		"%s: PCRs %v of the guest and %v of the host", s.Text("f"), tcb.Guest.Mask.PCRs(), tcb.Host.Mask.PCRs())
}

// recorded is what was written, for programs.
type recorded struct {
	File    string `json:"file"`
	Name    string `json:"name"`
	Version string `json:"version"`
	Guest   []int  `json:"guest_pcrs"`
	Host    []int  `json:"host_pcrs"`
}

func parseMask(s session, name string) (licensing.Mask, error) {
	if !s.Has(name) {
		return licensing.AllPCRs, nil
	}
	m, err := licensing.ParseMask(s.Text(name))
	if err != nil {
		return 0, fmt.Errorf("-%s: %w", name, err)
	}
	return m, nil
}

// selectPCRs takes the mask of all registers for that of all that were quoted;
// any other has to be quoted as it is.
func selectPCRs(m licensing.Mask, quoted []quote.PCR) (licensing.Registers, error) {
	if m == licensing.AllPCRs {
		m = 0
		for _, p := range quoted {
			m |= 1 << p.Index
		}
	}
	return m.Select(quoted)
}

// quoted returns the registers of a guest and its host, of quotes that verified.
func (s session) quoted(ctx context.Context) (guestPCRs, hostPCRs []quote.PCR, err error) {
	evidence, nonce, err := s.evidence(ctx)
	if err != nil {
		return nil, nil, err
	}
	policy, err := s.hostPolicy()
	if err != nil {
		return nil, nil, err
	}
	parsed, err := quote.ParseEvidence(evidence)
	if err != nil {
		return nil, nil, err
	}
	policy.VM = claimedVM(parsed.Record)
	r := quote.VerifyEvidence(evidence, nonce, quote.EvidencePolicy{Record: policy})
	if err := s.judge("the guest's quote", r); err != nil {
		return nil, nil, err
	}
	guestPCRs, hostPCRs = r.Evidence.PCRs, r.Record.PCRs
	if r.Evidence.Host != nil {
		hostPCRs = r.Evidence.Host.PCRs // what it is now; the record is as old as the guest's start
	}
	if s.Has("from-record") {
		record, err := guestcli.ReadFile(s.Text("from-record"), quote.MaxRecord)
		if err != nil {
			return nil, nil, err
		}
		policy.VM = claimedVM(record)
		r := quote.Verify(record, policy)
		if err := s.judge(fmt.Sprintf("the record %q", s.Text("from-record")), r); err != nil {
			return nil, nil, err
		}
		hostPCRs = r.Record.PCRs
	}
	return guestPCRs, hostPCRs, nil
}

// evidence is a fresh quote of this guest, or that of -guest-quote.
func (s session) evidence(ctx context.Context) (evidence, nonce []byte, err error) {
	if s.Has("guest-quote") != s.Has("nonce") {
		return nil, nil, hint.Wrap(guestcli.Usagef("-guest-quote and -nonce belong together"), "the nonce is the one that you gave to ovsaruntime quote --nonce")
	}
	if !s.Has("guest-quote") {
		nonce = make([]byte, 32)
		rand.Read(nonce)
		e, err := guest.Quote(ctx, s.Text("tpm"), nonce, hostOf(s.Call))
		if err != nil {
			return nil, nil, fmt.Errorf("quote this guest: %w", explainTPM(err, s.Text("tpm")))
		}
		evidence, err = e.Marshal()
		return evidence, nonce, err
	}
	nonce, err = hex.DecodeString(s.Text("nonce"))
	if err != nil || len(nonce) < quote.MinNonce || len(nonce) > quote.MaxNonce {
		return nil, nil, guestcli.Usagef("-nonce is %d to %d bytes in hex", quote.MinNonce, quote.MaxNonce)
	}
	evidence, err = guestcli.ReadFile(s.Text("guest-quote"), quote.MaxEvidence+1)
	return bytes.TrimSuffix(evidence, []byte("\n")), nonce, err
}

// claimedVM is the virtual machine that a record is of. A TCB is of no machine in
// particular, so that it is the record's word is enough.
func claimedVM(record []byte) string {
	r, err := quote.ParseRecord(record)
	if err != nil {
		return ""
	}
	claims, err := quote.ParseClaims(r.Claims)
	if err != nil {
		return ""
	}
	return claims.VMUUID
}

// hostPolicy is how hosts are judged.
func (s session) hostPolicy() (quote.Policy, error) {
	p := quote.Policy{AllowUnenrolled: s.Has("allow-unenrolled"), Now: s.Now()}
	for _, of := range []struct {
		flag  string
		certs *[]*x509.Certificate
	}{{"tpm-trust", &p.Trust}, {"ak-trust", &p.AKIssuers}} {
		anchors, err := pki.NewStore(s.Text(of.flag)).List()
		if err != nil {
			return p, err
		}
		for _, a := range anchors {
			*of.certs = append(*of.certs, a.Certificate)
		}
	}
	return p, nil
}

// judge refuses what does not verify, and tells what is only a warning.
func (s session) judge(what string, r quote.Result) error {
	for _, step := range r.Steps {
		if step.Status == quote.Warning {
			s.Say("warning: %s: %s", step.Name, step.Detail)
		}
	}
	err := r.Err()
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s does not verify: %w", what, err)
	first := slices.IndexFunc(r.Steps, func(s quote.Step) bool { return s.Status == quote.Failed })
	if first >= 0 && strings.HasSuffix(r.Steps[first].Name, quote.StepEnrolled) {
		return hint.Wrap(err, "have the host's administrator run ovsactl host enroll, and believe the authority: ovsatool trust add -for attestation FILE; for development there is -allow-unenrolled")
	}
	return hint.Wrap(err, "whom this guest believes about hosts: ovsatool trust ls")
}
