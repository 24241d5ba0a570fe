package licenseserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/filekind"
	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func storeCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "store", Operands: "LIC PRIMARY SECONDARY", Kind: guestcli.File, Min: 3, Max: 3,
		Summary: "store a customer's licence, or refresh it, with the customer's two certificates",
		Flags:   append([]guestcli.Flag{dbFlag(), dirFlag(), jsonFlag()}, ocspFlags()...),
		Run: run(func(ctx context.Context, s session) error {
			signed, lic, err := readLicence(ctx, s, s.certDir(), s.status(nil), s.Operands)
			if err != nil {
				return s.certDir().explain(err)
			}
			return store(ctx, s, signed, lic)
		}),
	}
}

// ocspFlags say how the revocation of certificates is found out.
func ocspFlags() []guestcli.Flag {
	return []guestcli.Flag{
		{Name: "ocsp-url", Arg: "URL", Help: "asked instead of the responders that certificates name", Setting: true},
		{Name: "ocsp-soft-fail", Help: "let certificates pass whose responder does not answer", Setting: true},
	}
}

func (s session) status(memory *pki.Memory) pki.StatusSource {
	return pki.OCSP{
		Responder: s.Text("ocsp-url"), SoftFail: s.Has("ocsp-soft-fail"), Warn: func(err error) { s.Say("warning: %v", err) },
		Memory: memory, Hint: "see whether the OCSP responder answers, name another with -ocsp-url URL, or go without by -ocsp-soft-fail",
	}
}

// readLicence reads a licence and its customer's certificates, and refuses what
// this server would not release a key for.
func readLicence(ctx context.Context, s session, d certDir, status pki.StatusSource, paths []string) (*licensing.Signed[licensing.Licence], ledger.Licence, error) {
	signed, text, err := filekind.ReadDocument[licensing.Licence](paths[0])
	if err != nil {
		return nil, ledger.Licence{}, err
	}
	if _, err := d.verifier("isv", s.Now, status).Verify(ctx, signed.Chain); err != nil {
		return nil, ledger.Licence{}, disbelieved(fmt.Errorf("%q: its ISV: %w", paths[0], err), "believe the ISV's certificate, or its authority's: license_server trust add -for isv FILE")
	}
	lic := signed.Document
	primary, secondary, err := readCustomer(ctx, d.verifier("customer", s.Now, status), lic, paths[1], paths[2])
	if err != nil {
		return nil, ledger.Licence{}, err
	}
	if !lic.NotAfter.IsZero() && !s.Now().Before(lic.NotAfter) {
		return nil, ledger.Licence{}, fmt.Errorf("%q: %w on %s", paths[0], licensing.ErrExpired, day(lic.NotAfter))
	}
	if err := d.canOpen(lic); err != nil {
		return nil, ledger.Licence{}, fmt.Errorf("%q: %w", paths[0], err)
	}
	return signed, ledger.Licence{
		GUID: string(lic.LicenceGUID), Model: string(lic.ModelGUID),
		Type: ledger.Type(lic.Terms.Type), Instances: lic.Terms.Instances, NotAfter: lic.NotAfter,
		Document: text, Primary: primary, Secondary: secondary,
	}, nil
}

// readCustomer reads the certificates of a licence's customer, each with those
// that lead to whom the server believes.
func readCustomer(ctx context.Context, v pki.Verifier, lic licensing.Licence, primaryPath, secondaryPath string) (primaryDER, secondaryDER []byte, err error) {
	believe := func(path string) ([]*x509.Certificate, error) {
		chain, err := pki.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if _, err := v.Verify(ctx, chain); err != nil {
			return nil, disbelieved(fmt.Errorf("%q: the customer: %w", path, err), "believe the customer's certificates, or their authority's: license_server trust add -for customer FILE...")
		}
		return chain, nil
	}
	primary, err := believe(primaryPath)
	if err != nil {
		return nil, nil, err
	}
	customer, err := lic.CustomerCertificate()
	if err != nil {
		return nil, nil, err
	}
	key, ok := primary[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || !key.Equal(customer.PublicKey) {
		return nil, nil, hint.Wrap(fmt.Errorf("%q is not of the licence's customer, %q", primaryPath, customer.Subject), "the order is LIC PRIMARY SECONDARY")
	}
	if !pki.ForKeyAgreement(primary[0]) && pki.IsSelfSigned(primary[0]) {
		return nil, nil, hint.Wrap(fmt.Errorf("%q is the customer's secondary certificate, and the licence was sold for it", primaryPath), "have the ISV sell it again: ovsatool sale -p takes the primary certificate")
	}
	secondary, err := believe(secondaryPath)
	if err != nil {
		return nil, nil, err
	}
	if other, ok := secondary[0].PublicKey.(*ecdsa.PublicKey); !ok || other.Curve != elliptic.P384() || other.Equal(key) {
		return nil, nil, fmt.Errorf("%q is not a secondary certificate: its key is the primary one, or not of P-384", secondaryPath)
	}
	return encoded(primary), encoded(secondary), nil
}

// disbelieved says what to do about a certificate that is not believed. To believe it
// more helps nothing where its responder does not answer, or says that it was revoked.
func disbelieved(err error, what string) error {
	if errors.Is(err, pki.ErrStatus) || errors.Is(err, pki.ErrRevoked) {
		return err
	}
	return hint.Wrap(err, "%s", what)
}

func encoded(chain []*x509.Certificate) (der []byte) {
	for _, c := range chain {
		der = append(der, c.Raw...)
	}
	return der
}

// canOpen refuses a licence none of whose halves is for a key of this server. It
// opens the half: that its key fits by name is not enough.
func (d certDir) canOpen(lic licensing.Licence) error {
	_, release, err := d.bundle(bundle)
	if err != nil {
		return err
	}
	keys, err := d.releaseKeys(release)
	if err != nil {
		return err
	}
	for _, key := range keys {
		half, err := lic.OpenServerHalf(key)
		if err == nil {
			half.Wipe()
			return nil
		}
	}
	return hint.Wrap(errors.New("its key is not for this server's key-release key"), "licgen -u takes the certificates of the server that the licence is stored on: %s", d.path(bundle))
}

// stored is the answer to store.
type stored struct {
	Licence string        `json:"licence"`
	Product string        `json:"product"`
	Model   string        `json:"model"`
	Outcome ledger.Stored `json:"outcome"` // stored, replaced or unchanged
	Ends    time.Time     `json:"ends,omitzero"`
}

func store(ctx context.Context, s session, signed *licensing.Signed[licensing.Licence], lic ledger.Licence) (err error) {
	l, err := s.openDatabase(ctx, s.Text("db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	did, err := l.Store(ctx, lic, s.Now(), func(old ledger.Licence) error { return replaces(signed, old.Document) })
	if err != nil {
		return explainDatabase(explainConflict(err), s.Text("db"))
	}
	product := string(signed.Document.Product())
	if s.Has("json") {
		return writeJSON(s.Stdout, stored{lic.GUID, product, lic.Model, did, lic.NotAfter})
	}
	_, err = fmt.Fprintf(s.Stdout, "%s: licence %s of product %s for model %s, %s\n", did, lic.GUID, product, lic.Model, limit(lic))
	return err
}

// replaces returns nil when a licence may take the place of one that is stored.
func replaces(signed *licensing.Signed[licensing.Licence], stored []byte) error {
	old, err := licensing.Verify[licensing.Licence](stored)
	if err != nil {
		return fmt.Errorf("the licence that is stored: %w", err)
	}
	if err := signed.SignedBy(old.Chain[0]); err != nil {
		return fmt.Errorf("it is another ISV's licence: %w", err)
	}
	return signed.Document.Replaces(old.Document)
}

func explainConflict(err error) error {
	switch {
	case errors.Is(err, licensing.ErrOtherCustomer):
		return hint.Wrap(err, "have the ISV sell it again: licences of this version's ovsatool have GUIDs of their own")
	case errors.Is(err, ledger.ErrArchived):
		return hint.Wrap(err, "take the customer's licences back first: license_server customers restore CUSTOMER")
	case errors.Is(err, licensing.ErrOlder):
		return hint.Wrap(err, "nothing has to be done: the newer one stays")
	}
	return err
}

// limit is a licence's type and its limit, for people.
func limit(lic ledger.Licence) string {
	switch lic.Type {
	case ledger.InstanceLimit:
		return fmt.Sprintf("%s %d", lic.Type, lic.Instances)
	case ledger.TimeLimit:
		return fmt.Sprintf("%s %s", lic.Type, day(lic.NotAfter))
	}
	return string(lic.Type)
}
