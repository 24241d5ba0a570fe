package licensing

import (
	"crypto/elliptic"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

func TestParseGUID(t *testing.T) {
	if g, err := ParseGUID(strings.ToUpper(string(licenceGUID))); err != nil || g != licenceGUID {
		t.Errorf("upper case: %q, %v", g, err)
	}
	for _, s := range []string{"", "0f2d6a63", string(licenceGUID) + "0", "0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8aXX", "0f2d6a63x5a3b-4c0e-9d51-1f0c8f6f8a01", "{0f2d6a63-5a3b-4c0e-9d51-1f0c8f6f8a}"} {
		if _, err := ParseGUID(s); err == nil {
			t.Errorf("%q passes", s)
		}
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.168.122.10:4452": "192.168.122.10:4452", "https://licence.example:443/": "licence.example:443", "[::1]:4452": "[::1]:4452",
	} {
		if got, err := ParseAddress(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "host", ":4452", "host:", "host:0", "host:65536", "host:04452", "host:https", "http://host:1", "https://u:p@host:1", "a b:1", "host:1,other:2", "::1:4452", "host:1/path", "https://https://host:1"} {
		if got, err := ParseAddress(in); err == nil {
			t.Errorf("%q passes as %q", in, got)
		}
	}
}

// TestMasks is W11: what is not a mask is refused and never read as "all".
func TestMasks(t *testing.T) {
	for in, want := range map[string][]int{
		"0x0000ff": {0, 1, 2, 3, 4, 5, 6, 7}, "1": {0}, "0XFFFFFE": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22}, "0x810001": {0},
	} {
		if m, err := ParseMask(in); err != nil || !slices.Equal(m.PCRs(), want) {
			t.Errorf("%s: %v, %v", in, m.PCRs(), err)
		}
	}
	for _, in := range []string{"", "0x", "0", "0x000000", "0x1000000", "0xfffffff0", "-1", "+1", "all", "0x00000000f", "0x810000", "1_0"} {
		if m, err := ParseMask(in); err == nil {
			t.Errorf("%q passes as %s", in, m)
		}
	}
}

// TestTCBMatch is W1 and W12: every byte of every selected register counts, and
// no later register makes up for an earlier one.
func TestTCBMatch(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	if err := s.tcb.Match(bank(), bank()); err != nil {
		t.Fatal(err)
	}
	for _, p := range s.tcb.Guest.PCRs {
		for i := range p.Digest {
			changed := bank()
			changed[p.Index].Digest[i] ^= 0x80
			if s.tcb.Match(changed, bank()) == nil {
				t.Fatalf("register %d, byte %d changed, and it matches", p.Index, i)
			}
		}
	}
	changed := bank()
	changed[0].Digest[0] ^= 1
	changed[9].Digest[0] ^= 1 // not selected
	for name, tt := range map[string]struct {
		guest, host []quote.PCR
		want        string
	}{
		"guest":   {changed, bank(), "guest: PCRs 0 differ"},
		"host":    {bank(), changed, "host: PCRs 0 differ"},
		"missing": {bank()[2:], bank(), "guest: PCRs 0, 1 differ"},
		"nothing": {nil, nil, "guest: PCRs 0, 1, 2, 3 differ"},
	} {
		if err := s.tcb.Match(tt.guest, tt.host); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	if (TCB{}).Match(bank(), bank()) == nil {
		t.Error("a TCB without registers matches")
	}
}

func TestTerms(t *testing.T) {
	for _, bad := range []Terms{
		{}, {Type: "Perpetual"}, {Type: "sale"}, {Type: Sale, Days: 1}, {Type: Sale, Instances: 1}, {Type: InstanceLimit}, {Type: InstanceLimit, Instances: -1},
		{Type: InstanceLimit, Instances: MaxInstances + 1}, {Type: InstanceLimit, Instances: 1, Days: 1}, {Type: TimeLimit}, {Type: TimeLimit, Days: MaxDays + 1},
	} {
		if bad.Check() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

func TestDocumentsRefuse(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	p256 := newPartyOn(t, elliptic.P256(), "p256", now, now.Add(time.Hour))
	for name, spoil := range map[string]func(*Licence){
		"no servers":          func(l *Licence) { l.Servers = nil },
		"a server twice":      func(l *Licence) { l.Servers = append(slices.Clone(l.Servers), l.Servers[0]) },
		"a server's P-256":    func(l *Licence) { l.Servers = []Server{serverAt("h:1", p256)} },
		"a short pin":         func(l *Licence) { l.Servers = slices.Clone(l.Servers); l.Servers[0].Pin = []byte{1} },
		"a server's half":     func(l *Licence) { l.ServerHalves = nil },
		"too many halves":     func(l *Licence) { l.ServerHalves = append(slices.Clone(l.ServerHalves), ServerHalf{}) },
		"the customer's half": func(l *Licence) { l.CustomerHalf = l.CustomerHalf[1:] },
		"no customer":         func(l *Licence) { l.Customer = nil },
		"a P-256 customer":    func(l *Licence) { l.Customer = p256.cert.Raw },
		"no TCBs":             func(l *Licence) { l.TCBs = nil },
		"an end":              func(l *Licence) { l.NotAfter = now },
		"no name":             func(l *Licence) { l.Name = "" },
		"a long version":      func(l *Licence) { l.Version = strings.Repeat("1", MaxVersion+1) },
		"bad UTF-8":           func(l *Licence) { l.Name = "\xff" },
		"an escape":           func(l *Licence) { l.Name = "\x1b[2J" },
		"a GUID":              func(l *Licence) { l.ModelGUID = "x" },
		"a product's GUID":    func(l *Licence) { l.ProductGUID = "x" },
		"a fraction":          func(l *Licence) { l.Updated = now.Add(time.Second / 2) },
		"a digest":            func(l *Licence) { l.ModelDigest = []byte{1} },
	} {
		l := s.licence
		spoil(&l)
		if _, err := Sign(l, s.isv.key, s.isv.chain()); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestCertificateAge(t *testing.T) {
	long := newPartyOn(t, elliptic.P384(), "ten years", now, now.AddDate(10, 0, 0)).cert
	short := newPartyOn(t, elliptic.P384(), "a day", now, now.AddDate(0, 0, 1)).cert
	end := now.AddDate(0, 18, 0)
	tests := map[string]struct {
		at   time.Time
		want error
	}{
		"before":         {now.Add(-time.Second), ErrNotYetValid},
		"at its start":   {now, nil},
		"at 18 months":   {end, nil},
		"after them":     {end.Add(time.Second), ErrExpired},
		"in a time zone": {end.In(time.FixedZone("far", 14*3600)), nil},
	}
	for name, tt := range tests {
		if err := CheckCertificateAge(long, tt.at); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	// W24: notAfter counts, too.
	if err := CheckCertificateAge(short, now.AddDate(0, 0, 2)); !errors.Is(err, ErrExpired) {
		t.Errorf("after its notAfter: %v, want ErrExpired", err)
	}
}

func TestTimeLimitFits(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	old := s.master
	old.Created = now.AddDate(-ModelYears, 0, 40)
	young := newPartyOn(t, elliptic.P384(), "young", now, now.AddDate(3, 0, 0))
	ending := newPartyOn(t, elliptic.P384(), "ending", now, now.AddDate(0, 0, 20))
	tests := map[string]struct {
		days          int
		master        MasterLicence
		isv, customer party
		at            time.Time
		want          string
	}{
		"fits":                {30, s.master, s.isv, s.customer, now, ""},
		"fits to the second":  {20, s.master, s.isv, ending, now, ""},
		"model":               {41, old, young, young, now, "41 days end after the model ends (5 years after it was protected) on 2026-05-07; 40 days would fit"},
		"customer":            {21, s.master, s.isv, ending, now, "the customer's certificate ends on 2026-04-17; 20 days would fit"},
		"ISV":                 {21, s.master, ending, s.isv, now, "the ISV's certificate ends on 2026-04-17; 20 days would fit"},
		"18 months":           {600, s.master, young, young, now, "549 days would fit"},
		"a second too late":   {20, s.master, s.isv, ending, now.Add(time.Second), "19 days would fit"},
		"nothing would fit":   {1, s.master, s.isv, ending, now.AddDate(0, 0, 20), "no time limit would fit"},
		"over a DST change":   {1, s.master, s.isv, s.customer, now.In(time.FixedZone("CET", 3600)), ""},
		"at the model's end":  {1, old, s.isv, s.customer, now.AddDate(0, 0, 39), ""},
		"after the model end": {1, old, s.isv, s.customer, now.AddDate(0, 0, 41), "no time limit would fit"},
	}
	for name, tt := range tests {
		err := Terms{Type: TimeLimit, Days: tt.days}.Fits(tt.at, tt.master, tt.isv.cert, tt.customer.cert)
		if (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, ErrTooLong) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if err := (Terms{Type: Sale}).Fits(now.AddDate(9, 0, 0), old, ending.cert, ending.cert); err != nil {
		t.Errorf("a Sale has no end: %v", err)
	}
}
