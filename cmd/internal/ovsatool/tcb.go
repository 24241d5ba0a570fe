package ovsatool

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
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/vtpm/guest"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// GenTCB is ovsaruntime gen-tcb-signature, which uses a key store as the tool's
// verbs do.
func GenTCB(p Ports) guestcli.Command {
	v := genTCBVerb()
	g := single(v)
	return guestcli.Command{Name: g.name, Usage: g.name + g.usage, Summary: g.summary,
		Run: func(ctx context.Context, env guestcli.Env) error { return g.run(ctx, session{env, p}) }}
}

// Where a guest has the certificates with which it judges hosts.
const (
	defaultTPMTrust = "/opt/ovsa/kvm/tpm-trust"
	defaultAKTrust  = "/opt/ovsa/kvm/ak-trust"
)

func genTCBVerb() verb {
	return verb{
		program: "ovsaruntime", name: "gen-tcb-signature",
		summary: "record the state in which a guest and its host may get keys, from quotes that verify",
		flags: trusting(
			flag{name: "n", args: "NAME", help: "the TCB's name", required: true},
			flag{name: "v", args: "VERSION", help: "its version", required: true},
			flag{name: "f", args: "OUT.tcb", help: "where to write it", required: true},
			flagStore,
			flag{name: "s", args: "MASK", help: "the guest's PCRs that must match, in hex: bit n is PCR n (default 0xffffff, all that are quoted)"},
			flag{name: "h", args: "MASK", help: "the host's PCRs that must match (default 0xffffff, all that are quoted)"},
			flag{name: "guest-quote", args: "FILE", help: "a guest's answer to ovsaruntime quote, and not this guest's; needs -nonce"},
			flag{name: "nonce", args: "HEX", help: "the nonce that the guest was asked with"},
			flag{name: "from-record", args: "FILE", help: "take the host's PCRs from this record, and not from the guest's"},
			flag{name: "tpm-trust", args: "DIR", help: "roots of the makers of hosts' TPMs (default " + defaultTPMTrust + ")"},
			flag{name: "ak-trust", args: "DIR", help: "authorities that enrol hosts (default " + defaultAKTrust + ")"},
			flag{name: "allow-unenrolled", help: "only warn when no authority has certified the host's key"},
			flagForce,
		),
		example: `gen-tcb-signature -n "Face Detect @ Runtime VM" -v 1.0 -f face_detect_runtime_vm.tcb -k isv_keystore -s 0xffffff -h 0xffffff`,
		run:     genTCB,
	}
}

func genTCB(ctx context.Context, s session, c call) error {
	guestMask, err := parseMask(c, "s")
	if err != nil {
		return err
	}
	hostMask, err := parseMask(c, "h")
	if err != nil {
		return err
	}
	out := &outputs{force: c.has("force")}
	if err := out.check(c.get("f")); err != nil {
		return err
	}
	guestPCRs, hostPCRs, err := s.quoted(ctx, c)
	if err != nil {
		return err
	}
	tcb := licensing.TCB{Name: c.get("n"), Version: c.get("v")}
	if tcb.Guest, err = selectPCRs(guestMask, guestPCRs); err != nil {
		return fmt.Errorf("-s: %w", err)
	}
	if tcb.Host, err = selectPCRs(hostMask, hostPCRs); err != nil {
		return fmt.Errorf("-h: %w", err)
	}
	p, err := s.party(ctx, c)
	if err != nil {
		return err
	}
	defer p.Close()
	file, err := licensing.Sign(tcb, p.Key(licensing.Primary), p.chain)
	if err != nil {
		return err
	}
	out.add(c.get("f"), file)
	if err := out.write(); err != nil {
		return err
	}
	s.say("recorded: PCRs %v of the guest and %v of the host", tcb.Guest.Mask.PCRs(), tcb.Host.Mask.PCRs())
	return nil
}

func parseMask(c call, name string) (licensing.Mask, error) {
	if !c.has(name) {
		return licensing.AllPCRs, nil
	}
	m, err := licensing.ParseMask(c.get(name))
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
func (s session) quoted(ctx context.Context, c call) (guestPCRs, hostPCRs []quote.PCR, err error) {
	evidence, nonce, err := s.evidence(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	policy, err := s.hostPolicy(c)
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
	if c.has("from-record") {
		record, err := guestcli.ReadFile(c.get("from-record"), quote.MaxRecord)
		if err != nil {
			return nil, nil, err
		}
		policy.VM = claimedVM(record)
		r := quote.Verify(record, policy)
		if err := s.judge(fmt.Sprintf("the record %q", c.get("from-record")), r); err != nil {
			return nil, nil, err
		}
		hostPCRs = r.Record.PCRs
	}
	return guestPCRs, hostPCRs, nil
}

// evidence is a fresh quote of this guest, or that of -guest-quote.
func (s session) evidence(ctx context.Context, c call) (evidence, nonce []byte, err error) {
	if c.has("guest-quote") != c.has("nonce") {
		return nil, nil, hint.Wrap(guestcli.Usagef("-guest-quote and -nonce belong together"), "the nonce is the one that you gave to ovsaruntime quote --nonce")
	}
	if !c.has("guest-quote") {
		nonce = make([]byte, 32)
		rand.Read(nonce)
		e, err := guest.Quote(ctx, s.or(c.get("tpm"), "OVSA_TPM", DefaultTPM), nonce)
		if err != nil {
			return nil, nil, fmt.Errorf("quote this guest: %w", err)
		}
		evidence, err = e.Marshal()
		return evidence, nonce, err
	}
	nonce, err = hex.DecodeString(c.get("nonce"))
	if err != nil || len(nonce) < quote.MinNonce || len(nonce) > quote.MaxNonce {
		return nil, nil, guestcli.Usagef("-nonce is %d to %d bytes in hex", quote.MinNonce, quote.MaxNonce)
	}
	evidence, err = guestcli.ReadFile(c.get("guest-quote"), quote.MaxEvidence+1)
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
func (s session) hostPolicy(c call) (quote.Policy, error) {
	p := quote.Policy{AllowUnenrolled: c.has("allow-unenrolled"), Now: s.Now()}
	for _, of := range []struct {
		flag, dir string
		certs     *[]*x509.Certificate
	}{{"tpm-trust", defaultTPMTrust, &p.Trust}, {"ak-trust", defaultAKTrust, &p.AKIssuers}} {
		dir := of.dir
		if c.has(of.flag) {
			dir = c.get(of.flag)
		}
		anchors, err := pki.NewStore(dir).List()
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
			s.say("warning: %s: %s", step.Name, step.Detail)
		}
	}
	err := r.Err()
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s does not verify: %w", what, err)
	first := slices.IndexFunc(r.Steps, func(s quote.Step) bool { return s.Status == quote.Failed })
	if first >= 0 && strings.HasSuffix(r.Steps[first].Name, quote.StepEnrolled) {
		return hint.Wrap(err, "have the host's administrator run ovsactl host enroll, and put its authority into -ak-trust; for development there is -allow-unenrolled")
	}
	return hint.Wrap(err, "the roots of the makers of hosts' TPMs are those in -tpm-trust, the authorities that enrol hosts those in -ak-trust")
}
