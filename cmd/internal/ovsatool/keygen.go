package ovsatool

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/outfiles"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func keygenCommands(run binder) []guestcli.Command {
	return []guestcli.Command{
		{
			Name: "keygen -storekey", Summary: "make a key store, with requests and self-signed certificates for its keys",
			Flags: []guestcli.Flag{
				{Name: "t", Arg: "ECDSA", Values: "ECDSA", Help: "the type of the keys", Required: true},
				{Name: "n", Arg: "NAME", Help: "whose keys they are", Required: true},
				keystore.Flag(),
				{Name: "r", Arg: "CSR", Kind: guestcli.File, Help: "primary_CSR and secondary_CSR are written, and a .crt for each", Required: true},
				{Name: "e", Arg: "SUBJECT", Help: `whom certificates name, as in "/C=IN/CN=localhost"`, Required: true},
				keystore.PCRs(), keystore.TPM(), outfiles.Flag(), guestcli.JSON(),
				{Name: "insecure-software-keystore", Help: "for development: keep the keys without a TPM, readable in the file"},
			},
			Example: `keygen -storekey -t ECDSA -n Intel -k isv_keystore -r isv_keystore.csr -e "/C=IN/CN=localhost"`,
			Run:     run(storeKey),
		},
		{
			Name: "keygen -storecert", Summary: "add a certificate to the key store that has its key",
			Flags: keystore.Trusting(guestcli.Flag{Name: "c", Arg: "CERTIFICATE", Kind: guestcli.File, Help: "PEM; behind it may be its issuers", Required: true}, keystore.Flag(), guestcli.JSON()),
			Run:   run(storeCert),
		},
		{
			Name: "keygen -getcert", Summary: "write a certificate of a key store, if it is still to be believed",
			Flags: keystore.Trusting(keystore.Flag(), guestcli.Flag{Name: "c", Arg: "OUT", Kind: guestcli.File, Help: "where to write it", Required: true},
				guestcli.Flag{Name: "s", Help: "the secondary certificate and not the primary"}, outfiles.Flag(), guestcli.JSON()),
			Run: run(getCert),
		},
		{
			Name: "keygen -sign", Summary: "sign a file with the primary key",
			Flags: []guestcli.Flag{{Name: "i", Arg: "FILE", Kind: guestcli.File, Help: "what to sign", Required: true}, {Name: "o", Arg: "SIGNATURE", Kind: guestcli.File, Help: "where to write the signature", Required: true}, keystore.Flag(), keystore.TPM(), outfiles.Flag(), guestcli.JSON()},
			Run:   run(signFile),
		},
		{
			Name: "keygen -verify", Summary: "verify a signature of -sign with the primary certificate",
			Flags: keystore.Trusting(guestcli.Flag{Name: "i", Arg: "FILE", Kind: guestcli.File, Help: "what was signed", Required: true}, guestcli.Flag{Name: "v", Arg: "SIGNATURE", Kind: guestcli.File, Help: "its signature", Required: true}, keystore.Flag(), guestcli.JSON()),
			Run:   run(verifyFile),
		},
		{
			Name: "keygen -reseal", Summary: "seal a key store again, after an update or to another TPM; asks for the recovery passphrase where it must",
			Flags: []guestcli.Flag{keystore.Flag(), keystore.PCRs(), keystore.TPM(), guestcli.JSON()},
			Run:   run(reseal),
		},
	}
}

func storeKey(ctx context.Context, s session) error {
	if s.Text("t") != "ECDSA" {
		return fmt.Errorf("-t %q: there is ECDSA only", s.Text("t"))
	}
	subject, err := pki.ParseSubject(s.Text("e"))
	if err != nil {
		return err
	}
	if strings.HasSuffix(s.Text("r"), "/") {
		return fmt.Errorf("-r %q: want a file", s.Text("r"))
	}
	dir, base := filepath.Split(s.Text("r"))
	requests := &outfiles.Set{Force: s.Has("force")}
	store := &outfiles.Set{} // never replaced: its keys would be lost
	paths := []string{}
	for _, slot := range []licensing.Slot{licensing.Primary, licensing.Secondary} {
		path := filepath.Join(dir, string(slot)+"_"+base)
		paths = append(paths, path, path+".crt")
	}
	err = store.Check(s.Text("k"))
	if errors.Is(err, fs.ErrExist) {
		return hint.Wrap(err, "remove it yourself, if nothing needs its keys any more: -force does not")
	}
	if err != nil {
		return err
	}
	if err := requests.Check(paths...); err != nil {
		return err
	}
	sealer, err := s.storeSealer()
	if err != nil {
		return err
	}
	ks, pass, err := licensing.NewKeyStore(ctx, s.Now(), s.Text("n"), sealer)
	if err != nil {
		return err
	}
	defer ks.Close()
	if err := s.addRequests(requests, ks, subject, paths); err != nil {
		return err
	}
	file, err := ks.Marshal()
	if err != nil {
		return err
	}
	store.Add(s.Text("k"), file)
	if err := writeStore(requests, store); err != nil {
		return err
	}
	s.WarnInsecure(s.Text("k"), ks.Protection())
	if sealer != nil {
		s.Say("The recovery passphrase of %s, which is shown only now:\n\n    %s\n\nKeep it: after a firmware or kernel update, keygen -reseal may ask for it.", s.Text("k"), pass.Reveal())
		pass.Wipe()
	}
	s.Say("Certificates are used for %d months at most.", licensing.CertificateMonths)
	return s.Report(rows{{"keystore", s.Text("k")}, {"protection", string(ks.Protection())}, {"files", paths}}, "written: %s", strings.Join(append([]string{s.Text("k")}, paths...), ", "))
}

// storeSealer is nil for a software key store.
func (s session) storeSealer() (licensing.Sealer, error) {
	if s.Has("insecure-software-keystore") {
		if s.Has("tpm") || s.Has("pcrs") {
			return nil, errors.New("-insecure-software-keystore uses no TPM")
		}
		return nil, nil
	}
	return s.Sealer()
}

// addRequests adds the request and the self-signed certificate of each key; paths
// are those of the primary's two and the secondary's two.
func (s session) addRequests(o *outfiles.Set, ks *licensing.KeyStore, subject pki.Subject, paths []string) error {
	for i, slot := range []licensing.Slot{licensing.Primary, licensing.Secondary} {
		csr, err := pki.Request(ks.Key(slot), subject)
		if err != nil {
			return err
		}
		usage := x509.KeyUsageDigitalSignature
		if slot == licensing.Primary {
			usage |= x509.KeyUsageKeyAgreement
		}
		cert, err := pki.SelfSigned(ks.Key(slot), subject, usage, s.Now())
		if err != nil {
			return err
		}
		o.Add(paths[2*i], csr)
		o.Add(paths[2*i+1], pki.EncodePEM(cert))
	}
	return nil
}

// writeStore writes the key store last: requests without it are of no use and no
// harm, and are removed when it cannot be written.
func writeStore(requests, store *outfiles.Set) error {
	if err := requests.Write(); err != nil {
		return err
	}
	if err := store.Write(); err != nil {
		requests.Remove()
		return err
	}
	return nil
}

func storeCert(ctx context.Context, s session) error {
	chain, err := pki.ReadFile(s.Text("c"))
	if err != nil {
		return err
	}
	v, err := s.Verifier()
	if err != nil {
		return err
	}
	var added licensing.Slot
	err = s.Update(ctx, func() (*licensing.KeyStore, error) { return s.Open(ctx) }, func(ks *licensing.KeyStore) error {
		if !owns(ks, chain[0]) { // before anybody is asked about it
			return fmt.Errorf("certificate %q: %w", s.Text("c"), licensing.ErrOtherKey)
		}
		if _, err := v.Verify(ctx, chain); err != nil {
			return err
		}
		slot, err := ks.AddCertificate(chain)
		if err != nil {
			return err
		}
		added = slot
		return nil
	})
	if err != nil {
		return err
	}
	end := licensing.CertificateEnd(chain[0]).UTC()
	return s.Report(rows{{"keystore", s.Text("k")}, {"slot", string(added)}, {"subject", chain[0].Subject.String()}, {"ends", end}},
		"%s certificate of %q stored; it is used until %s", added, chain[0].Subject, end.Format(time.DateOnly))
}

func owns(ks *licensing.KeyStore, cert *x509.Certificate) bool {
	return ks.Key(licensing.Primary).PublicKey.Equal(cert.PublicKey) || ks.Key(licensing.Secondary).PublicKey.Equal(cert.PublicKey)
}

func getCert(ctx context.Context, s session) error {
	out := &outfiles.Set{Force: s.Has("force")}
	if err := out.Check(s.Text("c")); err != nil {
		return err
	}
	ks, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer ks.Close()
	slot := licensing.Primary
	if s.Has("s") {
		slot = licensing.Secondary
	}
	chain, err := s.Verified(ctx, ks, slot)
	if err != nil {
		return err
	}
	out.Add(s.Text("c"), pki.EncodePEM(chain...))
	if err := out.Write(); err != nil {
		return err
	}
	return s.Report(rows{{"file", s.Text("c")}, {"slot", string(slot)}, {"subject", chain[0].Subject.String()}},
		"%s: the %s certificate of %q", s.Text("c"), slot, chain[0].Subject)
}

func signFile(ctx context.Context, s session) error {
	out := &outfiles.Set{Force: s.Has("force")}
	if err := out.Check(s.Text("o")); err != nil {
		return err
	}
	f, err := os.Open(s.Text("i"))
	if err != nil {
		return err
	}
	defer f.Close()
	ks, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer ks.Close()
	sig, err := licensing.SignBytes(ks.Key(licensing.Primary), licensing.PurposeFile, f)
	if err != nil {
		return err
	}
	out.Add(s.Text("o"), append([]byte(base64.StdEncoding.EncodeToString(sig)), '\n'))
	if err := out.Write(); err != nil {
		return err
	}
	return s.Report(rows{{"file", s.Text("i")}, {"signature", s.Text("o")}}, "%s: the signature of %s", s.Text("o"), s.Text("i"))
}

// maxSignature is the size of a signature's file at most.
const maxSignature = 256

func verifyFile(ctx context.Context, s session) error {
	text, err := guestcli.ReadFile(s.Text("v"), maxSignature)
	if err != nil {
		return err
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(string(text), "\n"))
	if err != nil {
		return fmt.Errorf("%q is not a signature: not base64", s.Text("v"))
	}
	f, err := os.Open(s.Text("i"))
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := s.Party(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := licensing.VerifyBytes(p.Cert(), licensing.PurposeFile, f, sig); err != nil {
		return fmt.Errorf("%q: %w", s.Text("i"), err)
	}
	return s.Report(rows{{"file", s.Text("i")}, {"signer", p.Cert().Subject.String()}}, "%s is signed by %q", s.Text("i"), p.Cert().Subject)
}

func reseal(ctx context.Context, s session) error {
	sealer, err := s.Sealer()
	if err != nil {
		return err
	}
	open := func() (*licensing.KeyStore, error) {
		file, err := guestcli.ReadFile(s.Text("k"), licensing.MaxKeyStore)
		if err != nil {
			return nil, err
		}
		info, err := licensing.ReadKeyStoreInfo(file)
		if err != nil {
			return nil, err
		}
		if info.Protection != licensing.ProtectedByTPM {
			return nil, fmt.Errorf("%q is %s: there is nothing to seal again", s.Text("k"), info.Protection)
		}
		ks, err := licensing.ParseKeyStore(ctx, file, sealer)
		if err == nil {
			return ks, nil
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil, err // no TPM to seal to, either
		}
		s.Say("the TPM does not open it: %v", err)
		pass, err := s.AskPassphrase()
		if err != nil {
			return nil, err
		}
		defer pass.Wipe()
		return licensing.RecoverKeyStore(file, pass)
	}
	err = s.Update(ctx, open, func(ks *licensing.KeyStore) error { return ks.Reseal(ctx, sealer) })
	if err != nil {
		return err
	}
	return s.Report(rows{{"keystore", s.Text("k")}, {"protection", string(licensing.ProtectedByTPM)}}, "%s is sealed to the state of this machine's TPM", s.Text("k"))
}
