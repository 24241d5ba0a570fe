// Package keystore is what command lines say of a key store: which one it is, the
// TPM that opens it, and whom to believe about its certificates. The programs of
// ISVs and of guests have it in common.
package keystore

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/trust"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Where things are when nothing says otherwise.
const (
	DefaultTrust = "/opt/ovsa/kvm/trust"
	DefaultTPM   = "/dev/tpmrm0"

	defaultTPMTrust = "/opt/ovsa/kvm/tpm-trust"
	defaultAKTrust  = "/opt/ovsa/kvm/ak-trust"
)

// Flag is -k, the key store.
func Flag() guestcli.Flag {
	return guestcli.Flag{Name: "k", Arg: "KEYSTORE", Kind: guestcli.File, Help: "the key store", Required: true}
}

// TPM is -tpm.
func TPM() guestcli.Flag {
	return guestcli.Flag{Name: "tpm", Arg: "ADDRESS", Kind: guestcli.File, Help: "the TPM: a device, unix:PATH, or swtpm:port=N", Setting: true, Default: DefaultTPM}
}

// PCRs is -pcrs.
func PCRs() guestcli.Flag {
	return guestcli.Flag{Name: "pcrs", Arg: "LIST", Help: "seal under these PCRs, as in 0,1,7, or under none (default 0-7,9,11)"}
}

// Trust is -trust.
func Trust() guestcli.Flag {
	return guestcli.Flag{Name: "trust", Arg: "DIR", Kind: guestcli.Dir, Help: "certificates that are believed", Setting: true, Default: DefaultTrust}
}

// HostTrust are -tpm-trust and -ak-trust: whom to believe about hosts.
func HostTrust() []guestcli.Flag {
	return []guestcli.Flag{
		{Name: "tpm-trust", Arg: "DIR", Kind: guestcli.Dir, Help: "roots of the makers of hosts' TPMs", Setting: true, Default: defaultTPMTrust},
		{Name: "ak-trust", Arg: "DIR", Kind: guestcli.Dir, Help: "authorities that enrol hosts", Setting: true, Default: defaultAKTrust},
	}
}

// Stores are the trust stores that a command line of a guest's program means.
func Stores(c *guestcli.Call) trust.Stores {
	return trust.Stores{Default: "party", All: []trust.Store{
		{For: "party", Dir: c.Text("trust"), Whose: "ISVs' and customers', or their authorities'", Lacks: "no key store takes a certificate, and nothing is protected or sold"},
		{For: "tpm-vendor", Dir: c.Text("tpm-trust"), Whose: "makers of hosts' TPMs", Lacks: "no host's record verifies, and no reference TCB is made", Authorities: true},
		{For: "attestation", Dir: c.Text("ak-trust"), Whose: "authorities that enrol hosts", Lacks: "no host is enrolled, and a reference TCB is made with -allow-unenrolled alone", Authorities: true},
	}}
}

// Trusting are flags, and those of commands that verify certificates.
func Trusting(flags ...guestcli.Flag) []guestcli.Flag {
	return append(flags, TPM(), Trust(),
		guestcli.Flag{Name: "ocsp", Arg: "FILE...", Kind: guestcli.File, Help: "OCSP responses that were fetched before", Min: 1, Max: guestcli.Many},
		guestcli.Flag{Name: "ocsp-url", Arg: "URL", Help: "ask this responder and not the one that the certificate names", Setting: true},
		guestcli.Flag{Name: "ocsp-soft-fail", Help: "let certificates pass whose revocation status is not known", Setting: true},
	)
}

// TrustStore is the directory of -trust.
func (s Session) TrustStore() pki.Store { return pki.NewStore(s.Text("trust")) }

// Verifier verifies certificates as the flags say.
func (s Session) Verifier() (pki.Verifier, error) {
	status := pki.OCSP{
		Responder: s.Text("ocsp-url"), SoftFail: s.Has("ocsp-soft-fail"),
		Warn: func(err error) { s.Say("warning: %v; let pass", err) },
	}
	for _, path := range s.All("ocsp") {
		response, err := guestcli.ReadFile(path, pki.MaxFile)
		if err != nil {
			return pki.Verifier{}, err
		}
		status.Stapled = append(status.Stapled, response)
	}
	return pki.Verifier{Store: s.TrustStore(), Now: s.Now, Status: status}, nil
}

// Sealer is the TPM that the flags name.
func (s Session) Sealer() (licensing.Sealer, error) {
	pcrs, err := parsePCRs(s.Text("pcrs"))
	if err != nil {
		return nil, err
	}
	return s.NewSealer(s.Text("tpm"), pcrs), nil
}

// parsePCRs parses the word of -pcrs; of none it makes the default.
func parsePCRs(list string) ([]int, error) {
	switch list {
	case "":
		return quote.DefaultGuestPCRs(), nil
	case "none":
		return nil, nil
	}
	var pcrs []int
	for _, word := range strings.Split(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("-pcrs %q: want numbers such as 0,1,7, or none", list)
		}
		pcrs = append(pcrs, n)
	}
	if err := quote.ValidSelection(pcrs); err != nil {
		return nil, fmt.Errorf("-pcrs %q: %w", list, err)
	}
	return pcrs, nil
}
