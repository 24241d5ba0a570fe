package licensing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Licence is a customer's licence for a model (.lic). Its signer is the ISV.
type Licence struct {
	Created      time.Time    `json:"created"`
	Name         string       `json:"name"`
	Version      string       `json:"version"`
	LicenceGUID  GUID         `json:"licence_guid"`
	ModelGUID    GUID         `json:"model_guid"`
	ModelDigest  []byte       `json:"model_digest"`
	Terms        Terms        `json:"terms"`
	NotAfter     time.Time    `json:"not_after,omitzero"` // the end of a TimeLimit
	Servers      []Server     `json:"servers"`
	TCBs         []TCB        `json:"tcbs"`
	Customer     []byte       `json:"customer"`      // the customer's primary certificate, DER
	CustomerHalf []byte       `json:"customer_half"` // for its key
	ServerHalves []ServerHalf `json:"server_halves"` // one for each key-release key of the servers
}

// ServerHalf is the server's half of a model's key, for one key-release key.
type ServerHalf struct {
	ReleaseKey []byte `json:"release_key"` // SPKI
	Wrapped    []byte `json:"wrapped"`
}

// Offer is what a licence is made of.
type Offer struct {
	Master   MasterLicence
	Config   LicenceConfig
	TCBs     []TCB
	Customer *x509.Certificate // primary
}

// NewLicence makes a licence and splits the model's key for it. It does not ask
// whether the terms fit the age of model and certificates: see Fits.
func NewLicence(now time.Time, o Offer, key Key) (Licence, error) {
	l := Licence{
		Created: instant(now), Name: o.Config.Name, Version: o.Config.Version,
		LicenceGUID: o.Master.LicenceGUID, ModelGUID: o.Master.ModelGUID, ModelDigest: o.Master.ModelDigest,
		Terms: o.Config.Terms, Servers: o.Config.Servers, TCBs: o.TCBs, Customer: o.Customer.Raw,
	}
	if l.Terms.Type == TimeLimit {
		l.NotAfter = l.Created.AddDate(0, 0, l.Terms.Days)
	}
	if err := l.wrap(key); err != nil {
		return Licence{}, fmt.Errorf("new licence: %w", err)
	}
	return l, l.Check()
}

func (l *Licence) wrap(key Key) error {
	customer, server := Split(key)
	defer customer.Wipe()
	defer server.Wipe()
	cert, err := l.CustomerCertificate()
	if err != nil {
		return err
	}
	pub, err := p384(cert)
	if err != nil {
		return err
	}
	if l.CustomerHalf, err = Wrap(customer, pub, l.binding(RoleCustomerHalf)); err != nil {
		return err
	}
	for _, s := range l.Servers {
		if l.serverHalf(s.ReleaseKey) != nil {
			continue
		}
		pub, err := s.Key()
		if err != nil {
			return err
		}
		wrapped, err := Wrap(server, pub, l.binding(RoleServerHalf))
		if err != nil {
			return err
		}
		l.ServerHalves = append(l.ServerHalves, ServerHalf{s.ReleaseKey, wrapped})
	}
	return nil
}

func (l Licence) binding(role Role) Binding {
	return Binding{KindLicence, l.LicenceGUID, l.ModelGUID, role}
}

func (l Licence) serverHalf(releaseKey []byte) []byte {
	for _, h := range l.ServerHalves {
		if bytes.Equal(h.ReleaseKey, releaseKey) {
			return h.Wrapped
		}
	}
	return nil
}

// OpenCustomerHalf returns the customer's half with its primary key.
func (l Licence) OpenCustomerHalf(customer *ecdsa.PrivateKey) (Key, error) {
	return Unwrap(l.CustomerHalf, customer, l.binding(RoleCustomerHalf))
}

// OpenServerHalf returns the server's half with its key-release key.
func (l Licence) OpenServerHalf(release *ecdsa.PrivateKey) (Key, error) {
	spki, err := x509.MarshalPKIXPublicKey(&release.PublicKey)
	if err != nil {
		return Key{}, fmt.Errorf("unwrap %s: %w", RoleServerHalf, err)
	}
	wrapped := l.serverHalf(spki)
	if wrapped == nil {
		return Key{}, fmt.Errorf("unwrap %s: %w", RoleServerHalf, ErrUnwrap)
	}
	return Unwrap(wrapped, release, l.binding(RoleServerHalf))
}

// CustomerCertificate is the customer's primary certificate.
func (l Licence) CustomerCertificate() (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(l.Customer)
	if err != nil {
		return nil, fmt.Errorf("parse the customer's certificate: %w", err)
	}
	return cert, nil
}

// Kind is KindLicence.
func (Licence) Kind() Kind { return KindLicence }

// Check says what is wrong with the content by itself.
func (l Licence) Check() error {
	if err := checkInstant("creation time", l.Created); err != nil {
		return err
	}
	if err := l.LicenceGUID.check(); err != nil {
		return fmt.Errorf("licence GUID: %w", err)
	}
	if err := l.ModelGUID.check(); err != nil {
		return fmt.Errorf("model GUID: %w", err)
	}
	if err := checkDigest(l.ModelDigest); err != nil {
		return err
	}
	if err := (LicenceConfig{l.Name, l.Version, l.Terms, l.Servers}).Check(); err != nil {
		return err
	}
	if err := l.checkEnd(); err != nil {
		return err
	}
	if len(l.TCBs) == 0 || len(l.TCBs) > MaxTCBs {
		return fmt.Errorf("%d TCBs, want 1 to %d", len(l.TCBs), MaxTCBs)
	}
	for _, t := range l.TCBs {
		if err := t.Check(); err != nil {
			return fmt.Errorf("TCB %q: %w", t.Name, err)
		}
	}
	return l.checkHalves()
}

func (l Licence) checkEnd() error {
	if l.Terms.Type != TimeLimit {
		if !l.NotAfter.IsZero() {
			return fmt.Errorf("an end that the type %s does not have", l.Terms.Type)
		}
		return nil
	}
	if err := checkInstant("end", l.NotAfter); err != nil {
		return err
	}
	if !l.NotAfter.Equal(l.Created.AddDate(0, 0, l.Terms.Days)) {
		return fmt.Errorf("the end is not %d days after the creation", l.Terms.Days)
	}
	return nil
}

func (l Licence) checkHalves() error {
	cert, err := l.CustomerCertificate()
	if err != nil {
		return err
	}
	if _, err := p384(cert); err != nil {
		return err
	}
	if len(l.CustomerHalf) != wrappedSize {
		return errors.New("the customer's half is not a wrapped key")
	}
	distinct := map[string]bool{}
	for _, s := range l.Servers {
		distinct[string(s.ReleaseKey)] = true
		if len(l.serverHalf(s.ReleaseKey)) != wrappedSize {
			return fmt.Errorf("server %s has no half", s.Address)
		}
	}
	if len(l.ServerHalves) != len(distinct) {
		return errors.New("a half for a server that is not listed")
	}
	return nil
}
