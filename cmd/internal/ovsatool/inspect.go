package ovsatool

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/internal/visible"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/model"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/vtpm/seal"
)

func inspectCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "inspect", Summary: "show what a file of ours says; secrets are never shown, and it exits with an error when a signature does not fit",
		Flags:    []guestcli.Flag{guestcli.JSON(), keystore.Trust()},
		Operands: "FILE", Kind: guestcli.File, Min: 1, Max: 1, Example: "inspect model.lic --json", Run: run(inspect),
	}
}

func inspect(ctx context.Context, s session) error {
	r, err := s.inspectFile(ctx, s.Operands[0])
	if err != nil {
		return fmt.Errorf("%q: %w", s.Operands[0], err)
	}
	if s.Has("json") {
		return guestcli.WriteJSON(s.Stdout, r)
	}
	r.write(s.Stdout, "")
	return nil
}

// inspectFile asks each kind of file in turn whether it is one.
func (s session) inspectFile(ctx context.Context, path string) (rows, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	if info.Size() <= licensing.MaxKeyStore {
		file, err := guestcli.ReadFile(path, licensing.MaxKeyStore)
		if err != nil {
			return nil, err
		}
		if store, err := licensing.ReadKeyStoreInfo(file); err == nil {
			s.WarnInsecure(path, store.Protection)
			return storeRows(store), nil
		}
		if certs, err := pki.ParsePEM(file); err == nil {
			return rows{{"kind", "certificates"}, {"certificates", certificates(certs)}}, nil
		}
		if request := requestRows(file); request != nil {
			return request, nil
		}
		if kind, err := licensing.KindOf(file); err == nil {
			return s.documentRows(kind, file)
		}
	}
	return s.modelRows(ctx, f, info.Size())
}

func (s session) documentRows(kind licensing.Kind, file []byte) (rows, error) {
	switch kind {
	case licensing.KindMasterLicence:
		return show(s, file, masterRows)
	case licensing.KindConfig:
		return show(s, file, configRows)
	case licensing.KindTCB:
		return show(s, file, tcbRows)
	case licensing.KindLicence:
		return show(s, file, licenceRows)
	case licensing.KindLease:
		return show(s, file, leaseRows)
	}
	return nil, fmt.Errorf("%w: %q", licensing.ErrKind, kind)
}

// show verifies a document and makes its rows.
func show[D licensing.Document](s session, file []byte, of func(D) rows) (rows, error) {
	signed, err := licensing.Verify[D](file)
	if err != nil {
		return nil, err
	}
	head := rows{{"kind", string(signed.Document.Kind())}, {"signature", "valid"}, {"signer", s.signerRows(signed.Chain)}}
	return append(head, of(signed.Document)...), nil
}

// signerRows says who signed, and whether the trust store knows that certificate's
// root. Revocation is not asked for.
func (s session) signerRows(chain []*x509.Certificate) rows {
	v := pki.Verifier{Store: s.TrustStore(), Now: s.Now, Status: unasked{}}
	believed := "yes"
	if _, err := v.Verify(context.Background(), chain); err != nil {
		believed = "no: " + err.Error()
	}
	return append(certificate(chain[0]), row{"believed", believed})
}

// unasked is a StatusSource for showing and never for deciding.
type unasked struct{}

func (unasked) Status(context.Context, *x509.Certificate, *x509.Certificate, time.Time) error {
	return nil
}

func certificates(certs []*x509.Certificate) []rows {
	var all []rows
	for _, c := range certs {
		all = append(all, certificate(c))
	}
	return all
}

func certificate(c *x509.Certificate) rows {
	r := rows{{"subject", name(c)}, {"sha256", pki.Fingerprint(c)}}
	if !pki.IsSelfSigned(c) {
		r = append(r, row{"issuer", visible.Line(c.Issuer.String())})
	}
	return append(r, row{"begins", stamp(c.NotBefore)}, row{"used_until", stamp(licensing.CertificateEnd(c))})
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// requestRows shows a certificate request, and is nil for what is none.
func requestRows(file []byte) rows {
	block, rest := pem.Decode(file)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
		return nil
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil {
		return nil
	}
	return rows{{"kind", "certificate request"}, {"signature", "valid"}, {"subject", visible.Line(request.Subject.String())}}
}

func storeRows(k licensing.KeyStoreInfo) rows {
	r := rows{{"kind", "ovsa-key-store"}, {"name", k.Name}, {"guid", string(k.GUID)}, {"created", stamp(k.Created)}}
	if k.Protection == licensing.InsecureSoftware {
		r = append(r, row{"protection", "INSECURE: kept in software, readable in the file"})
	} else {
		r = append(r, row{"protection", string(k.Protection)}, row{"sealed_under", sealedUnder(k.SealedKey)})
	}
	for _, slot := range []struct {
		name licensing.Slot
		key  licensing.KeyInfo
	}{{licensing.Primary, k.Primary}, {licensing.Secondary, k.Secondary}} {
		if len(slot.key.Certificates) == 0 {
			r = append(r, row{string(slot.name), "no certificate yet"})
			continue
		}
		r = append(r, row{string(slot.name), certificate(slot.key.Certificates[0])})
	}
	return r
}

// sealedUnder says which registers have to be as they were.
func sealedUnder(sealed []byte) string {
	blob, err := seal.ParseBlob(sealed)
	if err != nil {
		return "something that is damaged: " + err.Error()
	}
	if len(blob.PCRs()) == 0 {
		return "the TPM alone"
	}
	return "PCRs " + strings.Trim(strings.ReplaceAll(fmt.Sprint(blob.PCRs()), " ", ", "), "[]")
}

func masterRows(m licensing.MasterLicence) rows {
	return rows{
		{"created", stamp(m.Created)}, {"product_guid", string(m.LicenceGUID)}, {"model_guid", string(m.ModelGUID)},
		{"model_sha256", hex.EncodeToString(m.ModelDigest)}, {"time_limits_end_by", stamp(m.End())},
	}
}

func configRows(c licensing.LicenceConfig) rows {
	return append(rows{{"name", c.Name}, {"version", c.Version}}, append(termsRows(c.Terms), serverRows(c.Servers)...)...)
}

func termsRows(t licensing.Terms) rows {
	r := rows{{"type", string(t.Type)}}
	switch t.Type {
	case licensing.InstanceLimit:
		r = append(r, row{"instances", t.Instances})
	case licensing.TimeLimit:
		r = append(r, row{"days", t.Days})
	}
	return r
}

func serverRows(servers []licensing.Server) rows {
	var all []rows
	for _, s := range servers {
		r := rows{{"address", s.Address}, {"pin", s.Pin.String()}}
		if len(s.FuturePin) > 0 {
			r = append(r, row{"future_pin", s.FuturePin.String()})
		}
		all = append(all, r)
	}
	return rows{{"server", all}}
}

func tcbRows(t licensing.TCB) rows {
	return rows{{"name", t.Name}, {"version", t.Version}, {"guest", registerRows(t.Guest)}, {"host", registerRows(t.Host)}}
}

func registerRows(r licensing.Registers) rows {
	out := rows{{"mask", r.Mask.String()}}
	for _, p := range r.PCRs {
		out = append(out, row{fmt.Sprintf("pcr_%d", p.Index), hex.EncodeToString(p.Digest)})
	}
	return out
}

func licenceRows(l licensing.Licence) rows {
	r := rows{
		{"name", l.Name}, {"version", l.Version}, {"created", stamp(l.Created)},
		{"licence_guid", string(l.LicenceGUID)}, {"product_guid", string(l.Product())}, {"model_guid", string(l.ModelGUID)},
		{"model_sha256", hex.EncodeToString(l.ModelDigest)},
	}
	if !l.Updated.IsZero() {
		r = append(r, row{"updated", stamp(l.Updated)})
	}
	r = append(r, termsRows(l.Terms)...)
	if l.Terms.Type == licensing.TimeLimit {
		r = append(r, row{"ends", stamp(l.NotAfter)})
	}
	if cert, err := l.CustomerCertificate(); err == nil { // Check has parsed it before
		r = append(r, row{"customer", certificate(cert)})
	}
	r = append(r, serverRows(l.Servers)...)
	var tcbs []rows
	for _, t := range l.TCBs {
		tcbs = append(tcbs, tcbRows(t))
	}
	return append(r, row{"tcb", tcbs})
}

func (s session) modelRows(ctx context.Context, f *os.File, size int64) (rows, error) {
	var signer []*x509.Certificate
	opener := model.Opener{Verify: func(signed []byte) (manifest []byte, err error) {
		manifest, signer, err = licensing.VerifyModel(signed)
		return manifest, err
	}}
	m, err := opener.Open(ctx, f, size)
	if errors.Is(err, model.ErrFormat) {
		return nil, hint.Wrap(errors.New("none of our files: neither a key store, a certificate, a document nor a model"), "ovsatool inspect shows what ovsatool and ovsaruntime write")
	}
	if err != nil {
		return nil, err
	}
	info := m.Info()
	r := rows{
		{"kind", string(licensing.KindModel)}, {"signature", "valid"}, {"signer", s.signerRows(signer)},
		{"name", info.Name}, {"description", info.Description}, {"version", info.Version}, {"model_guid", info.GUID}, {"model_sha256", m.Digest().String()},
		{"chunks", chunks(m)},
	}
	var files []rows
	for _, file := range m.Files() {
		files = append(files, rows{{"name", file.Name}, {"size", file.Size}})
	}
	return append(r, row{"file", files}), nil
}

func chunks(m *model.Container) string {
	if m.HasDigests() {
		return m.Digests() + " of each, signed"
	}
	return "AES-GCM tags alone: those who have the key can make others"
}

func leaseRows(l licensing.Lease) rows {
	return rows{
		{"id", l.ID}, {"licence_guid", string(l.LicenceGUID)}, {"model_guid", string(l.ModelGUID)}, {"guest", l.Guest},
		{"issued", stamp(l.Issued)}, {"expires", stamp(l.Expires)}, {"renew_until", stamp(l.RenewUntil)},
	}
}
