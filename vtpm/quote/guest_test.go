package quote

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
)

var testNonce = bytes.Repeat([]byte{7}, 32)

// vm is a guest with a made vTPM, on a made host.
type vm struct {
	host     *host
	ak       akSpec
	spec     wireSpec
	life     certifySpec
	now      *wireSpec // the host's word; nil: none
	nowKey   akSpec    // what that is signed with
	evidence Evidence  // what signing does not fill
}

func newVM(t testing.TB) *vm {
	h := newHost(t)
	v := &vm{host: h, ak: eccAK(newECC(elliptic.P256())), spec: newSpec(DefaultGuestPCRs())}
	v.evidence = Evidence{Version: 1, Nonce: testNonce, Record: must(h.sign().Marshal())}
	for _, ek := range h.vtpmEKs {
		v.evidence.EKs = append(v.evidence.EKs, ek.Cert)
	}
	var pcrs map[int][]byte
	v.evidence.EventLog, pcrs = testLog()
	for i, p := range v.spec.pcrs {
		v.spec.pcrs[i].Digest = pcrs[p.Index]
		if pcrs[p.Index] == nil {
			v.spec.pcrs[i].Digest = make([]byte, 32)
		}
	}
	extra := LifeExtraData(testNonce)
	v.life = certifySpec{
		ak: v.ak, magic: generatedMagic, kind: typeCertify, extra: extra[:],
		public: eccAK(newECC(elliptic.P256())).public(), hierarchy: handleNull,
	}
	now := newSpec(DefaultPCRs())
	v.now, v.nowKey = &now, h.ak
	return v
}

func (v *vm) sign() Evidence {
	e := v.evidence
	if v.spec.extra == nil {
		sum := GuestExtraData(e.Nonce, Digest(e.Record))
		v.spec.extra = sum[:]
	}
	e.Attest, e.PCRs, e.AK = v.spec.bytes(), v.spec.pcrs, v.ak.public()
	e.Signature = v.ak.sign(e.Attest)
	e.Life = v.life.sign()
	if v.now != nil {
		if v.now.extra == nil {
			sum := HostExtraData(e.Nonce, v.host.claims.VMUUID, Digest(e.Record), objectName(e.AK))
			v.now.extra = sum[:]
		}
		word := v.now.bytes()
		e.Host = &HostQuote{Attest: word, Signature: v.nowKey.sign(word), PCRs: v.now.pcrs}
	}
	return e
}

// logHeader begins a log with the banks SHA-1 and SHA-256.
func logHeader() []byte {
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 2, 0, 0, 0, algSHA1, 0, 20, 0, algSHA256, 0, 32, 0, 0)
	b := append([]byte{0, 0, 0, 0, eventNoAction, 0, 0, 0}, make([]byte, 20)...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(spec))), spec...)
}

func logEvent(b []byte, pcr, kind uint32, data []byte) []byte {
	sum := sha256.Sum256(data)
	b = binary.LittleEndian.AppendUint32(b, pcr)
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(b, 2, 0, 0, 0, algSHA1, 0)
	b = append(append(b, make([]byte, 20)...), algSHA256, 0)
	b = append(b, sum[:]...)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
}

// testLog is a log that extends registers 0 to 7 and 9, and their values.
func testLog() ([]byte, map[int][]byte) {
	b := logEvent(logHeader(), 0, eventNoAction, []byte("StartupLocality\x00\x03"))
	for _, pcr := range []uint32{0, 1, 2, 3, 4, 5, 6, 7, 9, 0} {
		b = logEvent(b, pcr, 8, []byte{byte(pcr), 'x'})
	}
	return b, must(Replay(must(ParseLog(b))))
}

func (v *vm) policy() EvidencePolicy {
	return EvidencePolicy{Record: v.host.policy(), RequireLog: true, RequireHost: true}
}

func TestEvidenceThatVerifies(t *testing.T) {
	v := newVM(t)
	p := v.policy()
	p.Expected = slices.Clone(v.spec.pcrs[:8])
	p.Previous = &Clock{4000, 3, 1}
	r := VerifyEvidence(must(v.sign().Marshal()), testNonce, p)
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Steps {
		want := Passed
		switch s.Name {
		case PrefixOfRecord + StepEKs, PrefixOfRecord + StepEKCerts:
			want = Skipped // the guest's own steps do it
		case StepActivation:
			want = Warning
		}
		if s.Status != want {
			t.Errorf("%s: %s (%s), want %s", s.Name, s.Status, s.Detail, want)
		}
	}
	if r.GuestClock == nil || r.HostClock == nil || r.Evidence == nil || r.Claims.VMUUID != testVM {
		t.Errorf("result %+v", r)
	}
	if !bytes.Equal(r.Life, objectName(v.life.public)) {
		t.Errorf("life %x", r.Life)
	}
}

// Offline, nobody answers for the host: its record stands alone.
func TestEvidenceWithoutTheHost(t *testing.T) {
	v := newVM(t)
	v.now = nil
	p := v.policy()
	p.RequireHost = false
	r := VerifyEvidence(must(v.sign().Marshal()), testNonce, p)
	if got := r.Step(StepHostNow); got.Status != Skipped || !r.OK() || r.HostClock != nil {
		t.Errorf("%+v, %v, %v", got, r.Err(), r.HostClock)
	}
	p.RequireHost = true
	wantFailure(t, VerifyEvidence(must(v.sign().Marshal()), testNonce, p), StepHostNow)
}

// What is there is judged, whether it is asked for or not.
func TestWordOfTheHostThatFails(t *testing.T) {
	extra := func(v *vm, nonce []byte, vm string, record [32]byte, ak []byte) {
		sum := HostExtraData(nonce, vm, record, ak)
		v.now.extra = sum[:]
	}
	guest := func(v *vm) []byte { return objectName(v.ak.public()) }
	for name, tt := range map[string]struct {
		step     string
		vm       func(*vm)
		evidence func(*Evidence)
	}{
		"a record in its place": {step: StepHostNowExtra, vm: func(v *vm) {
			sum := BindExtraData(must(v.host.claims.Marshal()))
			v.now.extra = sum[:]
		}},
		"replayed: for another nonce": {step: StepHostNowExtra, vm: func(v *vm) {
			extra(v, bytes.Repeat([]byte{8}, 32), testVM, Digest(v.evidence.Record), guest(v))
		}},
		"for another virtual machine": {step: StepHostNowExtra, vm: func(v *vm) {
			extra(v, testNonce, otherVM, Digest(v.evidence.Record), guest(v))
		}},
		"for another record": {step: StepHostNowExtra, vm: func(v *vm) {
			extra(v, testNonce, testVM, Digest([]byte("the one before")), guest(v))
		}},
		"for another guest's key": {step: StepHostNowExtra, vm: func(v *vm) {
			extra(v, testNonce, testVM, Digest(v.evidence.Record), objectName([]byte("another")))
		}},
		"by another host's key":             {step: StepHostNowSign, vm: func(v *vm) { v.nowKey = eccAK(newECC(elliptic.P256())) }},
		"with a changed signature":          {step: StepHostNowSign, evidence: func(e *Evidence) { e.Host.Signature[10] ^= 1 }},
		"forged magic":                      {step: StepHostNow, vm: func(v *vm) { v.now.magic++ }},
		"a certification":                   {step: StepHostNow, vm: func(v *vm) { v.now.kind = typeCertify }},
		"cut short":                         {step: StepHostNow, evidence: func(e *Evidence) { e.Host.Attest = e.Host.Attest[:60] }},
		"bytes after it":                    {step: StepHostNow, vm: func(v *vm) { v.now.after = []byte{1} }},
		"fewer registers":                   {step: StepHostNowPCRs, vm: func(v *vm) { v.now.selections[0].mask[0] = 0x7f }},
		"values that were not signed":       {step: StepHostNowPCRs, evidence: func(e *Evidence) { e.Host.PCRs[2].Digest = bytes.Repeat([]byte{1}, 32) }},
		"registers that were not measured":  {step: StepHostNowMeasured, vm: func(v *vm) { v.now.pcrs[4].Digest = make([]byte, 32) }},
		"an earlier boot than the record's": {step: StepHostNowClock, vm: func(v *vm) { v.now.clock.ResetCount-- }},
		"earlier in the record's boot":      {step: StepHostNowClock, vm: func(v *vm) { v.now.clock.Millis-- }},
		"a clock value that is no boolean":  {step: StepHostNowClock, vm: func(v *vm) { v.now.safe = 2 }},
		"a record that does not parse":      {step: StepHostNow, evidence: func(e *Evidence) { e.Record = []byte("{}") }},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVM(t)
			if tt.vm != nil {
				tt.vm(v)
			}
			e := v.sign()
			if tt.evidence != nil {
				tt.evidence(&e)
			}
			p := v.policy()
			p.RequireHost = false
			r := VerifyEvidence(must(e.Marshal()), testNonce, p)
			if r.Step(tt.step).Status != Failed || r.OK() {
				t.Errorf("%+v, %v", r.Step(tt.step), r.Err())
			}
		})
	}
}

// A host may have started again since it made the record.
func TestWordOfALaterBoot(t *testing.T) {
	v := newVM(t)
	v.now.clock, v.now.safe = Clock{90, 4, 0}, 0 // it lost its power
	r := VerifyEvidence(must(v.sign().Marshal()), testNonce, v.policy())
	if got := r.Step(StepHostNowClock); !r.OK() || got.Status != Warning || r.HostClock.ResetCount != 4 {
		t.Errorf("%+v, %v", got, r.Err())
	}
}

// The name of the TPM's life is a key that only this life of this TPM has.
func TestLifeThatFails(t *testing.T) {
	for name, change := range map[string]func(*vm){
		"of the endorsement hierarchy": func(v *vm) { v.life.hierarchy = handleEndorsement },
		"for another nonce": func(v *vm) {
			extra := LifeExtraData(bytes.Repeat([]byte{8}, 32))
			v.life.extra = extra[:]
		},
		"a release key's certification": func(v *vm) {
			extra := ReleaseExtraData(testNonce)
			v.life.extra = extra[:]
		},
		"certified by another key":             func(v *vm) { v.life.ak = eccAK(newECC(elliptic.P256())) },
		"another key than the one certified":   func(v *vm) { v.life.name = objectName([]byte("another")) },
		"forged magic":                         func(v *vm) { v.life.magic++ },
		"a quote":                              func(v *vm) { v.life.kind = typeQuote },
		"bytes after it":                       func(v *vm) { v.life.after = []byte{1} },
		"a key that was brought in":            func(v *vm) { v.life.public = without(attrSensitiveDataOrigin) },
		"a key that may leave its TPM":         func(v *vm) { v.life.public = without(attrFixedTPM) },
		"a key that may get another parent":    func(v *vm) { v.life.public = without(attrFixedParent) },
		"a public area with bytes after it":    func(v *vm) { v.life.public = append(v.life.public, 0) },
		"certified by a key of another branch": func(v *vm) { v.life.signer = objectName([]byte("qualified")) },
	} {
		t.Run(name, func(t *testing.T) {
			v := newVM(t)
			change(v)
			r := VerifyEvidence(must(v.sign().Marshal()), testNonce, v.policy())
			wantFailure(t, r, StepGuestLife)
			if r.Life != nil {
				t.Error("there is a life all the same")
			}
		})
	}
	e := newVM(t).sign()
	e.Life = Certification{}
	if _, err := e.Marshal(); err == nil {
		t.Error("evidence without a life")
	}
}

// without is the public area of a key that lacks an attribute.
func without(attribute uint32) []byte {
	spec := eccAK(newECC(elliptic.P256()))
	spec.attributes &^= attribute
	return spec.public()
}

// One message each way, in one encoding.
func TestHostMessages(t *testing.T) {
	request := HostRequest{Version: 1, Nonce: testNonce, AK: objectName([]byte("ak"))}
	line := must(request.Marshal())
	if got, err := ParseHostRequest(line); err != nil || !bytes.Equal(must(got.Marshal()), line) {
		t.Errorf("%v", err)
	}
	for name, bad := range map[string]HostRequest{
		"version":      {Version: 2, Nonce: testNonce, AK: request.AK},
		"short nonce":  {Version: 1, Nonce: testNonce[:15], AK: request.AK},
		"long nonce":   {Version: 1, Nonce: make([]byte, 65), AK: request.AK},
		"short name":   {Version: 1, Nonce: testNonce, AK: request.AK[:33]},
		"name of SHA1": {Version: 1, Nonce: testNonce, AK: append([]byte{0, algSHA1}, request.AK[2:]...)},
	} {
		if _, err := bad.Marshal(); err == nil {
			t.Errorf("%s: encoded", name)
		}
		if _, err := ParseHostRequest(must(marshal(bad, MaxHostRequest))); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	for name, bad := range map[string]HostAnswer{
		"version":                {Version: 2, Problem: ProblemRate},
		"nothing":                {Version: 1},
		"a quote with a problem": {Version: 1, Quote: &HostQuote{}, Problem: ProblemRate},
		"a long problem":         {Version: 1, Problem: Problem(bytes.Repeat([]byte{'x'}, 65))},
		"a long nonce":           {Version: 1, Problem: ProblemRate, Nonce: make([]byte, 65)},
	} {
		if _, err := bad.Marshal(); err == nil {
			t.Errorf("%s: encoded", name)
		}
		if _, err := ParseHostAnswer(must(marshal(bad, MaxHostAnswer))); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	for _, line := range []string{"", "{}", string(line) + " ", string(line) + string(line)} {
		if _, err := ParseHostRequest([]byte(line)); err == nil {
			t.Errorf("%q: parsed", line)
		}
	}
}

func TestRegistersOfTheOperatingSystemMayGoOn(t *testing.T) {
	v := newVM(t)
	v.spec.pcrs[8].Digest = bytes.Repeat([]byte{1}, 32) // register 11
	r := VerifyEvidence(must(v.sign().Marshal()), testNonce, v.policy())
	if got := r.Step(StepGuestLog); got.Status != Warning || !r.OK() {
		t.Errorf("%+v, %v", got, r.Err())
	}
}

func TestEvidenceThatFails(t *testing.T) {
	other := newHost(t)
	tests := []struct {
		name     string
		step     string
		vm       func(*vm)
		evidence func(*Evidence)
		policy   func(*EvidencePolicy)
	}{
		{name: "another nonce", step: StepNonce, evidence: func(e *Evidence) { e.Nonce = bytes.Repeat([]byte{8}, 32) }},
		{name: "replay under a new nonce", step: StepGuestExtra, vm: func(v *vm) {
			sum := GuestExtraData(bytes.Repeat([]byte{8}, 32), Digest(v.evidence.Record))
			v.spec.extra = sum[:]
		}},
		{name: "record of another time", step: StepGuestExtra, vm: func(v *vm) {
			sum := GuestExtraData(testNonce, Digest(v.evidence.Record))
			v.spec.extra = sum[:]
			v.host.claims.Time, v.host.spec.extra = "2026-11-23T11:58:00Z", nil
			v.evidence.Record = must(v.host.sign().Marshal())
		}},
		{name: "record that does not parse", step: PrefixOfRecord + StepRecord, evidence: func(e *Evidence) { e.Record = append(e.Record, ' ') }},
		{name: "record of another virtual machine", step: PrefixOfRecord + StepVM, policy: func(p *EvidencePolicy) { p.Record.VM = "other" }},
		{name: "certificates of another vTPM", step: StepGuestEKs, evidence: func(e *Evidence) { e.EKs[0] = other.vtpmEKs[0].Cert }},
		{name: "certificate missing", step: StepGuestEKs, evidence: func(e *Evidence) { e.EKs = e.EKs[:1] }},
		{name: "certificate twice", step: StepGuestEKs, evidence: func(e *Evidence) { e.EKs[1] = e.EKs[0] }},
		{name: "vTPM authority that is not the host's", step: StepGuestEKCerts, policy: func(p *EvidencePolicy) { p.Record.VTPMRoots = p.Record.AKIssuers }},
		{name: "forged magic", step: StepGuestMagic, vm: func(v *vm) { v.spec.magic++ }},
		{name: "bytes after the attestation", step: StepGuestAttest, vm: func(v *vm) { v.spec.after = []byte{1} }},
		{name: "AK not restricted", step: StepGuestAK, vm: func(v *vm) { v.ak.attributes &^= attrRestricted }},
		{name: "changed signature", step: StepGuestSign, evidence: func(e *Evidence) { e.Signature[10] ^= 1 }},
		{name: "signed by another key", step: StepGuestSign, evidence: func(e *Evidence) { e.AK = eccAK(newECC(elliptic.P256())).public() }},
		{name: "fewer registers", step: StepGuestSelect, vm: func(v *vm) { v.spec.selections[0].mask[1] = 0 }},
		{name: "changed register value", step: StepGuestDigest, evidence: func(e *Evidence) { e.PCRs[2].Digest = bytes.Repeat([]byte{1}, 32) }},
		{name: "register 4 never extended", step: StepGuestMeasured, vm: func(v *vm) { v.spec.pcrs[4].Digest = make([]byte, 32) }},
		{name: "unexpected value", step: StepGuestExpected, policy: func(p *EvidencePolicy) { p.Expected = []PCR{{7, make([]byte, 32)}} }},
		{name: "expected register not quoted", step: StepGuestExpected, policy: func(p *EvidencePolicy) { p.Expected = []PCR{{14, make([]byte, 32)}} }},
		{name: "log missing", step: StepGuestLog, vm: func(v *vm) { v.evidence.EventLog = nil }},
		{name: "log cut short", step: StepGuestLog, vm: func(v *vm) { v.evidence.EventLog = v.evidence.EventLog[:200] }},
		{name: "log with an event too many", step: StepGuestLog, vm: func(v *vm) { v.evidence.EventLog = logEvent(v.evidence.EventLog, 7, 8, nil) }},
		{name: "log with bytes after it", step: StepGuestLog, vm: func(v *vm) { v.evidence.EventLog = append(v.evidence.EventLog, 0) }},
		{name: "clock value that is no boolean", step: StepGuestClock, vm: func(v *vm) { v.spec.safe = 2 }},
		{name: "state rolled back", step: StepGuestClock, policy: func(p *EvidencePolicy) { p.Previous = &Clock{1, 4, 0} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := newVM(t)
			p := v.policy()
			if tt.vm != nil {
				tt.vm(v)
			}
			e := v.sign()
			if tt.evidence != nil {
				tt.evidence(&e)
			}
			if tt.policy != nil {
				tt.policy(&p)
			}
			wantFailure(t, VerifyEvidence(must(e.Marshal()), testNonce, p), tt.step)
		})
	}
}

func TestEvidenceListsEveryStep(t *testing.T) {
	v := newVM(t)
	good := VerifyEvidence(must(v.sign().Marshal()), testNonce, v.policy())
	bad := VerifyEvidence([]byte("{}"), testNonce, v.policy())
	for i, s := range good.Steps {
		if bad.Steps[i].Name != s.Name {
			t.Fatalf("step %d is %q, want %q", i, bad.Steps[i].Name, s.Name)
		}
		if i > 0 && bad.Steps[i].Status != Skipped {
			t.Errorf("%s: %s, want skipped", s.Name, bad.Steps[i].Status)
		}
	}
	if len(good.Steps) != len(bad.Steps) || bad.OK() {
		t.Errorf("%d and %d steps, OK %v", len(good.Steps), len(bad.Steps), bad.OK())
	}
}
