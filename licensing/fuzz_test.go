package licensing

import (
	"bytes"
	"testing"
)

// FuzzVerify: no bytes crash it, and what passes is in its one encoding.
func FuzzVerify(f *testing.F) {
	s := newSample(f, Terms{Type: TimeLimit, Days: 30})
	f.Add(mustSign(f, s.master, s.isv))
	f.Add(mustSign(f, s.config, s.isv))
	f.Add(mustSign(f, s.tcb, s.isv))
	f.Add(mustSign(f, s.licence, s.isv))
	f.Add([]byte(`{"payload":"e30","protected":"e30","signature":""}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		_, kindErr := KindOf(file)
		for _, err := range []error{errOf[MasterLicence](file), errOf[LicenceConfig](file), errOf[TCB](file), errOf[Licence](file)} {
			if err == nil && kindErr != nil {
				t.Fatal("it verifies, and has no kind")
			}
		}
	})
}

// FuzzPayload goes past the signature, to the strict parser.
func FuzzPayload(f *testing.F) {
	s := newSample(f, Terms{Type: TimeLimit, Days: 30})
	for _, file := range [][]byte{mustSign(f, s.licence, s.isv), mustSign(f, s.tcb, s.isv)} {
		f.Add(takeApart(f, file).payload)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var l payload[Licence]
		if unmarshal(b, &l, MaxDocument) == nil && l.Document.Check() == nil {
			if again, err := marshal(l); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("two encodings: %s and %s", b, again)
			}
		}
		var c payload[TCB]
		if unmarshal(b, &c, MaxDocument) == nil && c.Document.Check() == nil && c.Document.Match(nil, nil) == nil {
			t.Fatal("a TCB that nothing matches")
		}
	})
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{"0xffffff", "192.168.122.10:4452", "[::1]:1", string(licenceGUID)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAddress(s); err == nil {
			if again, err := ParseAddress(a); err != nil || again != a {
				t.Fatalf("%q: %q, %v", a, again, err)
			}
		}
		if m, err := ParseMask(s); err == nil && len(m.PCRs()) == 0 {
			t.Fatalf("%q selects nothing", s)
		}
		if g, err := ParseGUID(s); err == nil && len(g) != 36 {
			t.Fatalf("%q", g)
		}
	})
}
