package quote

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"
)

const (
	testVM  = "6f1c2d7e-0d0c-5c5e-9a53-0a8f3b0c7a11"
	otherVM = "6f1c2d7e-0d0c-5c5e-9a53-0a8f3b0c7a12"
)

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// keys are made once: RSA keys are slow to make.
var keys = sync.OnceValue(func() (k struct {
	ak, ca, ek2 *ecdsa.PrivateKey
	rsaAK, ek   *rsa.PrivateKey
}) {
	k.ak, k.ca, k.ek2 = newECC(elliptic.P256()), newECC(elliptic.P256()), newECC(elliptic.P384())
	k.rsaAK, k.ek = must(rsa.GenerateKey(rand.Reader, 2048)), must(rsa.GenerateKey(rand.Reader, 2048))
	return k
})

func newECC(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// wireSpec is all that a quote states, before it is signed.
type wireSpec struct {
	magic      uint32
	kind       uint16
	extra      []byte
	clock      Clock
	safe       byte
	selections []selection
	pcrs       []PCR
	digest     []byte // nil: computed
	after      []byte // stray bytes
}

func (s wireSpec) bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, s.magic)
	b = binary.BigEndian.AppendUint16(b, s.kind)
	b = sized(b, objectName([]byte("qualified signer")))
	b = sized(b, s.extra)
	b = binary.BigEndian.AppendUint64(b, s.clock.Millis)
	b = binary.BigEndian.AppendUint32(b, s.clock.ResetCount)
	b = binary.BigEndian.AppendUint32(b, s.clock.RestartCount)
	b = append(b, s.safe)
	b = binary.BigEndian.AppendUint64(b, 0x20191023)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.selections)))
	for _, sel := range s.selections {
		b = binary.BigEndian.AppendUint16(b, sel.hash)
		b = append(append(b, byte(len(sel.mask))), sel.mask...)
	}
	if s.digest == nil {
		h := sha256.New()
		for _, p := range s.pcrs {
			h.Write(p.Digest)
		}
		s.digest = h.Sum(nil)
	}
	return append(sized(b, s.digest), s.after...)
}

func sized(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}

// akSpec is an attestation key's public area, and the key.
type akSpec struct {
	key        crypto.Signer
	attributes uint32
	nameAlg    uint16
	scheme     uint16
	hash       uint16
	curve      uint16
	exponent   uint32
	after      []byte
}

func eccAK(key *ecdsa.PrivateKey) akSpec {
	return akSpec{key: key, attributes: attrsAK | 1<<6, nameAlg: algSHA256, scheme: algECDSA, hash: algSHA256, curve: curveP256}
}

func rsaAK(key *rsa.PrivateKey, scheme uint16) akSpec {
	return akSpec{key: key, attributes: attrsAK | 1<<6, nameAlg: algSHA256, scheme: scheme, hash: algSHA256}
}

func (a akSpec) public() []byte {
	kind := uint16(algECC)
	if _, ok := a.key.(*rsa.PrivateKey); ok {
		kind = algRSA
	}
	b := binary.BigEndian.AppendUint16(nil, kind)
	b = binary.BigEndian.AppendUint16(b, a.nameAlg)
	b = binary.BigEndian.AppendUint32(b, a.attributes)
	b = sized(b, nil)
	b = append(b, 0, algNull)
	b = binary.BigEndian.AppendUint16(b, a.scheme)
	b = binary.BigEndian.AppendUint16(b, a.hash)
	switch key := a.key.(type) {
	case *rsa.PrivateKey:
		b = binary.BigEndian.AppendUint16(b, uint16(key.N.BitLen()))
		b = binary.BigEndian.AppendUint32(b, a.exponent)
		b = sized(b, key.N.Bytes())
	case *ecdsa.PrivateKey:
		point := must(key.PublicKey.Bytes())
		size := (len(point) - 1) / 2
		b = append(binary.BigEndian.AppendUint16(b, a.curve), 0, algNull)
		b = sized(sized(b, point[1:1+size]), point[1+size:])
	}
	return append(b, a.after...)
}

// sign signs as a TPM does; it hashes with SHA-256 whatever the scheme says.
func (a akSpec) sign(message []byte) []byte {
	sum := sha256.Sum256(message)
	b := binary.BigEndian.AppendUint16(nil, a.scheme)
	b = binary.BigEndian.AppendUint16(b, a.hash)
	switch key := a.key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		must(0, err)
		return sized(sized(b, r.FillBytes(make([]byte, 32))), s.FillBytes(make([]byte, 32)))
	case *rsa.PrivateKey:
		if a.scheme == algRSAPSS {
			return sized(b, must(rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], nil)))
		}
		return sized(b, must(rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])))
	}
	panic("unknown key")
}

// newCA makes a self-signed authority.
func newCA(name string, key *ecdsa.PrivateKey) *x509.Certificate {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: testNow.AddDate(-1, 0, 0), NotAfter: testNow.AddDate(9, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key))))
}

// issue issues a leaf with one purpose; uri may be "".
func issue(ca *x509.Certificate, caKey *ecdsa.PrivateKey, pub crypto.PublicKey, purpose asn1.ObjectIdentifier, uri string, vms ...string) []byte {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: testNow.AddDate(0, 0, -1), NotAfter: testNow.AddDate(1, 0, 0),
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{purpose},
	}
	if uri != "" {
		for _, name := range append([]string{uri}, vms...) {
			tmpl.URIs = append(tmpl.URIs, must(url.Parse(name)))
		}
	} else {
		name := must(asn1.Marshal(pkix.Name{CommonName: "id:00001014"}.ToRDNSequence()))
		san := must(asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}}))
		tmpl.ExtraExtensions = []pkix.Extension{{Id: oidSAN, Critical: true, Value: san}}
	}
	return must(x509.CreateCertificate(rand.Reader, tmpl, ca, pub, caKey))
}

// host is a made host TPM with its authorities, and a vTPM that it vouches for.
type host struct {
	ak                     akSpec
	akCA, vendorCA, vtpmCA *x509.Certificate
	ekCert                 []byte
	vtpmEKs                []EK
	claims                 Claims
	spec                   wireSpec
	record                 Record // what signing does not fill
}

func newHost(t testing.TB) *host {
	t.Helper()
	k := keys()
	h := &host{ak: eccAK(k.ak), akCA: newCA("attestation CA", k.ca), vendorCA: newCA("vendor", k.ca), vtpmCA: newCA("vTPM CA", k.ca)}
	h.ekCert = issue(h.vendorCA, k.ca, k.ek.Public(), oidEK, "")
	hostID := HostID(must(EKName(k.ek.Public())), nil)
	h.vtpmEKs = []EK{
		{RSA2048, issue(h.vtpmCA, k.ca, k.ek.Public(), oidEK, ""), objectName([]byte("rsa"))},
		{ECCP384, issue(h.vtpmCA, k.ca, k.ek2.Public(), oidEK, ""), append([]byte{0, algSHA384}, make([]byte, 48)...)},
	}
	h.claims = Claims{Version: 1, VMUUID: testVM, VMName: "ovsa_runtime", HostID: hostID, Serial: "000102030405060708090a0b0c0d0e0f", Lineage: "101112131415161718191a1b1c1d1e1f", Time: "2026-11-23T11:59:00Z"}
	for _, ek := range h.vtpmEKs {
		sum := sha256.Sum256(ek.Cert)
		h.claims.EKs = append(h.claims.EKs, EKClaim{ek.Algorithm, hex.EncodeToString(sum[:]), hex.EncodeToString(ek.Name)})
	}
	h.spec = newSpec(DefaultPCRs())
	h.record = Record{AKCert: issue(h.akCA, k.ca, k.ak.Public(), oidAK, HostURI(hostID)), EKChain: [][]byte{h.ekCert}}
	return h
}

func newSpec(pcrs []int) wireSpec {
	s := wireSpec{magic: generatedMagic, kind: typeQuote, clock: Clock{5000, 3, 1}, safe: 1}
	mask := make([]byte, 3)
	for _, i := range pcrs {
		mask[i/8] |= 1 << (i % 8)
		sum := sha256.Sum256([]byte{byte(i)})
		s.pcrs = append(s.pcrs, PCR{i, sum[:]})
	}
	s.selections = []selection{{algSHA256, mask}}
	return s
}

// sign fills in and signs the record as the host does.
func (h *host) sign() Record {
	r := h.record
	r.Claims = must(marshal(h.claims, MaxClaims))
	if h.spec.extra == nil {
		sum := BindExtraData(r.Claims)
		h.spec.extra = sum[:]
	}
	r.Attest, r.PCRs, r.AK = h.spec.bytes(), h.spec.pcrs, h.ak.public()
	r.Signature = h.ak.sign(r.Attest)
	return r
}

func (h *host) policy() Policy {
	return Policy{
		Trust: []*x509.Certificate{h.vendorCA}, AKIssuers: []*x509.Certificate{h.akCA},
		VTPMRoots: []*x509.Certificate{h.vtpmCA}, VM: testVM, EKs: h.vtpmEKs, Now: testNow,
	}
}

// rsa1024AK is the public area of an RSA key of 1024 bits, which Go would not
// make.
func rsa1024AK() []byte {
	n := append([]byte{0x80}, make([]byte, 127)...)
	n[127] = 1
	b := rsaAK(keys().rsaAK, algRSASSA).public()
	b = b[:len(b)-256-2-4-2]
	b = append(binary.BigEndian.AppendUint16(b, 1024), 0, 0, 0, 0)
	return sized(b, n)
}
