package quote

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRecordsThatVerify(t *testing.T) {
	k := keys()
	for name, ak := range map[string]akSpec{
		"ecdsa": eccAK(k.ak), "rsassa": rsaAK(k.rsaAK, algRSASSA), "rsapss": rsaAK(k.rsaAK, algRSAPSS),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.ak = ak
			h.record.AKCert = issue(h.akCA, k.ca, ak.key.Public(), oidAK, HostURI(h.claims.HostID))
			r := Verify(must(h.sign().Marshal()), h.policy())
			for _, s := range r.Steps {
				if s.Status != Passed {
					t.Errorf("%s: %s (%s)", s.Name, s.Status, s.Detail)
				}
			}
			if !r.OK() || r.Claims.VMUUID != testVM || r.Clock == nil || r.AKCert == nil {
				t.Errorf("result %+v", r)
			}
		})
	}
}

func TestWhatIsOnlyAWarning(t *testing.T) {
	h := newHost(t)
	h.record = Record{Simulated: true}
	h.claims.HostID = HostID(nil, objectName(h.ak.public()))
	p := h.policy()
	p.AllowUnenrolled, p.EKs, p.VTPMRoots = true, nil, nil
	r := Verify(must(h.sign().Marshal()), p)
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	for step, want := range map[string]Status{
		StepEnrolled: Warning, StepHostEK: Warning, StepHostID: Warning, StepSimulated: Warning,
		StepEKs: Skipped, StepEKCerts: Skipped, StepVMAllowed: Skipped, StepSignature: Passed,
	} {
		if got := r.Step(step); got.Status != want || got.Detail == "" && want != Passed {
			t.Errorf("%s: %s (%s), want %s", step, got.Status, got.Detail, want)
		}
	}
	p.AllowUnenrolled = false
	r = Verify(must(h.sign().Marshal()), p)
	for _, step := range []string{StepEnrolled, StepHostEK} {
		if got := r.Step(step); got.Status != Failed {
			t.Errorf("without AllowUnenrolled, %s: %s", step, got.Status)
		}
	}
}

// A host's certificate may name the virtual machines that it may vouch for.
func TestVirtualMachinesOfAHost(t *testing.T) {
	k := keys()
	for name, vms := range map[string][]string{
		"all": nil, "this one": {VMURI(testVM)}, "this one, too": {VMURI(otherVM), VMURI(strings.ToUpper(testVM))}, "names of other kinds": {"urn:x:y"},
	} {
		h := newHost(t)
		h.record.AKCert = issue(h.akCA, k.ca, k.ak.Public(), oidAK, HostURI(h.claims.HostID), vms...)
		if r := Verify(must(h.sign().Marshal()), h.policy()); !r.OK() || r.Step(StepVMAllowed).Status != Passed {
			t.Errorf("%s: %v, %+v", name, r.Err(), r.Step(StepVMAllowed))
		}
	}
}

// Each row changes one thing and names the step that must fail for it.
func TestRecordsThatFail(t *testing.T) {
	k := keys()
	other := newHost(t)
	tests := []struct {
		name   string
		step   string
		host   func(*host)   // before signing
		record func(*Record) // after signing
		policy func(*Policy)
	}{
		{name: "magic that no TPM writes (CVE-2024-29038)", step: StepMagic, host: func(h *host) { h.spec.magic = 0xdeadbeef }},
		{name: "a certification, not a quote", step: StepMagic, host: func(h *host) { h.spec.kind = 0x8017 }},
		{name: "bytes after the attestation", step: StepAttest, host: func(h *host) { h.spec.after = []byte{0} }},
		{name: "attestation cut short", step: StepAttest, record: func(r *Record) { r.Attest = r.Attest[:60] }},
		{name: "bytes after the AK", step: StepAK, host: func(h *host) { h.ak.after = []byte{0} }},
		{name: "bytes after the signature", step: StepSignature, record: func(r *Record) { r.Signature = append(r.Signature, 0) }},
		{name: "AK not fixed to its TPM", step: StepAK, host: func(h *host) { h.ak.attributes &^= attrFixedTPM }},
		{name: "AK not fixed to its parent", step: StepAK, host: func(h *host) { h.ak.attributes &^= attrFixedParent }},
		{name: "AK not restricted", step: StepAK, host: func(h *host) { h.ak.attributes &^= attrRestricted }},
		{name: "AK that cannot sign", step: StepAK, host: func(h *host) { h.ak.attributes &^= attrSign }},
		{name: "AK that decrypts", step: StepAK, host: func(h *host) { h.ak.attributes |= attrDecrypt }},
		{name: "AK that was brought in", step: StepAK, host: func(h *host) { h.ak.attributes &^= attrSensitiveDataOrigin }},
		{name: "AK with a SHA-1 scheme", step: StepAK, host: func(h *host) { h.ak.hash = algSHA1 }},
		{name: "AK without a scheme", step: StepAK, host: func(h *host) { h.ak.scheme = algNull }},
		{name: "AK named by SHA-1", step: StepAK, host: func(h *host) { h.ak.nameAlg = algSHA1 }},
		{name: "ECC AK on a curve that is not known", step: StepAK, host: func(h *host) { h.ak.curve = 0x10 }},
		{name: "ECC AK that is not on its curve", step: StepAK, record: func(r *Record) { r.AK[len(r.AK)-1] ^= 1 }},
		{name: "RSA AK with exponent 1", step: StepAK, host: func(h *host) { h.ak = rsaAK(k.rsaAK, algRSASSA); h.ak.exponent = 1 }},
		{name: "RSA AK with exponent 3", step: StepAK, host: func(h *host) { h.ak = rsaAK(k.rsaAK, algRSASSA); h.ak.exponent = 3 }},
		{name: "RSA AK of 1024 bits", step: StepAK, record: func(r *Record) { r.AK = rsa1024AK() }},
		{name: "AK that is not enrolled", step: StepEnrolled, host: func(h *host) { h.record.AKCert = nil }},
		{name: "AK certificate of another key", step: StepEnrolled, host: func(h *host) { h.ak = eccAK(newECC(elliptic.P256())) }},
		{name: "AK certificate for another purpose", step: StepEnrolled, host: func(h *host) { h.record.AKCert = issue(h.akCA, k.ca, k.ak.Public(), oidEK, "urn:x:y") }},
		{name: "AK certificate with bytes after it", step: StepEnrolled, host: func(h *host) { h.record.AKCert = append(h.record.AKCert, 0) }},
		{name: "AK certificate by an authority of the same name", step: StepEnrolled, policy: func(p *Policy) {
			p.AKIssuers = []*x509.Certificate{newCA("attestation CA", newECC(elliptic.P256()))}
		}},
		{name: "no AK authority trusted", step: StepEnrolled, policy: func(p *Policy) { p.AKIssuers = nil }},
		{name: "AK certificate that has expired", step: StepEnrolled, policy: func(p *Policy) { p.Now = testNow.AddDate(2, 0, 0) }},
		{name: "no time to judge certificates at", step: StepEnrolled, policy: func(p *Policy) { p.Now = time.Time{} }},
		{name: "a bad AK certificate even where none is needed", step: StepEnrolled, policy: func(p *Policy) { p.AllowUnenrolled, p.AKIssuers = true, nil }},
		{name: "changed signature", step: StepSignature, record: func(r *Record) { r.Signature[20] ^= 1 }},
		{name: "signature of r = 0", step: StepSignature, record: func(r *Record) { clear(r.Signature[6:38]) }},
		{name: "signature of s = 0", step: StepSignature, record: func(r *Record) { clear(r.Signature[40:72]) }},
		{name: "signature of r over the order", step: StepSignature, record: func(r *Record) { copy(r.Signature[6:38], bytes.Repeat([]byte{0xff}, 32)) }},
		{name: "signature of another algorithm", step: StepSignature, record: func(r *Record) { r.Signature[1] = algRSASSA }},
		{name: "signature with SHA-1", step: StepSignature, record: func(r *Record) { r.Signature[3] = algSHA1 }},
		{name: "HMAC for a signature", step: StepSignature, record: func(r *Record) { r.Signature = []byte{0, 5, 0, 0xb} }},
		{name: "no signature", step: StepSignature, record: func(r *Record) { r.Signature = nil }},
		{name: "changed attestation", step: StepSignature, record: func(r *Record) { r.Attest[50] ^= 1 }},
		{name: "changed claims", step: StepExtraData, record: func(r *Record) { r.Claims = bytes.Replace(r.Claims, []byte("11:59"), []byte("11:58"), 1) }},
		{name: "quote for another purpose", step: StepExtraData, host: func(h *host) { h.spec.extra = make([]byte, 32) }},
		{name: "quote for nothing", step: StepExtraData, host: func(h *host) { h.spec.extra = []byte{} }},
		{name: "fewer registers signed", step: StepSelection, host: func(h *host) { h.spec.selections[0].mask[0] = 0x7f }},
		{name: "other registers signed (CVE-2024-29039)", step: StepSelection, host: func(h *host) { h.spec.selections[0].mask = []byte{0, 0, 0xff} }},
		{name: "resettable register beside them", step: StepSelection, host: func(h *host) { h.spec.selections[0].mask[2] = 1 }},
		{name: "SHA-1 bank", step: StepSelection, host: func(h *host) { h.spec.selections[0].hash = algSHA1 }},
		{name: "two banks", step: StepSelection, host: func(h *host) { h.spec.selections = append(h.spec.selections, h.spec.selections[0]) }},
		{name: "no bank", step: StepSelection, host: func(h *host) { h.spec.selections = nil }},
		{name: "changed register value", step: StepDigest, record: func(r *Record) { r.PCRs[3].Digest = bytes.Clone(r.PCRs[4].Digest) }},
		{name: "register values in another order", step: StepDigest, record: func(r *Record) { slices.Reverse(r.PCRs) }},
		{name: "register value missing", step: StepDigest, record: func(r *Record) { r.PCRs = r.PCRs[:7] }},
		{name: "register value too many (CVE-2022-0317)", step: StepDigest, record: func(r *Record) { r.PCRs = append(r.PCRs, PCR{8, make([]byte, 32)}) }},
		{name: "register boundaries moved", step: StepDigest, record: func(r *Record) {
			r.PCRs[0].Digest, r.PCRs[1].Digest = append(bytes.Clone(r.PCRs[0].Digest), r.PCRs[1].Digest...), nil
		}},
		{name: "changed digest", step: StepDigest, host: func(h *host) { h.spec.digest = make([]byte, 32) }},
		{name: "register 0 all zero", step: StepMeasured, host: func(h *host) { h.spec.pcrs[0].Digest = make([]byte, 32) }},
		{name: "register 7 all ones", step: StepMeasured, host: func(h *host) { h.spec.pcrs[7].Digest = bytes.Repeat([]byte{0xff}, 32) }},
		{name: "clock value that is no boolean", step: StepClock, host: func(h *host) { h.spec.safe = 2 }},
		{name: "record older than the one before", step: StepClock, policy: func(p *Policy) { p.Previous = &Clock{5001, 3, 1} }},
		{name: "record of an earlier boot", step: StepClock, policy: func(p *Policy) { p.Previous = &Clock{10, 4, 0} }},
		{name: "claims that do not parse", step: StepClaims, host: func(h *host) { h.claims.Serial = "00" }},
		{name: "another virtual machine", step: StepVM, policy: func(p *Policy) { p.VM = "00000000-0000-0000-0000-000000000000" }},
		{name: "no virtual machine in the policy", step: StepVM, policy: func(p *Policy) { p.VM = "" }},
		{name: "AK certificate for another virtual machine", step: StepVMAllowed, host: func(h *host) {
			h.record.AKCert = issue(h.akCA, k.ca, k.ak.Public(), oidAK, HostURI(h.claims.HostID), VMURI(otherVM))
		}},
		{name: "AK certificate for no virtual machine that there is", step: StepVMAllowed, host: func(h *host) {
			h.record.AKCert = issue(h.akCA, k.ca, k.ak.Public(), oidAK, HostURI(h.claims.HostID), "URN:UUID:none")
		}},
		{name: "another vTPM certificate", step: StepEKs, policy: func(p *Policy) { p.EKs[0].Cert = other.vtpmEKs[0].Cert }},
		{name: "another vTPM key", step: StepEKs, policy: func(p *Policy) { p.EKs[0].Name = objectName([]byte("x")) }},
		{name: "vTPM key missing", step: StepEKs, policy: func(p *Policy) { p.EKs = p.EKs[:1] }},
		{name: "vTPM key twice", step: StepEKs, policy: func(p *Policy) { p.EKs = []EK{p.EKs[0], p.EKs[0], p.EKs[1]} }},
		{name: "vTPM with no keys", step: StepEKs, policy: func(p *Policy) { p.EKs = []EK{} }},
		{name: "vTPM certificates of another authority", step: StepEKCerts, policy: func(p *Policy) { p.VTPMRoots = []*x509.Certificate{other.akCA} }},
		{name: "no host EK certificate", step: StepHostEK, host: func(h *host) { h.record.EKChain = nil }},
		{name: "host EK of an unknown vendor", step: StepHostEK, policy: func(p *Policy) { p.Trust = []*x509.Certificate{newCA("vendor", newECC(elliptic.P256()))} }},
		{name: "host EK of an unknown vendor, unenrolled", step: StepHostEK, policy: func(p *Policy) { p.Trust, p.AllowUnenrolled = nil, true }},
		{name: "host EK certificate for another purpose", step: StepHostEK, host: func(h *host) { h.record.EKChain[0] = issue(h.vendorCA, k.ca, k.ek.Public(), oidAK, "") }},
		{name: "host EK certificate that is no certificate", step: StepHostEK, host: func(h *host) { h.record.EKChain[0] = []byte{0x30, 0} }},
		{name: "someone else's EK certificate", step: StepHostID, host: func(h *host) { h.record.EKChain[0] = issue(h.vendorCA, k.ca, k.rsaAK.Public(), oidEK, "") }},
		{name: "claims that name another AK", step: StepHostID, host: func(h *host) { h.claims.HostID = HostID(nil, objectName([]byte("x"))) }},
		{name: "AK certificate for another host", step: StepHostID, host: func(h *host) { h.record.AKCert = issue(h.akCA, k.ca, k.ak.Public(), oidAK, HostURI("000b00")) }},
		{name: "policy with a resettable register", step: StepPolicy, policy: func(p *Policy) { p.PCRs = []int{0, 16} }},
		{name: "policy with no registers", step: StepPolicy, policy: func(p *Policy) { p.PCRs = []int{} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			p := h.policy()
			if tt.host != nil {
				tt.host(h)
			}
			r := h.sign()
			if tt.record != nil {
				tt.record(&r)
			}
			if tt.policy != nil {
				tt.policy(&p)
			}
			wantFailure(t, Verify(must(r.Marshal()), p), tt.step)
		})
	}
}

// wantFailure insists that step is the first that failed and that all steps are
// listed.
func wantFailure(t *testing.T, r Result, step string) {
	t.Helper()
	for _, s := range r.Steps {
		if s.Status == Failed {
			if s.Name != step || s.Detail == "" {
				t.Errorf("failed first: %s (%s), want %s", s.Name, s.Detail, step)
			}
			if r.OK() || r.Err() == nil {
				t.Error("a result with a failed step is OK")
			}
			return
		}
	}
	t.Errorf("nothing failed, want %s to: %+v", step, r.Steps)
}

// A host that lost its power is believed, and the reader told.
func TestClockThatIsNotSafe(t *testing.T) {
	h := newHost(t)
	h.spec.safe = 0
	if r := Verify(must(h.sign().Marshal()), h.policy()); !r.OK() || r.Step(StepClock).Status != Warning {
		t.Errorf("%v, %+v", r.Err(), r.Step(StepClock))
	}
}

// A selection means its registers, whatever number of bytes it has.
func TestSelectionSizes(t *testing.T) {
	for name, tt := range map[string]struct {
		mask []byte
		ok   bool
	}{
		"one byte":                 {[]byte{0xff}, true},
		"three bytes":              {[]byte{0xff, 0, 0}, true},
		"four bytes":               {[]byte{0xff, 0, 0, 0}, true},
		"register 24":              {[]byte{0xff, 0, 0, 1}, false},
		"a byte earlier":           {[]byte{0, 0xff}, false},
		"nothing":                  {nil, false},
		"bits in the other order":  {[]byte{0x7f, 0x80, 0}, false},
		"the last register is not": {[]byte{0x7f, 0, 0}, false},
	} {
		h := newHost(t)
		h.spec.selections[0].mask = tt.mask
		r := Verify(must(h.sign().Marshal()), h.policy())
		if tt.ok && !r.OK() {
			t.Errorf("%s: %v", name, r.Err())
		}
		if !tt.ok {
			wantFailure(t, r, StepSelection)
		}
	}
}
