package licensing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const vectors = "testdata/vectors"

// TestVectors reads the test vectors, which a second implementation can read, too:
// what was written once stays readable. OVSA_UPDATE=1 makes new ones.
func TestVectors(t *testing.T) {
	if os.Getenv("OVSA_UPDATE") != "" {
		writeVectors(t)
	}
	isv, customer, server := readVectorKey(t, "isv.key"), readVectorKey(t, "customer.key"), readVectorKey(t, "server.key")
	want, err := hex.DecodeString(strings.TrimSpace(string(readVector(t, "model-key.hex"))))
	if err != nil {
		t.Fatal(err)
	}

	master, err := Verify[MasterLicence](readVector(t, "model.masterlic"))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := master.Document.Key(isv); err != nil || !bytes.Equal(key.Bytes(), want) {
		t.Errorf("the master licence's key: %v", err)
	}
	for _, err := range []error{errOf[LicenceConfig](readVector(t, "instances.config")), errOf[TCB](readVector(t, "runtime.tcb"))} {
		if err != nil {
			t.Error(err)
		}
	}
	var licence *Signed[Licence]
	for _, name := range []string{"model.lic", "sale.lic"} { // the first without a product's GUID
		if licence, err = Verify[Licence](readVector(t, name)); err != nil {
			t.Fatal(err)
		}
		if !licence.Chain[0].PublicKey.(*ecdsa.PublicKey).Equal(&isv.PublicKey) {
			t.Errorf("%s is not the ISV's", name)
		}
		if licence.Document.Product() != master.Document.LicenceGUID {
			t.Errorf("%s is of the product %s", name, licence.Document.Product())
		}
		a, errA := licence.Document.OpenCustomerHalf(customer)
		b, errB := licence.Document.OpenServerHalf(server)
		if errA != nil || errB != nil || !bytes.Equal(Join(a, b).Bytes(), want) {
			t.Errorf("%s: the halves: %v, %v", name, errA, errB)
		}
	}
	pass, err := ParsePassphrase(string(readVector(t, "passphrase.txt")))
	if err != nil {
		t.Fatal(err)
	}
	ks, err := RecoverKeyStore(readVector(t, "keystore"), pass)
	if err != nil {
		t.Fatal(err)
	}
	if primary := readVectorKey(t, "keystore-primary.key"); !ks.Key(Primary).Equal(primary) {
		t.Error("the key store has another primary key")
	}
	sig, err := hex.DecodeString(strings.TrimSpace(string(readVector(t, "possession.hex"))))
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyBytes(licence.Chain[0], PurposePossession, strings.NewReader("nonce"), sig); err != nil {
		t.Error(err)
	}
}

func readVector(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(vectors, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readVectorKey(t *testing.T, name string) *ecdsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(readVector(t, name))
	if block == nil {
		t.Fatalf("%s is no PEM", name)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writeVectors(t *testing.T) {
	t.Helper()
	s := newSample(t, Terms{Type: InstanceLimit, Instances: 2})
	ks, pass, store := newStore(t, newBox())
	sig, err := SignBytes(s.isv.key, PurposePossession, strings.NewReader("nonce"))
	if err != nil {
		t.Fatal(err)
	}
	old := s.licence // as it was before licences had GUIDs of their own
	old.LicenceGUID, old.ProductGUID, old.ServerHalves = s.licence.ProductGUID, "", nil
	if err := old.wrap(s.key); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"model.lic": mustSign(t, old, s.isv),
		"isv.key":   encodeKey(t, s.isv.key), "customer.key": encodeKey(t, s.customer.key), "server.key": encodeKey(t, s.server.key),
		"model-key.hex":   []byte(hex.EncodeToString(s.key.Bytes()) + "\n"),
		"model.masterlic": mustSign(t, s.master, s.isv), "instances.config": mustSign(t, s.config, s.isv),
		"runtime.tcb": mustSign(t, s.tcb, s.isv), "sale.lic": mustSign(t, s.licence, s.isv),
		"keystore": store, "keystore-primary.key": encodeKey(t, ks.Key(Primary)), "passphrase.txt": []byte(pass.Reveal() + "\n"),
		"possession.hex": []byte(hex.EncodeToString(sig) + "\n"),
	}
	if err := os.MkdirAll(vectors, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(vectors, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func encodeKey(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
