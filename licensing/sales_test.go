package licensing

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// TestEachSaleHasItsOwnGUID: two customers of one model do not get in each other's
// way; what they bought is the same product.
func TestEachSaleHasItsOwnGUID(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	again, err := NewLicence(now, s.offer(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	if again.LicenceGUID == s.licence.LicenceGUID || again.LicenceGUID == licenceGUID {
		t.Errorf("two sales: %s and %s, of the product %s", s.licence.LicenceGUID, again.LicenceGUID, licenceGUID)
	}
	if again.Product() != licenceGUID || s.licence.Product() != licenceGUID {
		t.Errorf("products %s and %s", again.Product(), s.licence.Product())
	}
}

// TestOldLicencesStayReadable: those of before have the product's GUID as theirs.
func TestOldLicencesStayReadable(t *testing.T) {
	old, err := Verify[Licence](readVector(t, "model.lic"))
	if err != nil {
		t.Fatal(err)
	}
	if l := old.Document; l.ProductGUID != "" || l.Product() != l.LicenceGUID || !l.Issued().Equal(l.Created) {
		t.Errorf("%+v", l)
	}
}

func TestReplaces(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	other := newParty(t, "another customer")
	later := func(by time.Duration) func(*Licence) { return func(l *Licence) { l.Updated = l.Created.Add(by) } }
	for name, tt := range map[string]struct {
		change func(*Licence)
		want   error
	}{
		"an update":             {later(time.Second), nil},
		"sold later":            {func(l *Licence) { l.Created = l.Created.Add(time.Hour) }, nil},
		"as old":                {func(*Licence) {}, ErrOlder},
		"updated before that":   {later(-time.Hour), ErrOlder},
		"older":                 {func(l *Licence) { l.Created = l.Created.Add(-time.Second) }, ErrOlder},
		"another customer's":    {func(l *Licence) { later(time.Hour)(l); l.Customer = other.cert.Raw }, ErrOtherCustomer},
		"no customer's at all":  {func(l *Licence) { later(time.Hour)(l); l.Customer = nil }, errAny},
		"older, and his at all": {func(l *Licence) { later(-time.Hour)(l); l.Customer = other.cert.Raw }, ErrOtherCustomer},
	} {
		l := s.licence
		tt.change(&l)
		err := l.Replaces(s.licence)
		if !errors.Is(err, tt.want) && (err == nil || !errors.Is(tt.want, errAny)) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		// What replaces is not replaced by what it replaced, whatever the order.
		if tt.want == nil && !errors.Is(s.licence.Replaces(l), ErrOlder) {
			t.Errorf("%s: and the other way round: %v", name, s.licence.Replaces(l))
		}
	}
}

var errAny = errors.New("any error")

// TestRenew: a trial becomes a sale. It stays the same licence, and whoever has the
// file of the trial opens the model with it.
func TestRenew(t *testing.T) {
	s := newSample(t, Terms{Type: TimeLimit, Days: 30})
	trial := s.licence
	o := s.offer()
	o.Config.Terms, o.Renews = Terms{Type: Sale}, &trial
	sold, err := NewLicence(now, o, s.key) // in the same second
	if err != nil {
		t.Fatal(err)
	}
	if sold.LicenceGUID != trial.LicenceGUID || sold.Product() != trial.Product() || sold.Terms.Type != Sale || !sold.NotAfter.IsZero() {
		t.Errorf("%+v", sold)
	}
	if err := sold.Replaces(trial); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(sold.CustomerHalf, trial.CustomerHalf) || len(sold.ServerHalves) != len(trial.ServerHalves) {
		t.Error("it has halves of its own")
	}
	a, errA := trial.OpenCustomerHalf(s.customer.key)
	b, errB := sold.OpenServerHalf(s.server.key)
	if errA != nil || errB != nil || !bytes.Equal(Join(a, b).Bytes(), s.key.Bytes()) {
		t.Errorf("the trial's half and the sale's: %v, %v", errA, errB)
	}

	// On another server the key is split anew.
	elsewhere := newParty(t, "another server")
	o.Config.Servers = []Server{serverAt("licence.example:4452", elsewhere)}
	moved, err := NewLicence(now.Add(time.Hour), o, s.key)
	if err != nil {
		t.Fatal(err)
	}
	a, errA = moved.OpenCustomerHalf(s.customer.key)
	b, errB = moved.OpenServerHalf(elsewhere.key)
	if errA != nil || errB != nil || !bytes.Equal(Join(a, b).Bytes(), s.key.Bytes()) || moved.LicenceGUID != trial.LicenceGUID || !moved.Updated.IsZero() {
		t.Errorf("moved: %v, %v, %+v", errA, errB, moved)
	}

	for name, change := range map[string]func(*Offer){
		"another customer": func(o *Offer) { o.Customer = newParty(t, "another customer").cert },
		"another product":  func(o *Offer) { o.Master.LicenceGUID = NewGUID() },
		"another model":    func(o *Offer) { o.Master.ModelGUID = NewGUID() },
		"other content":    func(o *Offer) { o.Master.ModelDigest = bytes.Repeat([]byte{1}, 32) },
	} {
		o := s.offer()
		o.Renews = &trial
		change(&o)
		if l, err := NewLicence(now, o, s.key); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// TestTouch: versions follow each other, whatever the ISV's clock says.
func TestTouch(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	last := s.licence
	for _, at := range []time.Duration{time.Hour, time.Hour, 0, -time.Hour, 2 * time.Hour} {
		next := last
		next.Touch(now.Add(at), last)
		if err := errors.Join(next.Replaces(last), next.Check()); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		last = next
	}
	if got := last.Issued().Sub(s.licence.Created); got != 2*time.Hour {
		t.Errorf("the last is %s younger than the first", got)
	}
}
