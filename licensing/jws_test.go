package licensing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDocumentsRoundTrip(t *testing.T) {
	s := newSample(t, Terms{Type: TimeLimit, Days: 30})
	roundTrip(t, s.master, s.isv)
	roundTrip(t, s.config, s.isv)
	roundTrip(t, s.tcb, s.isv)
	roundTrip(t, s.licence, s.isv)
}

func roundTrip[D Document](t *testing.T, d D, p party) {
	t.Helper()
	file := mustSign(t, d, p)
	got, err := Verify[D](file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, got.Document); diff != "" {
		t.Errorf("%s changed (-signed +verified):\n%s", d.Kind(), diff)
	}
	if err := got.SignedBy(p.cert); err != nil {
		t.Error(err)
	}
	if kind, err := KindOf(file); err != nil || kind != d.Kind() {
		t.Errorf("KindOf: %q, %v", kind, err)
	}
}

// parts is a document's file taken apart.
type parts struct {
	payload, protected, signature []byte
}

func takeApart(t testing.TB, file []byte) parts {
	t.Helper()
	var env envelope
	if err := json.Unmarshal(file, &env); err != nil {
		t.Fatal(err)
	}
	var p parts
	for _, f := range []struct {
		to   *[]byte
		from string
	}{{&p.payload, env.Payload}, {&p.protected, env.Protected}, {&p.signature, env.Signature}} {
		b, err := base64.RawURLEncoding.DecodeString(f.from)
		if err != nil {
			t.Fatal(err)
		}
		*f.to = b
	}
	return p
}

func (p parts) join(t testing.TB) []byte {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	out, err := marshal(envelope{b64(p.payload), b64(p.protected), b64(p.signature)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// resign signs what was changed, as the holder of the key could.
func (p parts) resign(t testing.TB, by party) parts {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	sum := sha512.Sum384([]byte(b64(p.protected) + "." + b64(p.payload)))
	r, s, err := signRaw(by, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	p.signature = append(r, s...)
	return p
}

func replace(b []byte, old, new string) []byte {
	if !bytes.Contains(b, []byte(old)) {
		panic("nothing to replace: " + old)
	}
	return bytes.Replace(b, []byte(old), []byte(new), 1)
}

// TestForgedLicences is W19, W21 and W23 of the original: whatever is done to a
// licence without the ISV's key, nobody takes it for the ISV's.
func TestForgedLicences(t *testing.T) {
	s := newSample(t, Terms{Type: InstanceLimit, Instances: 2})
	file := mustSign(t, s.licence, s.isv)
	p := takeApart(t, file)
	x5c := func(of party) string { return base64.StdEncoding.EncodeToString(of.cert.Raw) }

	tests := map[string]struct {
		forge func() []byte
		want  error
	}{
		"flipped signature": {func() []byte {
			f := p
			f.signature = bytes.Clone(p.signature)
			f.signature[5] ^= 1
			return f.join(t)
		}, ErrSignature},
		"short signature": {func() []byte { f := p; f.signature = p.signature[:95]; return f.join(t) }, ErrSignature},
		"zero signature":  {func() []byte { f := p; f.signature = make([]byte, 96); return f.join(t) }, ErrSignature},
		"no signature":    {func() []byte { f := p; f.signature = nil; return f.join(t) }, nil},
		"rewritten count": {func() []byte {
			f := p
			f.payload = replace(p.payload, `"instances":2`, `"instances":9`)
			return f.join(t)
		}, ErrSignature},
		"rewritten type": {func() []byte {
			f := p
			f.payload = replace(p.payload, `{"type":"InstanceLimit","instances":2}`, `{"type":"Sale"}`)
			return f.join(t)
		}, ErrSignature},
		"rewritten server": {func() []byte {
			f := p
			f.payload = replace(p.payload, "192.168.122.10:4452", "192.168.122.66:4452")
			return f.join(t)
		}, ErrSignature},
		"algorithm none": {func() []byte {
			f := p
			f.protected = replace(p.protected, "ES384", "none")
			f.signature = nil
			return f.join(t)
		}, ErrFormat},
		"algorithm HS256 with the certificate as its key": {func() []byte {
			f := p
			f.protected = replace(p.protected, "ES384", "HS256")
			b64 := base64.RawURLEncoding.EncodeToString
			mac := hmac.New(sha256.New, s.isv.cert.Raw)
			mac.Write([]byte(b64(f.protected) + "." + b64(f.payload)))
			f.signature = mac.Sum(nil)
			return f.join(t)
		}, ErrFormat},
		"algorithm ES256": {func() []byte {
			f := p
			f.protected = replace(p.protected, "ES384", "ES256")
			return f.join(t)
		}, ErrFormat},
		"another certificate over the ISV's signature": {func() []byte {
			f := p
			f.protected = replace(p.protected, x5c(s.isv), x5c(s.customer))
			return f.join(t)
		}, ErrSignature},
		"embedded key": {func() []byte {
			f := p
			f.protected = replace(p.protected, `{"alg"`, `{"jwk":{"kty":"EC"},"alg"`)
			return f.resign(t, s.isv).join(t)
		}, ErrFormat},
		"two algorithms": {func() []byte {
			f := p
			f.protected = replace(p.protected, `{"alg":"ES384"`, `{"alg":"none","alg":"ES384"`)
			return f.resign(t, s.isv).join(t)
		}, ErrFormat},
		"an unprotected header": {func() []byte { return replace(file, `{"payload"`, `{"header":{"alg":"none"},"payload"`) }, ErrFormat},
		"two payloads":          {func() []byte { return replace(file, `{"payload"`, `{"payload":"e30","payload"`) }, ErrFormat},
		"bytes behind it":       {func() []byte { return append(bytes.Clone(file), "{}"...) }, ErrFormat},
		"too large":             {func() []byte { return bytes.Repeat([]byte{' '}, MaxDocument+2) }, ErrFormat},
	}
	for name, tt := range tests {
		_, err := Verify[Licence](tt.forge())
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// TestOtherSigner is W22: a good document by someone else is not the ISV's.
func TestOtherSigner(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	got, err := Verify[LicenceConfig](mustSign(t, s.config, s.customer))
	if err != nil {
		t.Fatal(err)
	}
	if err := got.SignedBy(s.isv.cert); !errors.Is(err, ErrSigner) {
		t.Errorf("SignedBy: %v, want ErrSigner", err)
	}
}

// TestKindsDoNotPassForEachOther is W23: one key signs them all, so each says what
// it is, in the header and in the payload.
func TestKindsDoNotPassForEachOther(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	files := map[Kind][]byte{
		KindMasterLicence: mustSign(t, s.master, s.isv),
		KindConfig:        mustSign(t, s.config, s.isv),
		KindTCB:           mustSign(t, s.tcb, s.isv),
		KindLicence:       mustSign(t, s.licence, s.isv),
	}
	verify := map[Kind]func([]byte) error{
		KindMasterLicence: errOf[MasterLicence],
		KindConfig:        errOf[LicenceConfig],
		KindTCB:           errOf[TCB],
		KindLicence:       errOf[Licence],
	}
	for is, file := range files {
		for as, verify := range verify {
			err := verify(file)
			if is == as && err != nil || is != as && !errors.Is(err, ErrKind) {
				t.Errorf("%s as %s: %v", is, as, err)
			}
		}
	}
	// Even signed again by the ISV with the other kind in the header alone.
	p := takeApart(t, files[KindTCB])
	p.protected = replace(p.protected, string(KindTCB), string(KindConfig))
	if err := verify[KindConfig](p.resign(t, s.isv).join(t)); !errors.Is(err, ErrFormat) {
		t.Errorf("header of another kind: %v, want ErrFormat", err)
	}
}

func errOf[D Document](file []byte) error {
	_, err := Verify[D](file)
	return err
}

// TestOneEncoding: even the ISV's own signature does not make another spelling of
// a document acceptable.
func TestOneEncoding(t *testing.T) {
	s := newSample(t, Terms{Type: TimeLimit, Days: 30})
	p := takeApart(t, mustSign(t, s.licence, s.isv))
	for name, change := range map[string][2]string{
		"unknown field":    {`"days":30`, `"days":30,"grace":1`},
		"repeated field":   {`"days":30`, `"days":1,"days":30`},
		"other case":       {`"days":30`, `"Days":30`},
		"spaces":           {`"days":30`, `"days": 30`},
		"escapes":          {`"30 days"`, `"\u0033\u0030 days"`},
		"a float":          {`"days":30`, `"days":3e1`},
		"a local time":     {`"created":"2026-03-28T12:00:00Z"`, `"created":"2026-03-28T13:00:00+01:00"`},
		"a fraction":       {`"created":"2026-03-28T12:00:00Z"`, `"created":"2026-03-28T12:00:00.5Z"`},
		"another version":  {`"version":1,"document"`, `"version":2,"document"`},
		"a control":        {`"30 days"`, `"30\ndays"`},
		"a null":           {`"name":"30 days"`, `"name":null`},
		"another end":      {`"not_after":"2026-04-27T12:00:00Z"`, `"not_after":"2027-04-27T12:00:00Z"`},
		"a hidden turning": {`"30 days"`, "\"30 \u202edays\""},
	} {
		f := p
		f.payload = replace(p.payload, change[0], change[1])
		if err := errOf[Licence](f.resign(t, s.isv).join(t)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

func TestSignRefusesWrongKeys(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	if _, err := Sign(s.config, s.isv.key, s.customer.chain()); err == nil || !strings.Contains(err.Error(), "certificate is of another key") {
		t.Errorf("another party's certificate: %v", err)
	}
	p256 := newPartyOn(t, elliptic.P256(), "p256", now, now.Add(time.Hour))
	if _, err := Sign(s.config, p256.key, p256.chain()); err == nil || !strings.Contains(err.Error(), "not a P-384 key") {
		t.Errorf("P-256: %v", err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(s.config, rsaKey, s.isv.chain()); err == nil {
		t.Error("signed with an RSA key")
	}
	if _, err := Sign(s.config, s.isv.key, nil); err == nil {
		t.Error("signed without a certificate")
	}
}

// signRaw returns r and s, 48 bytes each.
func signRaw(p party, digest []byte) (r, s []byte, err error) {
	a, b, err := ecdsa.Sign(rand.Reader, p.key, digest)
	if err != nil {
		return nil, nil, err
	}
	return a.FillBytes(make([]byte, 48)), b.FillBytes(make([]byte, 48)), nil
}

func TestModelManifests(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	signed, err := SignModel([]byte("manifest"), s.isv.key, s.isv.chain())
	if err != nil {
		t.Fatal(err)
	}
	if got, chain, err := VerifyModel(signed); err != nil || string(got) != "manifest" || !chain[0].Equal(s.isv.cert) {
		t.Errorf("%q, %v", got, err)
	}
	if _, _, err := VerifyModel(mustSign(t, s.tcb, s.isv)); err == nil {
		t.Error("a TCB passes for a model")
	}
	if err := errOf[TCB](signed); !errors.Is(err, ErrKind) {
		t.Errorf("a model as a TCB: %v", err)
	}
	if _, _, err := VerifyModel(append(signed, '\n')); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte more: %v", err)
	}
}
