package ovsatool

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ovsactl/ovsactl/cmd/internal/filekind"
	"github.com/ovsactl/ovsactl/cmd/internal/guestcli"
	"github.com/ovsactl/ovsactl/cmd/internal/keystore"
	"github.com/ovsactl/ovsactl/cmd/internal/outfiles"
	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/pki"
)

func licgenCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "licgen", Summary: "make a licence configuration: its type, its limit and its licence servers",
		Flags: keystore.Trusting(
			guestcli.Flag{Name: "t", Arg: "TYPE", Values: "Sale|InstanceLimit|TimeLimit", Help: "Sale, InstanceLimit or TimeLimit", Required: true},
			guestcli.Flag{Name: "l", Arg: "N", Kind: guestcli.Number, Help: "the limit: guests at the same time, or days"},
			guestcli.Flag{Name: "n", Arg: "NAME", Help: "the configuration's name", Required: true},
			guestcli.Flag{Name: "v", Arg: "VERSION", Help: "its version", Required: true},
			guestcli.Flag{Name: "u", Arg: "HOST:PORT CERTIFICATE [FUTURE]", Help: "a licence server, its certificates, and those that will follow", Required: true, Min: 2, Max: 3, Repeat: true},
			keystore.Flag(),
			guestcli.Flag{Name: "o", Arg: "OUT.config", Kind: guestcli.File, Help: "where to write it", Required: true},
			outfiles.Flag(), guestcli.JSON(),
		),
		Example: `licgen -t TimeLimit -l30 -n "Time Limit License Config" -v 1.0 -u 192.168.122.10:4452 server.crt -k isv_keystore -o 30daylicense.config`,
		Run:     run(licgen),
	}
}

func licgen(ctx context.Context, s session) error {
	terms, err := parseTerms(s)
	if err != nil {
		return err
	}
	out := &outfiles.Set{Force: s.Has("force")}
	if err := out.Check(s.Text("o")); err != nil {
		return err
	}
	config := licensing.LicenceConfig{Name: s.Text("n"), Version: s.Text("v"), Terms: terms}
	for _, words := range s.Each("u") {
		server, err := s.readServer(words)
		if err != nil {
			return err
		}
		config.Servers = append(config.Servers, server)
	}
	p, err := s.Party(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	file, err := licensing.Sign(config, p.Key(licensing.Primary), p.Chain)
	if err != nil {
		return err
	}
	out.Add(s.Text("o"), file)
	if err := out.Write(); err != nil {
		return err
	}
	servers := addresses(config.Servers)
	return s.Report(rows{{"file", s.Text("o")}, {"name", config.Name}, {"version", config.Version}, {"type", string(terms.Type)}, {"instances", terms.Instances}, {"days", terms.Days}, {"servers", servers}},
		"%s: %s, with the servers %s", s.Text("o"), inWords(terms), strings.Join(servers, ", "))
}

func parseTerms(s session) (licensing.Terms, error) {
	t := licensing.Terms{Type: licensing.Type(s.Text("t"))}
	limit := 0
	if s.Has("l") {
		n, err := strconv.Atoi(s.Text("l"))
		if err != nil || n < 1 {
			return t, fmt.Errorf("-l %q: want a number from 1", s.Text("l"))
		}
		limit = n
	}
	switch t.Type {
	case licensing.InstanceLimit:
		t.Instances = limit
	case licensing.TimeLimit:
		t.Days = limit
	case licensing.Sale:
		if limit != 0 {
			return t, errors.New("-l: a Sale has no limit")
		}
	}
	if limit == 0 && (t.Type == licensing.InstanceLimit || t.Type == licensing.TimeLimit) {
		return t, fmt.Errorf("no -l N: a licence of type %s has a limit", t.Type)
	}
	return t, t.Check()
}

// readServer reads what -u names: the address, the file of the server's
// certificates and perhaps that of its future ones.
func (s session) readServer(words []string) (licensing.Server, error) {
	address, err := licensing.ParseAddress(words[0])
	if err != nil {
		return licensing.Server{}, err
	}
	tls, release, err := s.readServerCerts(words[1])
	if err != nil {
		return licensing.Server{}, err
	}
	if release == nil {
		return licensing.Server{}, hint.Wrap(fmt.Errorf("%q has a TLS certificate only: licences need the server's key-release certificate behind it", words[1]),
			"take the file as license_server gencert wrote it")
	}
	server := licensing.Server{Address: address, Pin: licensing.PinOf(tls), ReleaseKey: release.RawSubjectPublicKeyInfo}
	if len(words) == 3 {
		server.FuturePin, server.FutureReleaseKey, err = s.readFuture(words[2], server.ReleaseKey)
	}
	return server, err
}

// readServerCerts reads a server's TLS certificate, and its key-release
// certificate when it is in the file.
func (s session) readServerCerts(path string) (tls, release *x509.Certificate, err error) {
	certs, err := pki.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	if len(certs) > 2 {
		return nil, nil, fmt.Errorf("%q has %d certificates: want the server's TLS and key-release certificates", path, len(certs))
	}
	for _, c := range certs {
		if s.Now().After(c.NotAfter) {
			return nil, nil, fmt.Errorf("%q: certificate %q: %w on %s", path, c.Subject, licensing.ErrExpired, c.NotAfter.UTC().Format(time.DateOnly))
		}
	}
	if len(certs) == 1 {
		return certs[0], nil, nil
	}
	if key, ok := certs[1].PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P384() {
		return nil, nil, fmt.Errorf("%q: the key-release certificate has no P-384 key", path)
	}
	if certs[0].PublicKeyAlgorithm == x509.ECDSA && certs[1].PublicKey.(*ecdsa.PublicKey).Equal(certs[0].PublicKey) {
		return nil, nil, fmt.Errorf("%q: the server uses one key for TLS and for key release", path)
	}
	return certs[0], certs[1], nil
}

// readFuture reads the pin of the TLS certificate that a server will have, and its
// key-release key, nil when that stays as it is.
func (s session) readFuture(path string, releaseKey []byte) (licensing.Pin, []byte, error) {
	tls, release, err := s.readServerCerts(path)
	if err != nil {
		return nil, nil, err
	}
	if release == nil || bytes.Equal(release.RawSubjectPublicKeyInfo, releaseKey) {
		return licensing.PinOf(tls), nil, nil
	}
	return licensing.PinOf(tls), release.RawSubjectPublicKeyInfo, nil
}

func saleCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "sale", Summary: "make a customer's licence for a model",
		Flags: keystore.Trusting(
			guestcli.Flag{Name: "m", Arg: "MASTERLIC", Kind: guestcli.File, Help: "the model's master licence", Required: true},
			keystore.Flag(),
			guestcli.Flag{Name: "l", Arg: "CONFIG", Kind: guestcli.File, Help: "the licence configuration", Required: true},
			guestcli.Flag{Name: "t", Arg: "TCB...", Kind: guestcli.File, Help: "states in which guests get the key; one match is enough", Required: true, Min: 1, Max: guestcli.Many},
			guestcli.Flag{Name: "p", Arg: "CERTIFICATE", Kind: guestcli.File, Help: "the customer's primary certificate", Required: true},
			guestcli.Flag{Name: "c", Arg: "OUT.lic", Kind: guestcli.File, Help: "where to write the licence", Required: true},
			guestcli.Flag{Name: "renew", Arg: "LIC", Kind: guestcli.File, Help: "the customer's licence that it takes the place of: a trial, or one that ends"},
			outfiles.Flag(), guestcli.JSON(),
		),
		Example: `sale -m model.masterlic -k isv_keystore -l 30daylicense.config -t runtime_vm.tcb -p primary_custkeystore.csr.crt -c model.lic`,
		Run:     run(sale),
	}
}

func sale(ctx context.Context, s session) error {
	out := &outfiles.Set{Force: s.Has("force")}
	if err := out.Check(s.Text("c")); err != nil {
		return err
	}
	customer, err := s.customer(ctx)
	if err != nil {
		return err
	}
	p, err := s.Party(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	offer, err := readOffer(s, p.Cert(), customer)
	if err != nil {
		return err
	}
	now := s.Now()
	if err := offer.Config.Terms.Fits(now, offer.Master, p.Cert(), customer); err != nil {
		return err
	}
	key, err := offer.Master.Key(p.Key(licensing.Primary))
	if err != nil {
		return err
	}
	defer key.Wipe()
	licence, err := licensing.NewLicence(now, offer, key)
	if err != nil {
		return err
	}
	file, err := licensing.Sign(licence, p.Key(licensing.Primary), p.Chain)
	if err != nil {
		return err
	}
	out.Add(s.Text("c"), file)
	if err := out.Write(); err != nil {
		return err
	}
	return s.Report(sold(s.Text("c"), licence, customer), "%s: licence %s of product %s, for %s", s.Text("c"), licence.LicenceGUID, licence.Product(), name(customer))
}

// sold is what a licence's file is, for programs.
func sold(path string, l licensing.Licence, customer *x509.Certificate) rows {
	r := rows{{"file", path}, {"licence", string(l.LicenceGUID)}, {"product", string(l.Product())}, {"model", string(l.ModelGUID)}, {"customer", customer.Subject.String()}, {"type", string(l.Terms.Type)}}
	if !l.NotAfter.IsZero() {
		r = append(r, row{"ends", l.NotAfter.UTC()})
	}
	return append(r, row{"servers", addresses(l.Servers)})
}

func addresses(servers []licensing.Server) (all []string) {
	for _, s := range servers {
		all = append(all, s.Address)
	}
	return all
}

// inWords is a licence's type and its limit.
func inWords(t licensing.Terms) string {
	switch t.Type {
	case licensing.InstanceLimit:
		return fmt.Sprintf("%s of %d", t.Type, t.Instances)
	case licensing.TimeLimit:
		return fmt.Sprintf("%s of %d days", t.Type, t.Days)
	}
	return string(t.Type)
}

// customer reads and verifies the certificate of -p.
func (s session) customer(ctx context.Context) (*x509.Certificate, error) {
	chain, err := pki.ReadFile(s.Text("p"))
	if err != nil {
		return nil, err
	}
	v, err := s.Verifier()
	if err != nil {
		return nil, err
	}
	if _, err := v.Verify(ctx, chain); err != nil {
		return nil, fmt.Errorf("the customer: %w", err)
	}
	if !pki.ForKeyAgreement(chain[0]) {
		if pki.IsSelfSigned(chain[0]) {
			return nil, hint.Wrap(fmt.Errorf("%q is the customer's secondary certificate: its key is for signatures alone", s.Text("p")), "-p takes the primary certificate")
		}
		s.Say("warning: %q says that its key is for signatures alone: is it the customer's primary certificate?", s.Text("p"))
	}
	return chain[0], nil
}

// readOffer reads what a licence is made of, all signed by the ISV itself.
func readOffer(s session, isv, customer *x509.Certificate) (licensing.Offer, error) {
	o := licensing.Offer{Customer: customer}
	var err error
	if o.Master, err = readOwn[licensing.MasterLicence](s.Text("m"), isv); err != nil {
		return o, err
	}
	if o.Config, err = readOwn[licensing.LicenceConfig](s.Text("l"), isv); err != nil {
		return o, err
	}
	for _, path := range s.All("t") {
		tcb, err := readOwn[licensing.TCB](path, isv)
		if err != nil {
			return o, err
		}
		o.TCBs = append(o.TCBs, tcb)
	}
	if s.Has("renew") {
		old, err := readOwn[licensing.Licence](s.Text("renew"), isv)
		if err != nil {
			return o, err
		}
		o.Renews = &old
	}
	return o, nil
}

// readOwn reads a document that the owner of a certificate signed.
func readOwn[D licensing.Document](path string, signer *x509.Certificate) (D, error) {
	var none D
	signed, _, err := filekind.ReadDocument[D](path)
	if err != nil {
		return none, err
	}
	if err := signed.SignedBy(signer); err != nil {
		return none, fmt.Errorf("%q: %w", path, err)
	}
	return signed.Document, nil
}

func updateCommand(run binder) guestcli.Command {
	return guestcli.Command{
		Name: "updatecustlicense", Summary: "tell a licence the certificate that a licence server will have",
		Flags: keystore.Trusting(
			keystore.Flag(),
			guestcli.Flag{Name: "l", Arg: "LIC", Kind: guestcli.File, Help: "the licence", Required: true},
			guestcli.Flag{Name: "p", Arg: "CERTIFICATE", Kind: guestcli.File, Help: "the customer's primary certificate", Required: true},
			guestcli.Flag{Name: "u", Arg: "HOST:PORT FUTURE", Help: "a server of the licence, and its future certificates", Required: true, Min: 2, Max: 2, Repeat: true},
			guestcli.Flag{Name: "c", Arg: "OUT.lic", Kind: guestcli.File, Help: "where to write the licence", Required: true},
			outfiles.Flag(), guestcli.JSON(),
		),
		Example: `updatecustlicense -k isv_keystore -l model.lic -p primary_custkeystore.csr.crt -u 192.168.122.10:4452 server_new.crt -c model_new.lic`,
		Run:     run(updateLicence),
	}
}

func updateLicence(ctx context.Context, s session) error {
	out := &outfiles.Set{Force: s.Has("force")}
	if err := out.Check(s.Text("c")); err != nil {
		return err
	}
	customer, err := s.customer(ctx)
	if err != nil {
		return err
	}
	p, err := s.Party(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	licence, err := readOwn[licensing.Licence](s.Text("l"), p.Cert())
	if err != nil {
		return err
	}
	cert, err := licence.CustomerCertificate()
	if err != nil {
		return err
	}
	if key, ok := customer.PublicKey.(*ecdsa.PublicKey); !ok || !key.Equal(cert.PublicKey) {
		return fmt.Errorf("%q is the licence of %q with another key", s.Text("l"), cert.Subject)
	}
	licence.Touch(s.Now(), licence)
	for _, words := range s.Each("u") {
		if err := s.setFuturePin(&licence, words[0], words[1]); err != nil {
			return err
		}
	}
	file, err := licensing.Sign(licence, p.Key(licensing.Primary), p.Chain)
	if err != nil {
		return err
	}
	out.Add(s.Text("c"), file)
	if err := out.Write(); err != nil {
		return err
	}
	var told []string
	for _, words := range s.Each("u") {
		told = append(told, words[0])
	}
	return s.Report(append(sold(s.Text("c"), licence, customer), row{"updated_servers", told}),
		"%s: licence %s, with the future certificates of %s", s.Text("c"), licence.LicenceGUID, strings.Join(told, ", "))
}

func (s session) setFuturePin(l *licensing.Licence, url, path string) error {
	address, err := licensing.ParseAddress(url)
	if err != nil {
		return err
	}
	for i := range l.Servers {
		if strings.EqualFold(l.Servers[i].Address, address) {
			var release []byte
			l.Servers[i].FuturePin, release, err = s.readFuture(path, l.Servers[i].ReleaseKey)
			if err == nil && release != nil {
				s.Say("warning: %q has another key-release key: it has to be one that this server got by license_server gencert-new -release, which wraps the licence's half anew", path)
			}
			return err
		}
	}
	return fmt.Errorf("server %s is not in the licence", address)
}
