package licensing

import (
	"context"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/vtpm/quote"
)

// The checks in this file stand behind others that find most of the same mistakes
// first, so they are asked directly: each by itself refuses what it is for.

func TestServersAreChecked(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	p256 := serverAt("h:1", newPartyOn(t, elliptic.P256(), "p256", now, now.Add(time.Hour)))
	if err := p256.check(); err == nil || !strings.Contains(err.Error(), "not a P-384 key") {
		t.Errorf("a release key of P-256: %v", err)
	}
	twice := s.config.Servers[0]
	twice.FutureReleaseKey = twice.ReleaseKey
	if err := twice.check(); err == nil || !strings.Contains(err.Error(), "are the same") {
		t.Errorf("one release key twice: %v", err)
	}
	twice.FutureReleaseKey = p256.ReleaseKey
	if err := twice.check(); err == nil || !strings.Contains(err.Error(), "not a P-384 key") {
		t.Errorf("a future release key of P-256: %v", err)
	}
	many := s.config
	many.Servers = nil
	for i := range MaxServers + 1 {
		one := s.config.Servers[0]
		one.Address = "host:" + string(rune('1'+i%9)) + string(rune('1'+i/9))
		many.Servers = append(many.Servers, one)
	}
	if err := many.Check(); err == nil || !strings.Contains(err.Error(), "17 licence servers") {
		t.Errorf("too many servers: %v", err)
	}
	many.Servers = many.Servers[1:]
	if err := many.Check(); err != nil {
		t.Errorf("as many as there may be: %v", err)
	}
	many.Servers = nil
	if many.Check() == nil {
		t.Error("no server")
	}
}

// long is a document of any length.
type long struct {
	Text string `json:"text"`
}

func (long) Kind() Kind   { return KindTCB }
func (long) Check() error { return nil }

func TestDocumentsHaveASize(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	file, err := Sign(long{strings.Repeat("x", MaxDocument/2)}, s.isv.key, s.isv.chain())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify[long](file); err != nil {
		t.Error(err)
	}
	if _, err := Sign(long{strings.Repeat("x", MaxDocument)}, s.isv.key, s.isv.chain()); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("one that is too large: %v", err)
	}
	var v long
	if err := unmarshal([]byte(`{"text":"12345"}`), &v, 16); err != nil {
		t.Error(err)
	}
	if err := unmarshal([]byte(`{"text":"12345"}`), &v, 15); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "more than 15 bytes") {
		t.Errorf("a byte too many: %v", err)
	}
}

func TestOnlyOneAlgorithm(t *testing.T) {
	s := newSample(t, Terms{Type: Sale})
	file := mustSign(t, s.config, s.isv)
	var env envelope
	if err := json.Unmarshal(file, &env); err != nil {
		t.Fatal(err)
	}
	head, err := base64.RawURLEncoding.DecodeString(env.Protected)
	if err != nil {
		t.Fatal(err)
	}
	for _, alg := range []string{"none", "ES256", "HS384"} {
		env.Protected = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(head), `"ES384"`, `"`+alg+`"`, 1)))
		changed, err := marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := KindOf(changed); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "algorithm") {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

// sealing is a TPM that gives this back.
type sealing json.RawMessage

func (s sealing) Seal(context.Context, []byte) (json.RawMessage, error) {
	return json.RawMessage(s), nil
}
func (s sealing) Unseal(context.Context, json.RawMessage) ([]byte, error) { return nil, errState }

func TestKeyStoresAreChecked(t *testing.T) {
	for name, sealed := range map[string]sealing{"nothing": nil, "too much": sealing(`"` + strings.Repeat("x", maxSealedKey) + `"`)} {
		if _, _, err := NewKeyStore(t.Context(), now, "x", sealed); err == nil || !strings.Contains(err.Error(), "a sealed key of") {
			t.Errorf("a TPM that seals to %s: %v", name, err)
		}
	}
	_, pass, _ := newStore(t, newBox())
	soft, _, file := newStore(t, nil)
	if _, err := RecoverKeyStore(file, pass); err == nil || !strings.Contains(err.Error(), "has no passphrase") {
		t.Errorf("a software key store recovered: %v", err)
	}
	if err := soft.Reseal(t.Context(), newBox()); err == nil || !strings.Contains(err.Error(), "insecure-software") {
		t.Errorf("a software key store sealed again: %v", err)
	}

	// The keys that the file names are those that are in it.
	ks, _, _ := newStore(t, nil)
	other, _, _ := newStore(t, nil)
	ks.file.Primary = other.file.Primary
	if _, err := ParseKeyStore(t.Context(), mustMarshal(t, ks), nil); !errors.Is(err, ErrKeyStore) || !strings.Contains(err.Error(), "not a pair") {
		t.Errorf("another public key: %v", err)
	}
}

func TestKeyStoreFilesAreChecked(t *testing.T) {
	read := func(sealer Sealer) keyStoreFile {
		_, _, file := newStore(t, sealer)
		f, err := parseKeyStoreFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	tpm, soft := read(newBox()), read(nil)
	for name, tt := range map[string]struct {
		file  keyStoreFile
		spoil func(*keyStoreFile)
	}{
		"type":                        {tpm, func(f *keyStoreFile) { f.Type = "other" }},
		"version":                     {tpm, func(f *keyStoreFile) { f.Version++ }},
		"no sealed key":               {tpm, func(f *keyStoreFile) { f.SealedKey = nil }},
		"a long sealed key":           {tpm, func(f *keyStoreFile) { f.SealedKey = make([]byte, maxSealedKey+1) }},
		"a key beside the sealed one": {tpm, func(f *keyStoreFile) { f.SoftwareKey = soft.SoftwareKey }},
		"no recovery":                 {tpm, func(f *keyStoreFile) { f.Recovery = nil }},
		"a short software key":        {soft, func(f *keyStoreFile) { f.SoftwareKey = f.SoftwareKey[1:] }},
		"a sealed one beside it":      {soft, func(f *keyStoreFile) { f.SealedKey = tpm.SealedKey }},
		"recovery of a software key":  {soft, func(f *keyStoreFile) { f.Recovery = tpm.Recovery }},
		"no protection":               {soft, func(f *keyStoreFile) { f.Protection = "" }},
	} {
		f := tt.file
		if err := f.check(); err != nil {
			t.Fatal(err)
		}
		tt.spoil(&f)
		if f.check() == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

func TestLeasesAreChecked(t *testing.T) {
	good := Lease{ID: strings.Repeat("0a", 16), LicenceGUID: licenceGUID, ModelGUID: modelGUID, Guest: "000b", Issued: now, Expires: now.Add(time.Hour), RenewUntil: now.Add(time.Hour)}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Lease){
		"ends as it begins":         func(l *Lease) { l.Expires = l.Issued },
		"ends before":               func(l *Lease) { l.Expires = l.Issued.Add(-time.Second) },
		"lasts longer than renewed": func(l *Lease) { l.Expires = l.RenewUntil.Add(time.Second) },
		"a short ID":                func(l *Lease) { l.ID = "0a" },
		"no guest":                  func(l *Lease) { l.Guest = "" },
	} {
		l := good
		spoil(&l)
		if l.Check() == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

func TestMasterLicencesAreChecked(t *testing.T) {
	m := newSample(t, Terms{Type: Sale}).master
	m.WrappedKey = m.WrappedKey[1:]
	if m.Check() == nil {
		t.Error("a short key passes")
	}
}

// TestPassphraseLetters: a letter that there is none of is no 0.
func TestPassphraseLetters(t *testing.T) {
	pass := Passphrase{func() *[passphraseBytes]byte { return new([passphraseBytes]byte) }} // all zeros
	text := pass.Reveal()
	if _, err := ParsePassphrase(text); err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePassphrase("u" + text[1:]); !errors.Is(err, ErrPassphrase) {
		t.Errorf("%q: %v", "u"+text[1:], err)
	}
}

func TestRegistersAreChecked(t *testing.T) {
	good := newSample(t, Terms{Type: Sale}).tcb.Guest
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Registers){
		"no register":      func(r *Registers) { r.Mask, r.PCRs = 0, nil },
		"one too few":      func(r *Registers) { r.PCRs = r.PCRs[1:] },
		"one too many":     func(r *Registers) { r.PCRs = append(r.PCRs, quote.PCR{Index: 9, Digest: make([]byte, 32)}) },
		"another register": func(r *Registers) { r.PCRs[1].Index = 5 },
		"another order":    func(r *Registers) { r.PCRs[0], r.PCRs[1] = r.PCRs[1], r.PCRs[0] },
		"a short digest":   func(r *Registers) { r.PCRs[0].Digest = r.PCRs[0].Digest[1:] },
		"a long digest":    func(r *Registers) { r.PCRs[0].Digest = append(r.PCRs[0].Digest, 0) },
	} {
		r := good
		r.PCRs = nil
		for _, p := range good.PCRs {
			r.PCRs = append(r.PCRs, quote.PCR{Index: p.Index, Digest: slices.Clone(p.Digest)})
		}
		spoil(&r)
		if r.check() == nil {
			t.Errorf("%s: passes", name)
		}
	}
	if _, err := Mask(0x3).Select(bank()[1:]); err == nil || !strings.Contains(err.Error(), "not in the quote") {
		t.Errorf("a register that is not quoted: %v", err)
	}
}

func TestWrapWantsP384(t *testing.T) {
	p256 := newPartyOn(t, elliptic.P256(), "p256", now, now.Add(time.Hour))
	if _, err := Wrap(NewKey(), &p256.key.PublicKey, Binding{KindLicence, licenceGUID, modelGUID, RoleServerHalf}); err == nil || !strings.Contains(err.Error(), "not a P-384 key") {
		t.Errorf("wrapped to a P-256 key: %v", err)
	}
}
