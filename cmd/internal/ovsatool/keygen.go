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

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func keygenVerbs() []verb {
	return []verb{
		{
			name: "keygen -storekey", summary: "make a key store, with requests and self-signed certificates for its keys",
			flags: []flag{
				{name: "t", args: "ECDSA", help: "the type of the keys", required: true},
				{name: "n", args: "NAME", help: "whose keys they are", required: true},
				flagStore,
				{name: "r", args: "CSR", help: "primary_CSR and secondary_CSR are written, and a .crt for each", required: true},
				{name: "e", args: "SUBJECT", help: `whom certificates name, as in "/C=IN/CN=localhost"`, required: true},
				flagPCRs, flagTPM, flagForce,
				{name: "insecure-software-keystore", help: "for development: keep the keys without a TPM, readable in the file"},
			},
			example: `keygen -storekey -t ECDSA -n Intel -k isv_keystore -r isv_keystore.csr -e "/C=IN/CN=localhost"`,
			run:     storeKey,
		},
		{
			name: "keygen -storecert", summary: "add a certificate to the key store that has its key",
			flags: trusting(flag{name: "c", args: "CERTIFICATE", help: "PEM; behind it may be its issuers", required: true}, flagStore),
			run:   storeCert,
		},
		{
			name: "keygen -getcert", summary: "write a certificate of a key store, if it is still to be believed",
			flags: trusting(flagStore, flag{name: "c", args: "OUT", help: "where to write it", required: true},
				flag{name: "s", help: "the secondary certificate and not the primary"}, flagForce),
			run: getCert,
		},
		{
			name: "keygen -sign", summary: "sign a file with the primary key",
			flags: []flag{{name: "i", args: "FILE", help: "what to sign", required: true}, {name: "o", args: "SIGNATURE", help: "where to write the signature", required: true}, flagStore, flagTPM, flagForce},
			run:   signFile,
		},
		{
			name: "keygen -verify", summary: "verify a signature of -sign with the primary certificate",
			flags: trusting(flag{name: "i", args: "FILE", help: "what was signed", required: true}, flag{name: "v", args: "SIGNATURE", help: "its signature", required: true}, flagStore),
			run:   verifyFile,
		},
		{
			name: "keygen -reseal", summary: "seal a key store again, after an update or to another TPM; asks for the recovery passphrase where it must",
			flags: []flag{flagStore, flagPCRs, flagTPM},
			run:   reseal,
		},
	}
}

func storeKey(ctx context.Context, s session, c call) error {
	if c.get("t") != "ECDSA" {
		return fmt.Errorf("-t %q: there is ECDSA only", c.get("t"))
	}
	subject, err := pki.ParseSubject(c.get("e"))
	if err != nil {
		return err
	}
	if strings.HasSuffix(c.get("r"), "/") {
		return fmt.Errorf("-r %q: want a file", c.get("r"))
	}
	dir, base := filepath.Split(c.get("r"))
	requests := &outputs{force: c.has("force")}
	store := &outputs{} // never replaced: its keys would be lost
	paths := []string{}
	for _, slot := range []licensing.Slot{licensing.Primary, licensing.Secondary} {
		path := filepath.Join(dir, string(slot)+"_"+base)
		paths = append(paths, path, path+".crt")
	}
	err = store.check(c.get("k"))
	if errors.Is(err, fs.ErrExist) {
		return hint.Wrap(err, "remove it yourself, if nothing needs its keys any more: -force does not")
	}
	if err != nil {
		return err
	}
	if err := requests.check(paths...); err != nil {
		return err
	}
	sealer, err := s.storeSealer(c)
	if err != nil {
		return err
	}
	ks, pass, err := licensing.NewKeyStore(ctx, s.Now(), c.get("n"), sealer)
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
	store.add(c.get("k"), file)
	if err := writeStore(requests, store); err != nil {
		return err
	}
	s.warnInsecure(c.get("k"), ks.Protection())
	if sealer != nil {
		s.say("The recovery passphrase of %s, which is shown only now:\n\n    %s\n\nKeep it: after a firmware or kernel update, keygen -reseal may ask for it.", c.get("k"), pass.Reveal())
		pass.Wipe()
	}
	s.say("Certificates are used for %d months at most.", licensing.CertificateMonths)
	return nil
}

// storeSealer is nil for a software key store.
func (s session) storeSealer(c call) (licensing.Sealer, error) {
	if c.has("insecure-software-keystore") {
		if c.has("tpm") || c.has("pcrs") {
			return nil, errors.New("-insecure-software-keystore uses no TPM")
		}
		return nil, nil
	}
	return s.sealer(c)
}

// addRequests adds the request and the self-signed certificate of each key; paths
// are those of the primary's two and the secondary's two.
func (s session) addRequests(o *outputs, ks *licensing.KeyStore, subject pki.Subject, paths []string) error {
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
		o.add(paths[2*i], csr)
		o.add(paths[2*i+1], pki.EncodePEM(cert))
	}
	return nil
}

// writeStore writes the key store last: requests without it are of no use and no
// harm, and are removed when it cannot be written.
func writeStore(requests, store *outputs) error {
	if err := requests.write(); err != nil {
		return err
	}
	if err := store.write(); err != nil {
		for _, f := range requests.files {
			os.Remove(f.path)
		}
		return err
	}
	return nil
}

func storeCert(ctx context.Context, s session, c call) error {
	chain, err := pki.ReadFile(c.get("c"))
	if err != nil {
		return err
	}
	v, err := s.verifier(c)
	if err != nil {
		return err
	}
	return s.update(ctx, c, func() (*licensing.KeyStore, error) { return s.open(ctx, c) }, func(ks *licensing.KeyStore) error {
		if !owns(ks, chain[0]) { // before anybody is asked about it
			return fmt.Errorf("certificate %q: %w", c.get("c"), licensing.ErrOtherKey)
		}
		if _, err := v.Verify(ctx, chain); err != nil {
			return err
		}
		slot, err := ks.AddCertificate(chain)
		if err != nil {
			return err
		}
		s.say("%s certificate of %q stored; it is used until %s", slot, chain[0].Subject, licensing.CertificateEnd(chain[0]).Format("2006-01-02"))
		return nil
	})
}

func owns(ks *licensing.KeyStore, cert *x509.Certificate) bool {
	return ks.Key(licensing.Primary).PublicKey.Equal(cert.PublicKey) || ks.Key(licensing.Secondary).PublicKey.Equal(cert.PublicKey)
}

func getCert(ctx context.Context, s session, c call) error {
	out := &outputs{force: c.has("force")}
	if err := out.check(c.get("c")); err != nil {
		return err
	}
	ks, err := s.open(ctx, c)
	if err != nil {
		return err
	}
	defer ks.Close()
	slot := licensing.Primary
	if c.has("s") {
		slot = licensing.Secondary
	}
	chain, err := s.verified(ctx, c, ks, slot)
	if err != nil {
		return err
	}
	out.add(c.get("c"), pki.EncodePEM(chain...))
	return out.write()
}

func signFile(ctx context.Context, s session, c call) error {
	out := &outputs{force: c.has("force")}
	if err := out.check(c.get("o")); err != nil {
		return err
	}
	f, err := os.Open(c.get("i"))
	if err != nil {
		return err
	}
	defer f.Close()
	ks, err := s.open(ctx, c)
	if err != nil {
		return err
	}
	defer ks.Close()
	sig, err := licensing.SignBytes(ks.Key(licensing.Primary), licensing.PurposeFile, f)
	if err != nil {
		return err
	}
	out.add(c.get("o"), append([]byte(base64.StdEncoding.EncodeToString(sig)), '\n'))
	return out.write()
}

// maxSignature is the size of a signature's file at most.
const maxSignature = 256

func verifyFile(ctx context.Context, s session, c call) error {
	text, err := guestcli.ReadFile(c.get("v"), maxSignature)
	if err != nil {
		return err
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(string(text), "\n"))
	if err != nil {
		return fmt.Errorf("%q is not a signature: not base64", c.get("v"))
	}
	f, err := os.Open(c.get("i"))
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := s.party(ctx, c)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := licensing.VerifyBytes(p.cert(), licensing.PurposeFile, f, sig); err != nil {
		return fmt.Errorf("%q: %w", c.get("i"), err)
	}
	s.say("%s is signed by %q", c.get("i"), p.cert().Subject)
	return nil
}

func reseal(ctx context.Context, s session, c call) error {
	sealer, err := s.sealer(c)
	if err != nil {
		return err
	}
	open := func() (*licensing.KeyStore, error) {
		file, err := guestcli.ReadFile(c.get("k"), licensing.MaxKeyStore)
		if err != nil {
			return nil, err
		}
		info, err := licensing.ReadKeyStoreInfo(file)
		if err != nil {
			return nil, err
		}
		if info.Protection != licensing.ProtectedByTPM {
			return nil, fmt.Errorf("%q is %s: there is nothing to seal again", c.get("k"), info.Protection)
		}
		ks, err := licensing.ParseKeyStore(ctx, file, sealer)
		if err == nil {
			return ks, nil
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil, err // no TPM to seal to, either
		}
		s.say("the TPM does not open it: %v", err)
		pass, err := s.askPassphrase()
		if err != nil {
			return nil, err
		}
		defer pass.Wipe()
		return licensing.RecoverKeyStore(file, pass)
	}
	err = s.update(ctx, c, open, func(ks *licensing.KeyStore) error { return ks.Reseal(ctx, sealer) })
	if err != nil {
		return err
	}
	s.say("%s is sealed to the state of this machine's TPM", c.get("k"))
	return nil
}
