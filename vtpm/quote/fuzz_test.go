package quote

import (
	"bytes"
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

// Nothing but the exact evidence may ever be OK.
func FuzzVerifyEvidence(f *testing.F) {
	v := newVM(f)
	good := must(v.sign().Marshal())
	p := v.policy()
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if VerifyEvidence(b, testNonce, p).OK() && !bytes.Equal(b, good) {
			t.Errorf("verified: %q", b)
		}
	})
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
