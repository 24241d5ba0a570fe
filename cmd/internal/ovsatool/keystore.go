package ovsatool

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/atomicfile"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/lock"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// Flags that many verbs have.
var (
	flagStore = flag{name: "k", args: "KEYSTORE", help: "the key store", required: true}
	flagForce = flag{name: "force", help: "replace output files that exist"}
	flagTPM   = flag{name: "tpm", args: "ADDRESS", help: "the TPM (default $OVSA_TPM, or " + DefaultTPM + ")"}
	flagPCRs  = flag{name: "pcrs", args: "LIST", help: "seal under these PCRs, as in 0,1,7, or under none (default 0-7,9,11)"}
)

// trusting are the flags of verbs that verify certificates.
func trusting(flags ...flag) []flag {
	return append(flags, flagTPM,
		flag{name: "trust", args: "DIR", help: "certificates that are believed (default $OVSA_TRUST, or " + DefaultTrust + ")"},
		flag{name: "ocsp", args: "FILE...", help: "OCSP responses that were fetched before", min: 1, max: greedy},
		flag{name: "ocsp-url", args: "URL", help: "ask this responder and not the one that the certificate names"},
		flag{name: "ocsp-soft-fail", help: "let certificates pass whose revocation status is not known"},
	)
}

// or is the first that is not empty: a flag, the environment, a default.
func (s session) or(value, env, otherwise string) string {
	if value == "" && s.Getenv != nil {
		value = s.Getenv(env)
	}
	if value == "" {
		value = otherwise
	}
	return value
}

func (s session) trust(c call) pki.Store {
	return pki.NewStore(s.or(c.get("trust"), "OVSA_TRUST", DefaultTrust))
}

// verifier verifies certificates as the flags say.
func (s session) verifier(c call) (pki.Verifier, error) {
	status := pki.OCSP{
		Responder: c.get("ocsp-url"), SoftFail: c.has("ocsp-soft-fail"),
		Warn: func(err error) { s.say("warning: %v; let pass", err) },
	}
	for _, path := range c.all("ocsp") {
		response, err := guestcli.ReadFile(path, pki.MaxFile)
		if err != nil {
			return pki.Verifier{}, err
		}
		status.Stapled = append(status.Stapled, response)
	}
	return pki.Verifier{Store: s.trust(c), Now: s.Now, Status: status}, nil
}

// sealer is the TPM that the flags name.
func (s session) sealer(c call) (licensing.Sealer, error) {
	pcrs, err := parsePCRs(c.get("pcrs"))
	if err != nil {
		return nil, err
	}
	return s.Sealer(s.or(c.get("tpm"), "OVSA_TPM", DefaultTPM), pcrs), nil
}

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

// open opens the key store of -k.
func (s session) open(ctx context.Context, c call) (*licensing.KeyStore, error) {
	path := c.get("k")
	file, err := guestcli.ReadFile(path, licensing.MaxKeyStore)
	if err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	sealer, err := s.sealer(c)
	if err != nil {
		return nil, err
	}
	ks, err := licensing.ParseKeyStore(ctx, file, sealer)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	s.warnInsecure(path, ks.Protection())
	return ks, nil
}

func (s session) warnInsecure(path string, p licensing.Protection) {
	if p == licensing.InsecureSoftware {
		s.say("warning: %q is %s: whoever has the file has its keys", path, p)
	}
}

// update opens the key store of -k, changes it and writes it, with no other
// process doing so meanwhile.
func (s session) update(ctx context.Context, c call, open func() (*licensing.KeyStore, error), change func(*licensing.KeyStore) error) error {
	path := c.get("k")
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("open key store: %w", err)
	}
	held, err := lock.Wait(ctx, filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock"), fmt.Sprintf("pid %d (ovsatool)", os.Getpid()),
		func(b *lock.Busy) { s.say("waiting: %v", b) })
	if err != nil {
		return err
	}
	defer held.Release()
	ks, err := open()
	if err != nil {
		return err
	}
	defer ks.Close()
	if err := change(ks); err != nil {
		return err
	}
	file, err := ks.Marshal()
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(path, file, private)
}

// party is the owner of a key store, whose certificate was verified just now.
type party struct {
	*licensing.KeyStore
	chain []*x509.Certificate
}

func (p party) cert() *x509.Certificate { return p.chain[0] }

// party opens the key store of -k and verifies its primary certificate.
func (s session) party(ctx context.Context, c call) (party, error) {
	ks, err := s.open(ctx, c)
	if err != nil {
		return party{}, err
	}
	chain, err := s.verified(ctx, c, ks, licensing.Primary)
	if err != nil {
		ks.Close()
		return party{}, fmt.Errorf("%q: %w", c.get("k"), err)
	}
	return party{ks, chain}, nil
}

// verified returns a stored certificate that is still to be believed, with the
// issuers that the store has.
func (s session) verified(ctx context.Context, c call, ks *licensing.KeyStore, slot licensing.Slot) ([]*x509.Certificate, error) {
	chain, err := ks.Certificates(slot)
	if err != nil {
		return nil, err
	}
	v, err := s.verifier(c)
	if err != nil {
		return nil, err
	}
	if _, err := v.Verify(ctx, chain); err != nil {
		return nil, err
	}
	return chain, nil
}

// askPassphrase asks for a key store's recovery passphrase.
func (s session) askPassphrase() (licensing.Passphrase, error) {
	text, err := s.Secret(s.Stdin, "Recovery passphrase: ")
	if err != nil {
		return licensing.Passphrase{}, fmt.Errorf("read the recovery passphrase: %w", err)
	}
	pass, err := licensing.ParsePassphrase(text)
	if errors.Is(err, licensing.ErrPassphrase) {
		err = hint.Wrap(err, "it was printed when the key store was made: six groups of five characters")
	}
	return pass, err
}
