package quote

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The checks in this file stand behind others that refuse most of the same, so
// they are asked alone, and looked for by what they say.

// says insists that an error is there and about the thing.
func says(t *testing.T, name string, err error, what string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), what) {
		t.Errorf("%s: %v, want %q", name, err, what)
	}
}

func TestCheckAKCert(t *testing.T) {
	k := keys()
	ca, ak := newCA("attestation CA", k.ca), eccAK(k.ak).public()
	good := issue(ca, k.ca, k.ak.Public(), oidAK, HostURI("host"))
	cert := must(x509.ParseCertificate(good))
	for name, tt := range map[string]struct {
		host string
		at   time.Time
		want string
	}{
		"good":          {"host", testNow, ""},
		"another host":  {"other", testNow, "does not name"},
		"not yet valid": {"host", cert.NotBefore.Add(-time.Second), "is valid from"},
		"over":          {"host", cert.NotAfter.Add(time.Second), "is valid from"},
	} {
		for _, issuers := range [][]*x509.Certificate{nil, {ca}} {
			err := CheckAKCert(good, ak, tt.host, issuers, tt.at)
			if tt.want == "" && err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if tt.want != "" {
				says(t, name, err, tt.want)
			}
		}
	}
}

// A certificate is for what its key's usage says, where it says something.
func TestKeyUsageOfCertificates(t *testing.T) {
	k := keys()
	ca := newCA("authority", k.ca)
	for name, tt := range map[string]struct {
		purpose asn1.ObjectIdentifier
		usage   x509.KeyUsage
		ok      bool
	}{
		"an AK that signs":              {oidAK, x509.KeyUsageDigitalSignature, true},
		"an AK of no usage":             {oidAK, 0, true},
		"an AK that encrypts":           {oidAK, x509.KeyUsageKeyEncipherment, false},
		"an AK that signs certificates": {oidAK, x509.KeyUsageCertSign, false},
		"an EK that decrypts":           {oidEK, x509.KeyUsageKeyEncipherment, true},
		"an EK that agrees":             {oidEK, x509.KeyUsageKeyAgreement, true},
		"an EK of no usage":             {oidEK, 0, true},
		"an EK that signs":              {oidEK, x509.KeyUsageDigitalSignature, false},
		"an EK that signs lists":        {oidEK, x509.KeyUsageCRLSign, false},
	} {
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(2), NotBefore: testNow.AddDate(0, 0, -1), NotAfter: testNow.AddDate(1, 0, 0),
			UnknownExtKeyUsage: []asn1.ObjectIdentifier{tt.purpose}, KeyUsage: tt.usage, URIs: []*url.URL{{Scheme: "urn", Opaque: "x:y"}},
		}
		leaf := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, ca, k.ak.Public(), k.ca))))
		_, err := verifyChain(leaf, nil, []*x509.Certificate{ca}, tt.purpose, testNow)
		if tt.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !tt.ok {
			says(t, name, err, "key usage")
		}
	}
}

// An authority's certificate is nobody's key, whatever purposes it lists.
func TestAuthorityForAKey(t *testing.T) {
	k := keys()
	ca := newCA("authority", k.ca)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: testNow.AddDate(0, 0, -1), NotAfter: testNow.AddDate(1, 0, 0),
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidAK}, IsCA: true, BasicConstraintsValid: true,
	}
	leaf := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, ca, k.ak.Public(), k.ca))))
	_, err := verifyChain(leaf, nil, []*x509.Certificate{ca}, oidAK, testNow)
	says(t, "an authority", err, "an authority's")
}

// The name that Go does not handle is taken when it is exactly what TPMs have.
func TestSubjectAlternativeNames(t *testing.T) {
	name := must(asn1.Marshal(pkix.Name{CommonName: "id:00001014"}.ToRDNSequence()))
	directory := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}
	other := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 8, Bytes: []byte{1}}
	for what, tt := range map[string]struct {
		value []byte
		want  string
	}{
		"a directory name":           {must(asn1.Marshal([]asn1.RawValue{directory})), ""},
		"one among others":           {must(asn1.Marshal([]asn1.RawValue{other, directory})), ""},
		"none":                       {must(asn1.Marshal([]asn1.RawValue{other})), "no directory name"},
		"nothing":                    {must(asn1.Marshal([]asn1.RawValue{})), "no directory name"},
		"a name that is no sequence": {name[:3], "malformed"},
		"bytes after it":             {append(must(asn1.Marshal([]asn1.RawValue{directory})), 0), "malformed"},
	} {
		err := checkSAN(tt.value)
		if tt.want == "" && err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if tt.want != "" {
			says(t, what, err, tt.want)
		}
	}
}

func TestLengthsOfCertificates(t *testing.T) {
	_, err := parseCert(make([]byte, maxCert+1))
	says(t, "a certificate", err, "over the limit")
	_, err = parseChain(make([][]byte, 9))
	says(t, "a chain", err, "a chain of 9")
}

func TestLengthsOfNonces(t *testing.T) {
	key := newECC(elliptic.P256())
	c := newCertify(&key.PublicKey)
	for _, n := range []int{0, MinNonce - 1, MaxNonce + 1} {
		_, err := VerifyCertify(c.sign(), c.ak.public(), make([]byte, n), testReleasePolicy())
		says(t, "a nonce", err, "a nonce of")
		e := newVM(t).sign()
		e.Nonce = make([]byte, n)
		_, err = e.Marshal()
		says(t, "evidence", err, "a nonce of")
		_, err = ParseEvidence(must(marshal(e, MaxEvidence)))
		says(t, "evidence", err, "a nonce of")
	}
	for _, n := range []int{0, 31, 33} {
		_, err := VerifyCertify(c.sign(), c.ak.public(), testNonce, make([]byte, n))
		says(t, "a policy", err, "a policy of")
	}
}

func TestShapeOfEvidence(t *testing.T) {
	for want, change := range map[string]func(*Evidence){
		"version 2, want 1":                 func(e *Evidence) { e.Version = 2 },
		"0 endorsement key certificates":    func(e *Evidence) { e.EKs = nil },
		"3 endorsement key certificates":    func(e *Evidence) { e.EKs = [][]byte{{1}, {2}, {3}} },
		"no record":                         func(e *Evidence) { e.Record = nil },
		"nothing about the life of the TPM": func(e *Evidence) { e.Life.Public = nil },
	} {
		e := newVM(t).sign()
		change(&e)
		_, err := ParseEvidence(must(marshal(e, MaxEvidence)))
		says(t, "evidence", err, want)
	}
	for name, parse := range map[string]func([]byte) error{
		"evidence": func(b []byte) error { _, err := ParseEvidence(b); return err },
		"record":   func(b []byte) error { _, err := ParseRecord(b); return err },
		"claims":   func(b []byte) error { _, err := ParseClaims(b); return err },
	} {
		long := map[string]int{"evidence": MaxEvidence, "record": MaxRecord, "claims": MaxClaims}[name]
		says(t, name, parse(append([]byte(`{"`), make([]byte, long)...)), "over the limit")
	}
	r := newHost(t).sign()
	r.AK = make([]byte, MaxRecord)
	_, err := r.Marshal()
	says(t, "a record", err, "over the limit")
}

func TestShapeOfClaims(t *testing.T) {
	for want, change := range map[string]func(*Claims){
		"0 endorsement keys": func(c *Claims) { c.EKs = nil },
		"3 endorsement keys": func(c *Claims) { c.EKs = append(c.EKs, c.EKs[0]) },
		"is not a UUID":      func(c *Claims) { c.VMUUID = strings.ReplaceAll(c.VMUUID, "-", "a") },
		"lineage":            func(c *Claims) { c.Lineage = "" },
	} {
		c := newHost(t).claims
		change(&c)
		_, err := c.Marshal()
		says(t, "claims", err, want)
	}
	for _, uuid := range []string{"", testVM[:35], testVM + "0"} {
		if isUUID(uuid) {
			t.Errorf("%q is a UUID", uuid)
		}
	}
}

// A record of the future would be young for as long as its host likes.
func TestRecordOfTheFuture(t *testing.T) {
	for ahead, ok := range map[time.Duration]bool{0: true, MaxSkew: true, MaxSkew + time.Second: false, 24 * time.Hour: false} {
		h := newHost(t)
		h.claims.Time = testNow.Add(ahead).UTC().Format(time.RFC3339)
		r := Verify(must(h.sign().Marshal()), h.policy())
		if r.OK() != ok {
			t.Errorf("%s ahead: %v", ahead, r.Err())
		}
		if !ok {
			wantFailure(t, r, StepTime)
		}
	}
}

func TestExpectedRegisterThatWasNotQuoted(t *testing.T) {
	v := newVM(t)
	p := v.policy()
	p.Expected = []PCR{{14, make([]byte, 32)}}
	r := VerifyEvidence(must(v.sign().Marshal()), testNonce, p)
	if s := r.Step(StepGuestExpected); !strings.Contains(s.Detail, "was not quoted") {
		t.Errorf("%+v", s)
	}
}

// Values that bear another register's number are not that register's.
func TestRegistersUnderOtherNumbers(t *testing.T) {
	h := newHost(t)
	r := h.sign()
	r.PCRs = append([]PCR{}, r.PCRs...)
	r.PCRs[2].Index, r.PCRs[3].Index = 3, 2
	result := Verify(must(r.Marshal()), h.policy())
	wantFailure(t, result, StepDigest)
	if s := result.Step(StepDigest); !strings.Contains(s.Detail, "the value of register 3 where that of 2 belongs") {
		t.Errorf("%+v", s)
	}
}

func TestLogsThatAreTooMuch(t *testing.T) {
	_, err := ParseLog(make([]byte, MaxLog+1))
	says(t, "a log", err, "over the limit")
	many := logHeader()
	for range maxEvents + 1 {
		many = logEvent(many, 0, 8, nil)
	}
	_, err = ParseLog(many)
	says(t, "events", err, "more than")
	log := logEvent(logHeader(), 0, 8, nil)
	binary.LittleEndian.PutUint32(log[len(log)-4:], maxEventData+1)
	_, err = ParseLog(append(log, make([]byte, maxEventData+1)...))
	says(t, "an event", err, "bytes of data")
}

// A bank listed twice could have one register replayed by two digests.
func TestBanksOfALog(t *testing.T) {
	header := func(banks ...[2]byte) []byte { // algorithm and size
		spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, byte(len(banks)), 0, 0, 0)
		for _, b := range banks {
			spec = append(spec, b[0], 0, b[1], 0)
		}
		spec = append(spec, 0)
		b := append([]byte{0, 0, 0, 0, eventNoAction, 0, 0, 0}, make([]byte, 20)...)
		return append(binary.LittleEndian.AppendUint32(b, uint32(len(spec))), spec...)
	}
	sha256 := [2]byte{algSHA256, 32}
	if _, err := ParseLog(header(sha256)); err != nil {
		t.Error(err)
	}
	for want, banks := range map[string][][2]byte{
		"is listed twice":  {sha256, sha256},
		"has 0 bytes":      {sha256, {algSHA1, 0}},
		"has 65 bytes":     {sha256, {algSHA1, 65}},
		"0 banks":          nil,
		"9 banks":          {sha256, {1, 1}, {2, 1}, {3, 1}, {5, 1}, {6, 1}, {7, 1}, {8, 1}, {9, 1}},
		"no SHA-256 bank":  {{algSHA1, 20}},
		"no SHA-256 bank ": {{algSHA256, 20}},
	} {
		_, err := ParseLog(header(banks...))
		says(t, want, err, strings.TrimSpace(want))
	}
}

// Keys whose parts do not fit each other.
func TestKeysThatDoNotFit(t *testing.T) {
	k := keys()
	short := rsaAK(k.rsaAK, algRSASSA).public()
	i := bytes.Index(short, k.rsaAK.N.Bytes()) - 8 // the number of bits
	binary.BigEndian.PutUint16(short[i:], 1024)
	_, err := parsePublic(short)
	says(t, "fewer bits", err, "in a key of 1024")

	for name, spec := range map[string]akSpec{
		"an RSA key":  func() akSpec { s := rsaAK(k.rsaAK, algRSASSA); s.scheme = algECDSA; return s }(),
		"an ECC key":  func() akSpec { s := eccAK(k.ak); s.scheme = algRSASSA; return s }(),
		"an ECC key ": func() akSpec { s := eccAK(k.ak); s.scheme = algECDH; return s }(),
	} {
		p, err := parsePublic(spec.public())
		if err != nil {
			t.Fatal(err)
		}
		says(t, name, p.checkAK(), "signing scheme")
	}
	big3072 := must(rsa.GenerateKey(rand.Reader, 3072))
	_, err = EKName(big3072.Public())
	says(t, "an EK of 3072 bits", err, "no standard template")
	odd := rsa.PublicKey{N: k.rsaAK.N, E: 3}
	_, err = EKName(&odd)
	says(t, "an EK of exponent 3", err, "no standard template")
}

// The key says how it signs, and the signature has no say in it.
func TestSignaturesOfAnotherScheme(t *testing.T) {
	k := keys()
	message := []byte("message")
	ecc := must(parsePublic(eccAK(k.ak).public()))
	good := eccAK(k.ak).sign(message)
	if err := verifySignature(ecc, good, message); err != nil {
		t.Fatal(err)
	}
	says(t, "another hash", verifySignature(ecc, append([]byte{0, algECDSA, 0, algSHA384}, good[4:]...), message), "signed by scheme")
	pss := must(parsePublic(rsaAK(k.rsaAK, algRSAPSS).public()))
	says(t, "another padding", verifySignature(pss, rsaAK(k.rsaAK, algRSASSA).sign(message), message), "signed by scheme")

	weak := ecc
	weak.hash = algSHA1
	says(t, "SHA-1", verifySignature(weak, append([]byte{0, algECDSA, 0, algSHA1}, good[4:]...), message), "SHA-256 or longer")
	confused := ecc
	confused.scheme = algRSASSA
	says(t, "RSA's scheme", verifySignature(confused, append([]byte{0, algRSASSA, 0, algSHA256}, sized(nil, make([]byte, 256))...), message), "with an ECC key")
}

func TestSelectionsOfAQuote(t *testing.T) {
	s := newSpec(DefaultPCRs())
	s.extra = make([]byte, 32)
	for range 16 {
		s.selections = append(s.selections, selection{algSHA1, nil})
	}
	_, err := parseAttest(s.bytes(), typeQuote)
	says(t, "17 banks", err, "17 PCR selections")
}

// Of two states of one TPM the later one is after the other, by whatever counts.
func TestClockAfter(t *testing.T) {
	at := Clock{Millis: 1000, ResetCount: 5, RestartCount: 3}
	for name, tt := range map[string]struct {
		clock Clock
		want  bool
	}{
		"the same":                         {at, true},
		"later":                            {Clock{1001, 5, 3}, true},
		"earlier":                          {Clock{999, 5, 3}, false},
		"restarted":                        {Clock{1000, 5, 4}, true},
		"restarted, and the clock is back": {Clock{999, 5, 4}, false},
		"fewer restarts":                   {Clock{2000, 5, 2}, false},
		"reset":                            {Clock{1000, 6, 0}, true},
		"reset, and the clock is back":     {Clock{999, 6, 0}, false},
		"fewer resets":                     {Clock{2000, 4, 9}, false},
	} {
		if got := tt.clock.After(at); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What a server remembers of a host is judged as its record was.
func TestHostCerts(t *testing.T) {
	h := newHost(t)
	r, p := h.sign(), h.policy()
	certs := must(ParseHostCerts(r.AKCert, r.EKChain))
	if err := certs.Check(p); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Policy){
		StepEnrolled:            func(p *Policy) { p.AKIssuers = nil },
		StepHostEK:              func(p *Policy) { p.Trust = nil },
		"expired":               func(p *Policy) { p.Now = testNow.AddDate(2, 0, 0) },
		"no time":               func(p *Policy) { p.Now = time.Time{} },
		"trusts no root":        func(p *Policy) { p.Trust = nil },
		StepEnrolled + ": x509": func(p *Policy) { p.AKIssuers = p.Trust },
	} {
		other := p
		change(&other)
		says(t, want, certs.Check(other), want)
	}
	if _, err := ParseHostCerts(nil, r.EKChain); err == nil {
		t.Error("no AK certificate")
	}
	if _, err := ParseHostCerts(r.AKCert, nil); err == nil {
		t.Error("no EK certificate")
	}
}
