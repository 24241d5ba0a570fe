package licensing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// boxSealer is a TPM as far as a key store knows one: it gives back what it
// sealed, until its state changes.
type boxSealer struct {
	state   int
	secrets map[string][]byte
}

var errState = errors.New("the PCR policy does not hold")

func newBox() *boxSealer { return &boxSealer{secrets: map[string][]byte{}} }

func (b *boxSealer) Seal(_ context.Context, secret []byte) (json.RawMessage, error) {
	id := fmt.Sprintf(`{"state":%d,"n":%d}`, b.state, len(b.secrets))
	b.secrets[id] = bytes.Clone(secret)
	return json.RawMessage(id), nil
}

func (b *boxSealer) Unseal(_ context.Context, sealed json.RawMessage) ([]byte, error) {
	if !strings.HasPrefix(string(sealed), fmt.Sprintf(`{"state":%d,`, b.state)) {
		return nil, errState
	}
	return bytes.Clone(b.secrets[string(sealed)]), nil
}

func newStore(t testing.TB, sealer Sealer) (*KeyStore, Passphrase, []byte) {
	t.Helper()
	ks, pass, err := NewKeyStore(t.Context(), now, "Intel", sealer)
	if err != nil {
		t.Fatal(err)
	}
	return ks, pass, mustMarshal(t, ks)
}

func mustMarshal(t testing.TB, ks *KeyStore) []byte {
	t.Helper()
	file, err := ks.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestKeyStoreRoundTrip(t *testing.T) {
	box := newBox()
	for name, sealer := range map[string]Sealer{"TPM": box, "software": nil} {
		ks, _, file := newStore(t, sealer)
		again, err := ParseKeyStore(t.Context(), file, sealer)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, slot := range []Slot{Primary, Secondary} {
			if !again.Key(slot).Equal(ks.Key(slot)) {
				t.Errorf("%s: another %s key", name, slot)
			}
		}
		if again.Key(Primary).Equal(again.Key(Secondary)) {
			t.Errorf("%s: one key twice", name)
		}
		if again.Name() != "Intel" || again.GUID() != ks.GUID() {
			t.Errorf("%s: %q %q", name, again.Name(), again.GUID())
		}
	}
}

// TestKeyStoreNeverRepeatsItsKeystream is W15: two writes of one key store share
// no ciphertext, whatever was added in between.
func TestKeyStoreNeverRepeatsItsKeystream(t *testing.T) {
	ks, _, first := newStore(t, newBox())
	a, _ := parseKeyStoreFile(first)
	b, _ := parseKeyStoreFile(mustMarshal(t, ks))
	if bytes.Equal(a.Nonce, b.Nonce) || bytes.Equal(a.Sealed, b.Sealed) {
		t.Error("two writes with the same nonce")
	}
}

// TestKeyStoreTampering: no byte of the file can change unnoticed, the readable
// ones included.
func TestKeyStoreTampering(t *testing.T) {
	box := newBox()
	_, _, file := newStore(t, box)
	for i := range file[:len(file)-1] {
		bad := bytes.Clone(file)
		bad[i] ^= 1
		if _, err := ParseKeyStore(t.Context(), bad, box); err == nil {
			t.Fatalf("byte %d (%q) changed, and it opens", i, file[i])
		}
	}
	for name, change := range map[string][2]string{
		"another name":       {`"name":"Intel"`, `"name":"Lntel"`},
		"another protection": {`"protection":"tpm"`, `"protection":"insecure-software"`},
		"an unknown field":   {`"name":"Intel"`, `"name":"Intel","x":1`},
	} {
		if _, err := ParseKeyStore(t.Context(), replace(file, change[0], change[1]), box); err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
	for _, n := range []int{0, 1, len(file) / 2, len(file) - 2} {
		if _, err := ParseKeyStore(t.Context(), file[:n], box); !errors.Is(err, ErrFormat) {
			t.Errorf("its first %d bytes: %v, want ErrFormat", n, err)
		}
	}
}

func TestKeyStoreKeysOfAnotherStore(t *testing.T) {
	box := newBox()
	_, _, one := newStore(t, box)
	_, _, two := newStore(t, box)
	a, _ := parseKeyStoreFile(one)
	b, _ := parseKeyStoreFile(two)
	a.SealedKey = b.SealedKey
	spliced, err := marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseKeyStore(t.Context(), spliced, box); !errors.Is(err, ErrKeyStore) {
		t.Errorf("%v, want ErrKeyStore", err)
	}
}

// TestReseal is W45 and what the original could not: after an update the TPM
// refuses, the passphrase opens the store, and it is sealed to what runs now.
func TestReseal(t *testing.T) {
	box := newBox()
	ks, pass, file := newStore(t, box)
	box.state++
	if _, err := ParseKeyStore(t.Context(), file, box); !errors.Is(err, errState) {
		t.Fatalf("%v, want %v", err, errState)
	}
	written, err := ParsePassphrase(strings.ToUpper(pass.Reveal()) + "\n")
	if err != nil {
		t.Fatal(err)
	}
	recovered, err := RecoverKeyStore(file, written)
	if err != nil {
		t.Fatal(err)
	}
	if err := recovered.Reseal(t.Context(), box); err != nil {
		t.Fatal(err)
	}
	file = mustMarshal(t, recovered)
	again, err := ParseKeyStore(t.Context(), file, box)
	if err != nil || !again.Key(Primary).Equal(ks.Key(Primary)) {
		t.Fatalf("after resealing: %v", err)
	}
	if _, err := RecoverKeyStore(file, pass); err != nil {
		t.Errorf("the passphrase after resealing: %v", err)
	}
	_, other, _ := newStore(t, box)
	if _, err := RecoverKeyStore(file, other); !errors.Is(err, ErrPassphrase) {
		t.Errorf("another store's passphrase: %v, want ErrPassphrase", err)
	}
}

func TestKeyStoreWithoutItsTPM(t *testing.T) {
	_, _, file := newStore(t, newBox())
	if _, err := ParseKeyStore(t.Context(), file, nil); err == nil || !strings.Contains(err.Error(), "sealed to a TPM") {
		t.Errorf("%v", err)
	}
	_, pass, soft := newStore(t, nil)
	if pass.p != nil {
		t.Error("a software key store has a passphrase")
	}
	if info, err := ReadKeyStoreInfo(soft); err != nil || info.Protection != InsecureSoftware {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestKeyStoreCertificates(t *testing.T) {
	ks, _, _ := newStore(t, newBox())
	if _, err := ks.Certificates(Primary); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("%v, want ErrNoCertificate", err)
	}
	if _, err := ks.AddCertificate(newParty(t, "other").chain()); !errors.Is(err, ErrOtherKey) {
		t.Errorf("%v, want ErrOtherKey", err)
	}
	for _, slot := range []Slot{Secondary, Primary} {
		cert := certify(t, ks.Key(slot), string(slot))
		if got, err := ks.AddCertificate(cert.chain()); err != nil || got != slot {
			t.Fatalf("%q, %v; want %q", got, err, slot)
		}
		if chain, err := ks.Certificates(slot); err != nil || !chain[0].Equal(cert.cert) {
			t.Errorf("%s: %v", slot, err)
		}
	}
}

// TestKeyStorePrintsNothing is W25.
func TestKeyStorePrintsNothing(t *testing.T) {
	ks, pass, file := newStore(t, newBox())
	raw, err := ks.Key(Primary).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	secret := new(big.Int).SetBytes(raw).String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		for _, s := range []string{fmt.Sprintf(verb, ks), fmt.Sprintf(verb, *ks), fmt.Sprintf(verb, pass), fmt.Sprintf(verb, struct{ p Passphrase }{pass})} {
			if strings.Contains(s, secret) || strings.Contains(s, pass.Reveal()) || strings.Contains(s, fmt.Sprintf("%x", pass.p()[:])) || len(s) > 300 {
				t.Errorf("%s prints %q", verb, s)
			}
		}
	}
	if bytes.Contains(file, raw) || strings.Contains(string(file), pass.Reveal()) {
		t.Error("the file has a secret")
	}
	ks.Close()
	if ks.Key(Primary) != nil || !bytes.Equal(ks.key.Bytes(), make([]byte, KeySize)) {
		t.Error("closed, and keys are left")
	}
}

func TestPassphrase(t *testing.T) {
	p := newPassphrase()
	text := p.Reveal()
	if len(text) != 35 || strings.Count(text, "-") != 5 {
		t.Errorf("%q has another shape", text)
	}
	for _, spelt := range []string{text, strings.ToUpper(text), strings.ReplaceAll(text, "-", " "), " " + strings.ReplaceAll(text, "-", "") + "\r\n", strings.NewReplacer("0", "O", "1", "l").Replace(text)} {
		if got, err := ParsePassphrase(spelt); err != nil || *got.p() != *p.p() {
			t.Errorf("%q: %v", spelt, err)
		}
	}
	for i := range text {
		if text[i] == '-' {
			continue
		}
		bad := []byte(text)
		bad[i] = alphabet[(strings.IndexByte(alphabet, bad[i])+1)%32]
		_, err := ParsePassphrase(string(bad))
		if !errors.Is(err, ErrPassphrase) || strings.Contains(err.Error(), string(bad)) {
			t.Errorf("mistyped at %d: %v", i, err)
		}
	}
	for _, bad := range []string{"", "correct horse battery staple", text[1:], text + "0", strings.Repeat("u", 30), strings.Repeat(" ", 300)} {
		if _, err := ParsePassphrase(bad); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestPurposes is W23: a signature for one purpose is none for another.
func TestPurposes(t *testing.T) {
	p := newParty(t, "p")
	sig, err := SignBytes(p.key, PurposePossession, strings.NewReader("nonce"))
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyBytes(p.cert, PurposePossession, strings.NewReader("nonce"), sig); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"purpose": VerifyBytes(p.cert, PurposeFile, strings.NewReader("nonce"), sig),
		"content": VerifyBytes(p.cert, PurposePossession, strings.NewReader("Nonce"), sig),
		"signer":  VerifyBytes(newParty(t, "q").cert, PurposePossession, strings.NewReader("nonce"), sig),
		"empty":   VerifyBytes(p.cert, PurposePossession, strings.NewReader("nonce"), nil),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("another %s: %v, want ErrSignature", name, err)
		}
	}
}

func TestNewGUID(t *testing.T) {
	g := NewGUID()
	if g.check() != nil || g[14] != '4' || !strings.ContainsRune("89ab", rune(g[19])) || g == NewGUID() {
		t.Errorf("%q", g)
	}
}

func FuzzKeyStore(f *testing.F) {
	box := newBox()
	_, _, sealed := newStore(f, box)
	_, _, software := newStore(f, nil)
	f.Add(sealed)
	f.Add(software)
	f.Fuzz(func(t *testing.T, file []byte) {
		_, infoErr := ReadKeyStoreInfo(file)
		ks, err := ParseKeyStore(t.Context(), file, box)
		if err == nil && (infoErr != nil || ks.Key(Primary) == nil) {
			t.Fatal("it opens, and is not a key store")
		}
	})
}

func FuzzPassphrase(f *testing.F) {
	f.Add(newPassphrase().Reveal())
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePassphrase(s)
		if err != nil {
			return
		}
		if again, err := ParsePassphrase(p.Reveal()); err != nil || *again.p() != *p.p() {
			t.Fatalf("%q is another passphrase than %q", s, p.Reveal())
		}
	})
}
