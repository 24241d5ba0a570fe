package quote

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

func FuzzParseRecord(f *testing.F) {
	f.Add(must(newHost(f).sign().Marshal()))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			return
		}
		if again, err := r.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q became %q, %v", b, again, err)
		}
	})
}

func FuzzParseClaims(f *testing.F) {
	f.Add(must(newHost(f).claims.Marshal()))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseClaims(b)
		if err != nil {
			return
		}
		if again, err := c.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q became %q, %v", b, again, err)
		}
	})
}

// recorded is evidence that verifies under a policy, from testdata: each process of a
// fuzzer has to know the same. OVSA_UPDATE=1 makes it anew.
func recorded(t testing.TB) (evidence []byte, p EvidencePolicy) {
	t.Helper()
	const dir = "testdata/evidence/"
	if os.Getenv("OVSA_UPDATE") != "" {
		v := newVM(t)
		for name, data := range map[string][]byte{
			"good.json": must(v.sign().Marshal()), "attestation.der": v.host.akCA.Raw, "vendor.der": v.host.vendorCA.Raw,
		} {
			if err := os.WriteFile(dir+name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	p = EvidencePolicy{RequireLog: true, RequireHost: true, Record: Policy{
		VM: testVM, Now: testNow,
		AKIssuers: []*x509.Certificate{must(x509.ParseCertificate(read("attestation.der")))},
		Trust:     []*x509.Certificate{must(x509.ParseCertificate(read("vendor.der")))},
	}}
	evidence = read("good.json")
	if err := VerifyEvidence(evidence, testNonce, p).Err(); err != nil {
		t.Fatal(err)
	}
	return evidence, p
}

// signedParts are all of evidence that somebody signed or certified. What else there
// is may be other: what a log says beside its digests, the other form of an ECDSA
// signature, certificates that lead nowhere.
func signedParts(t testing.TB, evidence []byte) string {
	t.Helper()
	e := must(ParseEvidence(evidence))
	r := must(ParseRecord(e.Record))
	return fmt.Sprintf("%x", [][]byte{
		e.Nonce, e.Attest, e.AK, must(json.Marshal(e.PCRs)), must(json.Marshal(e.EKs)),
		e.Life.Public, e.Life.Attest, e.Host.Attest, must(json.Marshal(e.Host.PCRs)),
		r.Claims, r.Attest, r.AK, must(json.Marshal(r.PCRs)), r.AKCert,
	})
}

// Whatever verifies says what the recorded evidence says.
func FuzzVerifyEvidence(f *testing.F) {
	good, p := recorded(f)
	want := signedParts(f, good)
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if VerifyEvidence(b, testNonce, p).OK() && signedParts(t, b) != want {
			t.Errorf("verified: %q", b)
		}
	})
}

// The oracle of FuzzVerifyEvidence sees evidence that verifies, also such as was
// changed where nobody has signed.
func TestRecordedEvidence(t *testing.T) {
	good, p := recorded(t)
	e := must(ParseEvidence(good))
	e.EventLog = bytes.Clone(e.EventLog)
	e.EventLog[len(e.EventLog)-1] ^= 1 // what the last event says
	other := must(e.Marshal())
	if r := VerifyEvidence(other, testNonce, p); !r.OK() || signedParts(t, other) != signedParts(t, good) {
		t.Errorf("%v", r.Err())
	}
}

// The structures inside a record, where JSON does not keep the fuzzer away.
func FuzzStructures(f *testing.F) {
	r := newHost(f).sign()
	f.Add(r.Attest, r.AK, r.Signature)
	f.Fuzz(func(t *testing.T, a, ak, sig []byte) {
		_, _ = parseAttest(a, typeQuote)
		_, _ = parseAttest(a, typeCertify)
		if p, err := parsePublic(ak); err == nil && p.checkAK() == nil {
			_ = verifySignature(p, sig, a)
		}
		_, _ = parseSignature(sig)
		if c, err := TrimCert(a); err == nil {
			_, _ = parseCert(c)
		}
	})
}

func FuzzParseLog(f *testing.F) {
	log, _ := testLog()
	f.Add(log)
	f.Fuzz(func(t *testing.T, b []byte) {
		if events, err := ParseLog(b); err == nil {
			_, _ = Replay(events)
			for _, e := range events {
				if said := e.Describe(); len(said) > 64+6*maxText {
					t.Errorf("%d bytes are said of an event", len(said))
				}
			}
			_ = FirstDifference(events, events[len(events)/2:], 4)
		}
	})
}

func FuzzHostMessages(f *testing.F) {
	f.Add(must(HostRequest{Version: 1, Nonce: testNonce, AK: objectName(nil)}.Marshal()))
	f.Add(must(HostAnswer{Version: 1, Nonce: testNonce, Quote: newVM(f).sign().Host}.Marshal()))
	f.Add(must(HostAnswer{Version: 1, Problem: ProblemHost}.Marshal()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseHostRequest(b); err == nil && !bytes.Equal(must(r.Marshal()), b) {
			t.Errorf("%q is not its one encoding", b)
		}
		if a, err := ParseHostAnswer(b); err == nil && !bytes.Equal(must(a.Marshal()), b) {
			t.Errorf("%q is not its one encoding", b)
		}
	})
}
