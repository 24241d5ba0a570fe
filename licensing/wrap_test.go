package licensing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestHalves is W16: neither the customer nor the server alone has the key, and
// both together do.
func TestHalves(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	customer, err := s.licence.OpenCustomerHalf(s.customer.key)
	if err != nil {
		t.Fatal(err)
	}
	server, err := s.licence.OpenServerHalf(s.server.key)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(customer.Bytes(), s.key.Bytes()) || bytes.Equal(server.Bytes(), s.key.Bytes()) {
		t.Error("one half is the key")
	}
	if got := Join(customer, server); !bytes.Equal(got.Bytes(), s.key.Bytes()) {
		t.Error("the halves do not make the key")
	}
	if _, err := s.licence.OpenCustomerHalf(s.server.key); !errors.Is(err, ErrUnwrap) {
		t.Errorf("the server opens the customer's half: %v", err)
	}
	if _, err := s.licence.OpenServerHalf(s.customer.key); !errors.Is(err, ErrUnwrap) {
		t.Errorf("the customer opens the server's half: %v", err)
	}
}

// TestLicencesSplitAnew: two licences for a model share no half, so that the
// halves of one are of no use to the other.
func TestLicencesSplitAnew(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	again, err := NewLicence(now, s.offer(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	a, errA := s.licence.OpenCustomerHalf(s.customer.key)
	b, errB := again.OpenCustomerHalf(s.customer.key)
	if errA != nil || errB != nil || bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("%v, %v, or the same half twice", errA, errB)
	}
}

func TestHalfForEachReleaseKey(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	other := newParty(t, "other server")
	s.config.Servers = append(s.config.Servers, serverAt("[2001:db8::1]:4452", s.server), serverAt("licence.example:4452", other))
	l, err := NewLicence(now, s.offer(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.ServerHalves) != 2 {
		t.Errorf("%d halves for two keys", len(l.ServerHalves))
	}
	a, errA := l.OpenServerHalf(s.server.key)
	b, errB := l.OpenServerHalf(other.key)
	if errA != nil || errB != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("%v, %v, or different halves", errA, errB)
	}
}

// TestWrappedKeysStayWhereTheyAre is W21: what a wrapped key is for, and of which
// licence and model, is part of its encryption.
func TestWrappedKeysStayWhereTheyAre(t *testing.T) {
	p := newParty(t, "p")
	b := Binding{KindLicence, licenceGUID, modelGUID, RoleCustomerHalf}
	wrapped, err := Wrap(NewKey(), &p.key.PublicKey, b)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := Unwrap(wrapped, p.key, b); err != nil || len(k.Bytes()) != KeySize {
		t.Fatal(err)
	}
	for _, other := range []Binding{
		{KindMasterLicence, licenceGUID, modelGUID, RoleCustomerHalf},
		{KindLicence, modelGUID, modelGUID, RoleCustomerHalf},
		{KindLicence, licenceGUID, licenceGUID, RoleCustomerHalf},
		{KindLicence, licenceGUID, modelGUID, RoleServerHalf},
	} {
		if _, err := Unwrap(wrapped, p.key, other); !errors.Is(err, ErrUnwrap) {
			t.Errorf("%+v: %v, want ErrUnwrap", other, err)
		}
	}
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		if _, err := Unwrap(bad, p.key, b); err == nil {
			t.Fatalf("byte %d changed, and it unwraps", i)
		}
	}
	for _, n := range []int{0, 1, 97, len(wrapped) - 1} {
		if _, err := Unwrap(wrapped[:n], p.key, b); !errors.Is(err, ErrUnwrap) {
			t.Errorf("%d bytes: %v, want ErrUnwrap", n, err)
		}
	}
}

func TestMasterLicenceIsForItsISV(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	if k, err := s.master.Key(s.isv.key); err != nil || !bytes.Equal(k.Bytes(), s.key.Bytes()) {
		t.Errorf("the ISV: %v", err)
	}
	if _, err := s.master.Key(s.customer.key); !errors.Is(err, ErrUnwrap) {
		t.Errorf("someone else: %v, want ErrUnwrap", err)
	}
}

// TestKeysDoNotPrint is W25.
func TestKeysDoNotPrint(t *testing.T) {
	k := NewKey()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "key", k, "in", struct{ K any }{k})
	printed := []string{fmt.Sprint(k), log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		printed = append(printed, fmt.Sprintf(verb, k), fmt.Sprintf(verb, struct{ k Key }{k}), fmt.Sprintf(verb, []Key{k}))
	}
	for _, s := range printed {
		for _, spelt := range []string{fmt.Sprintf("%x", k.Bytes()), fmt.Sprintf("%d", k.Bytes()), fmt.Sprintf("%X", k.Bytes())} {
			if strings.Contains(s, strings.Trim(spelt, "[]")) {
				t.Errorf("%q has the key", s)
			}
		}
	}
	if out, err := json.Marshal(struct{ K Key }{k}); err == nil {
		t.Errorf("encoded a key: %s", out)
	}
	k.Wipe()
	if !bytes.Equal(k.Bytes(), make([]byte, KeySize)) {
		t.Error("wiped, and something is left")
	}
}

// TestKeysMayHaveZeros is W20: a secret is bytes and not a string.
func TestKeysMayHaveZeros(t *testing.T) {
	p, b := newParty(t, "p"), Binding{KindLicence, licenceGUID, modelGUID, RoleCustomerHalf}
	for _, zeros := range [][2]int{{0, 1}, {10, 11}, {31, 32}, {0, 32}} {
		k := NewKey()
		clear(k.Bytes()[zeros[0]:zeros[1]])
		wrapped, err := Wrap(k, &p.key.PublicKey, b)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Unwrap(wrapped, p.key, b); err != nil || !bytes.Equal(got.Bytes(), k.Bytes()) {
			t.Errorf("zeros at %v: %v", zeros, err)
		}
	}
}

func TestTakeKeyWipesItsArgument(t *testing.T) {
	for _, n := range []int{0, 31, KeySize, 33} {
		b := bytes.Repeat([]byte{7}, n)
		_, err := TakeKey(b)
		if (err == nil) != (n == KeySize) || !bytes.Equal(b, make([]byte, n)) {
			t.Errorf("%d bytes: %v, left %x", n, err, b)
		}
	}
}
