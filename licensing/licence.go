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
	Updated      time.Time    `json:"updated,omitzero"` // when the ISV changed it last, if it did
	Name         string       `json:"name"`
	Version      string       `json:"version"`
	LicenceGUID  GUID         `json:"licence_guid"`           // of this sale alone
	ProductGUID  GUID         `json:"product_guid,omitempty"` // see Product
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
	Renews   *Licence          // that this one takes the place of, nil for none
}

// NewLicence makes a licence, with a GUID of its own, and splits the model's key
// for it. It does not ask whether the terms fit the age of model and certificates:
// see Fits.
//
// A licence that renews another keeps its GUID, and its halves where it is for the
// same servers: whoever has the older file goes on opening the model with it.
func NewLicence(now time.Time, o Offer, key Key) (Licence, error) {
	l := Licence{
		Created: instant(now), Name: o.Config.Name, Version: o.Config.Version,
		LicenceGUID: NewGUID(), ProductGUID: o.Master.LicenceGUID, ModelGUID: o.Master.ModelGUID, ModelDigest: o.Master.ModelDigest,
		Terms: o.Config.Terms, Servers: o.Config.Servers, TCBs: o.TCBs, Customer: o.Customer.Raw,
	}
	if l.Terms.Type == TimeLimit {
		l.NotAfter = l.Created.AddDate(0, 0, l.Terms.Days)
	}
	if o.Renews != nil {
		if err := l.renew(*o.Renews); err != nil {
			return Licence{}, fmt.Errorf("new licence: %w", err)
		}
	}
	if l.CustomerHalf == nil {
		if err := l.wrap(key); err != nil {
			return Licence{}, fmt.Errorf("new licence: %w", err)
		}
	}
	return l, l.Check()
}

// renew takes the identity of an older licence for the same customer and product.
func (l *Licence) renew(old Licence) error {
	same, err := sameCustomer(*l, old)
	switch {
	case err != nil:
		return err
	case !same:
		return ErrOtherCustomer
	case l.Product() != old.Product() || l.ModelGUID != old.ModelGUID || !bytes.Equal(l.ModelDigest, old.ModelDigest):
		return errors.New("the licence that it renews is for another product or model")
	}
	l.LicenceGUID, l.ProductGUID = old.LicenceGUID, old.ProductGUID
	if !l.Created.After(old.Issued()) {
		l.Touch(l.Created, old)
	}
	l.CustomerHalf, l.ServerHalves = old.CustomerHalf, old.ServerHalves
	if l.checkHalves() != nil { // other servers
		l.CustomerHalf, l.ServerHalves = nil, nil
	}
	return nil
}

// Product is the GUID of what was sold, which the ISV chose when it protected the
// model. Licences that were sold before they had GUIDs of their own have that one.
func (l Licence) Product() GUID {
	if l.ProductGUID == "" {
		return l.LicenceGUID
	}
	return l.ProductGUID
}

// Issued is when this very version of a licence was made.
func (l Licence) Issued() time.Time {
	if l.Updated.After(l.Created) {
		return l.Updated
	}
	return l.Created
}

// Touch makes the licence a version of another that was issued later than it, now
// if the clock says so.
func (l *Licence) Touch(now time.Time, old Licence) {
	l.Updated = instant(now)
	if !l.Updated.After(old.Issued()) {
		l.Updated = old.Issued().Add(time.Second)
	}
}

// Why a licence does not take the place of another.
var (
	ErrOtherCustomer = errors.New("it is another customer's licence")
	ErrOlder         = errors.New("it is older than that one, or as old")
)

// Replaces returns nil when a licence may take the place of another with the same
// GUIDs and signer: it is the same customer's, and was issued later.
func (l Licence) Replaces(old Licence) error {
	same, err := sameCustomer(l, old)
	switch {
	case err != nil:
		return err
	case !same:
		return ErrOtherCustomer
	case !l.Issued().After(old.Issued()):
		return fmt.Errorf("%w: issued %s, and that one %s", ErrOlder, l.Issued().Format(time.RFC3339), old.Issued().Format(time.RFC3339))
	}
	return nil
}

// sameCustomer tells whether two licences are for one customer's key, in whatever
// certificate.
func sameCustomer(a, b Licence) (bool, error) {
	one, err := a.CustomerCertificate()
	if err != nil {
		return false, err
	}
	other, err := b.CustomerCertificate()
	if err != nil {
		return false, err
	}
	return bytes.Equal(one.RawSubjectPublicKeyInfo, other.RawSubjectPublicKeyInfo), nil
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
		for _, spki := range s.releaseKeys() {
			if l.serverHalf(spki) != nil {
				continue
			}
			pub, err := parseReleaseKey(spki)
			if err != nil {
				return fmt.Errorf("release key of %s: %w", s.Address, err)
			}
			wrapped, err := Wrap(server, pub, l.binding(RoleServerHalf))
			if err != nil {
				return err
			}
			l.ServerHalves = append(l.ServerHalves, ServerHalf{spki, wrapped})
		}
	}
	return nil
}

// Reseal wraps the server's half, which the caller has opened, to another key-release
// key, for the server to keep beside the licence: that the ISV signed stays as it is.
func (l Licence) Reseal(half Key, to *ecdsa.PublicKey) ([]byte, error) {
	return Wrap(half, to, l.binding(RoleServerHalf))
}

// OpenResealed opens what Reseal made.
func (l Licence) OpenResealed(wrapped []byte, release *ecdsa.PrivateKey) (Key, error) {
	return Unwrap(wrapped, release, l.binding(RoleServerHalf))
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
	if !l.Updated.IsZero() {
		if err := checkInstant("time of its update", l.Updated); err != nil {
			return err
		}
	}
	if err := l.LicenceGUID.check(); err != nil {
		return fmt.Errorf("licence GUID: %w", err)
	}
	if err := l.Product().check(); err != nil {
		return fmt.Errorf("product GUID: %w", err)
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
		for _, spki := range s.releaseKeys() {
			distinct[string(spki)] = true
			if len(l.serverHalf(spki)) != wrappedSize {
				return fmt.Errorf("server %s has no half", s.Address)
			}
		}
	}
	if len(l.ServerHalves) != len(distinct) {
		return errors.New("a half for a server that is not listed")
	}
	return nil
}
