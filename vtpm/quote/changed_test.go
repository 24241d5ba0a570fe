package quote

import (
	"bytes"
	"testing"
)

// evidenceParts are the bytes of evidence and of the record in it, each with its name.
func evidenceParts(e *Evidence, r *Record) map[string]*[]byte {
	all := map[string]*[]byte{
		"nonce": &e.Nonce, "quote": &e.Attest, "signature": &e.Signature, "AK": &e.AK, "event log": &e.EventLog,
		"life": &e.Life.Public, "life's certification": &e.Life.Attest, "life's signature": &e.Life.Signature,
		"host's word": &e.Host.Attest, "host's word's signature": &e.Host.Signature,
		"claims": &r.Claims, "host's quote": &r.Attest, "host's signature": &r.Signature, "host's AK": &r.AK, "host's AK certificate": &r.AKCert,
	}
	for name, pcrs := range map[string][]PCR{"register": e.PCRs, "host's register": r.PCRs, "host's register now": e.Host.PCRs} {
		for i := range pcrs {
			all[name+" "+string(rune('a'+i))] = &pcrs[i].Digest
		}
	}
	for name, certs := range map[string][][]byte{"EK": e.EKs, "host's EK": r.EKChain} {
		for i := range certs {
			all[name+" "+string(rune('a'+i))] = &certs[i]
		}
	}
	return all
}

// changeEvidence verifies evidence of which a part was changed, and whose record was encoded
// anew, as whoever changes one has to. The oracle is FuzzVerifyEvidence's.
func changeEvidence(t *testing.T, good []byte, p EvidencePolicy, want, part string, how func([]byte) []byte) (verified bool) {
	t.Helper()
	e := must(ParseEvidence(good))
	r := must(ParseRecord(e.Record))
	bs := evidenceParts(e, r)[part]
	*bs = how(bytes.Clone(*bs))
	if record, err := r.Marshal(); err == nil {
		e.Record = record
	}
	changed, err := e.Marshal()
	if err != nil {
		return false
	}
	verified = VerifyEvidence(changed, testNonce, p).OK()
	if verified && signedParts(t, changed) != want {
		t.Errorf("the %s was changed, and it verifies", part)
	}
	return verified
}

// FuzzChangedEvidence changes what is inside of evidence, where a fuzzer of its text
// seldom gets: a byte, or where a part ends.
func FuzzChangedEvidence(f *testing.F) {
	good, p := recorded(f)
	want := signedParts(f, good)
	e := must(ParseEvidence(good))
	for part := range evidenceParts(e, must(ParseRecord(e.Record))) {
		f.Add(part, uint16(0), byte(1))
		f.Add(part, uint16(40), byte(0))
	}
	f.Fuzz(func(t *testing.T, part string, at uint16, mask byte) {
		if _, ok := evidenceParts(e, must(ParseRecord(e.Record)))[part]; !ok {
			return
		}
		changeEvidence(t, good, p, want, part, func(b []byte) []byte {
			if i := int(at); i < len(b) {
				b[i] ^= mask
			}
			if mask == 0 {
				return b[:min(int(at), len(b))]
			}
			return b
		})
	})
}

// Each byte of evidence that is signed, or that a signature is checked with, counts:
// with another bit in it, it does not verify, or what is signed is the same.
func TestEveryByteOfEvidence(t *testing.T) {
	good, p := recorded(t)
	want := signedParts(t, good)
	e := must(ParseEvidence(good))
	for part, bs := range evidenceParts(e, must(ParseRecord(e.Record))) {
		if !changeEvidence(t, good, p, want, part, func(b []byte) []byte { return b }) {
			t.Errorf("the %s was not changed, and it does not verify", part)
		}
		step := 1
		if len(*bs) > 512 { // certificates and the event log: see FuzzChangedEvidence
			step = 37
		}
		for i := 0; i < len(*bs); i += step {
			changeEvidence(t, good, p, want, part, func(b []byte) []byte { b[i] ^= 1 << (i % 8); return b })
		}
	}
}
