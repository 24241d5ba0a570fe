package enrol_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/licensing/ledger"
	"github.com/ovsactl/ovsactl/licensing/pki"
	"github.com/ovsactl/ovsactl/licensing/sqlite"
	"github.com/ovsactl/ovsactl/vtpm"
	"github.com/ovsactl/ovsactl/vtpm/quote"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

var (
	guestVM = vtpm.Identity{UUID: "6f1c2d7e-0d0c-5c5e-9a53-0a8f3b0c7a11", Name: "ovsa_runtime"}
	otherVM = vtpm.Identity{UUID: "6f1c2d7e-0d0c-5c5e-9a53-0a8f3b0c7a12", Name: "ovsa_developer"}
)

// authority makes an attestation authority that is valid until then.
func authority(t *testing.T, until time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "attestation authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// service is an enrolment service on a real ledger, whose clock a test can move.
type service struct {
	*enrol.Service
	ca     *x509.Certificate
	ledger *ledger.Ledger
	now    time.Time
	admit  func(*http.Request) (func() (func(bool), error), error)
}

// newService serves hosts whose TPMs are of the vendors that hosts trust.
func newService(t *testing.T, policy enrol.Policy, hosts ...*vtpmtest.Host) *service {
	t.Helper()
	l, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "ovsa.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	vendors := pki.NewStore(t.TempDir())
	for _, h := range hosts {
		certs, err := pki.ReadFile(filepath.Join(h.DataDir, "vtpm", "trust", "vendor.pem"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := vendors.Add(certs[0]); err != nil {
			t.Fatal(err)
		}
	}
	s := &service{ledger: l, now: time.Now()}
	ca, key := authority(t, time.Now().AddDate(0, 6, 0))
	s.ca = ca
	s.admit = func(*http.Request) (func() (func(bool), error), error) {
		return func() (func(bool), error) { return func(bool) {}, nil }, nil
	}
	s.Service, err = enrol.New(enrol.Options{
		Admit: func(r *http.Request) (func() (func(bool), error), error) { return s.admit(r) },
		CA:    ca, Key: key, Policy: policy, Ledger: l, Now: func() time.Time { return s.now }, Roots: enrol.RootsIn(vendors),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// request is what a host asks.
func request(t *testing.T, h *vtpm.Host, vms ...string) enrol.Request {
	t.Helper()
	e, err := h.Enrolment(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return enrol.Request{Enrolment: enrol.Enrolment{HostID: e.HostID, AK: e.AK, EKChain: e.EKChain, Simulated: e.Simulated}, VMs: vms}
}

// answer has a host's TPM answer a challenge.
func answer(t *testing.T, h *vtpm.Host, c enrol.Challenge) enrol.Answer {
	t.Helper()
	secret, err := h.Activate(t.Context(), c.Credential, c.EncryptedSecret)
	if err != nil {
		t.Fatal(err)
	}
	return enrol.Answer{ID: c.ID, Secret: secret}
}

func (s *service) challenge(t *testing.T, r enrol.Request) enrol.Challenge {
	t.Helper()
	c, err := s.Begin(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *service) enrolled(t *testing.T, h *vtpm.Host, vms ...string) enrol.Issued {
	t.Helper()
	issued, err := s.Finish(t.Context(), answer(t, h, s.challenge(t, request(t, h, vms...))))
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// An enrolled host's records are believed, for the virtual machines that its
// certificate allows and for no others.
func TestEnrolledHostVouches(t *testing.T) {
	host := vtpmtest.New(t)
	h, s := host.Open(t), newService(t, enrol.AnyHost{}, host)
	issued := s.enrolled(t, h, guestVM.UUID)
	if err := h.InstallAKCert(t.Context(), issued.Certificate.Certificate, s.ca); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[vtpm.Identity]quote.Status{guestVM: quote.Passed, otherVM: quote.Failed} {
		if err := errors.Join(h.Manufacture(t.Context(), id), h.Bind(t.Context(), id)); err != nil {
			t.Fatal(err)
		}
		v, err := h.Verify(t.Context(), id.UUID, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Step(quote.StepVMAllowed); got.Status != want || v.OK() != (want == quote.Passed) || v.Step(quote.StepEnrolled).Status != quote.Passed {
			t.Errorf("%s: %+v, %v", id.Name, got, v.Err())
		}
	}
}

func TestCertificate(t *testing.T) {
	host := vtpmtest.New(t)
	h, s := host.Open(t), newService(t, enrol.AnyHost{}, host)
	issued := s.enrolled(t, h)
	cert, err := x509.ParseCertificate(issued.Certificate.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.NotAfter.Equal(s.ca.NotAfter) || cert.NotBefore.After(s.now) {
		t.Errorf("valid from %s to %s, the authority to %s", cert.NotBefore, cert.NotAfter, s.ca.NotAfter)
	}
	if len(cert.URIs) != 1 || cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature || len(cert.UnhandledCriticalExtensions) > 0 {
		t.Errorf("%v, usage %v", cert.URIs, cert.KeyUsage)
	}
	if len(issued.Issuers) != 1 || !slices.Equal(issued.Issuers[0], s.ca.Raw) {
		t.Error("the issuer is another than the authority")
	}
	if again := s.enrolled(t, h); slices.Equal(again.Certificate.Certificate, issued.Certificate.Certificate) {
		t.Error("a host cannot be enrolled again")
	}
	s.now = s.ca.NotAfter.Add(time.Second)
	if _, err := s.Finish(t.Context(), answer(t, h, s.challenge(t, request(t, h)))); err == nil || errors.Is(err, enrol.ErrRefused) {
		t.Errorf("an authority that has expired: %v", err)
	}
}

// Each row changes what a host asks; none gets a challenge.
func TestRequestsThatAreRefused(t *testing.T) {
	host, other := vtpmtest.New(t), vtpmtest.New(t)
	h, o := request(t, host.Open(t)), request(t, other.Open(t))
	s := newService(t, enrol.AnyHost{}, host, other)
	if _, err := s.Begin(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*enrol.Request){
		"another host's EK certificate": func(r *enrol.Request) { r.Enrolment.EKChain = o.Enrolment.EKChain },
		"another host's id":             func(r *enrol.Request) { r.Enrolment.HostID = o.Enrolment.HostID },
		"an id by the AK alone":         func(r *enrol.Request) { r.Enrolment.HostID = "ak:" + strings.Repeat("00", 34) },
		"no EK certificate":             func(r *enrol.Request) { r.Enrolment.EKChain = nil },
		"an EK certificate that is cut": func(r *enrol.Request) { r.Enrolment.EKChain = [][]byte{r.Enrolment.EKChain[0][:100]} },
		"an authority for an EK":        func(r *enrol.Request) { r.Enrolment.EKChain = [][]byte{s.ca.Raw} },
		"bytes after the AK":            func(r *enrol.Request) { r.Enrolment.AK = append(slices.Clone(r.Enrolment.AK), 0) },
		"an AK that is none":            func(r *enrol.Request) { r.Enrolment.AK = []byte("none") },
		"an AK that is not restricted": func(r *enrol.Request) {
			r.Enrolment.AK = slices.Clone(r.Enrolment.AK)
			r.Enrolment.AK[5] &^= 1 // bit 16 of the attributes
		},
		"a virtual machine without a UUID": func(r *enrol.Request) { r.VMs = []string{"runtime"} },
		"a UUID in upper case":             func(r *enrol.Request) { r.VMs = []string{strings.ToUpper(guestVM.UUID)} },
		"a virtual machine twice":          func(r *enrol.Request) { r.VMs = []string{guestVM.UUID, guestVM.UUID} },
	} {
		r := h
		change(&r)
		if c, err := s.Begin(t.Context(), r); !errors.Is(err, enrol.ErrRefused) || c.ID != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	strangers := newService(t, enrol.AnyHost{}, other)
	if _, err := strangers.Begin(t.Context(), h); !errors.Is(err, enrol.ErrRefused) {
		t.Errorf("a vendor that is not trusted: %v", err)
	}
	if _, err := newService(t, enrol.AnyHost{}).Begin(t.Context(), h); !errors.Is(err, enrol.ErrRefused) {
		t.Errorf("no vendor trusted: %v", err)
	}
}

// A certificate of an EK is public. Who shows another host's with an AK of their
// own gets a challenge, and cannot answer it.
func TestStolenEKCertificate(t *testing.T) {
	host, thief := vtpmtest.New(t), vtpmtest.New(t)
	s := newService(t, enrol.AnyHost{}, host, thief)
	stolen, own := request(t, host.Open(t)), request(t, thief.Open(t))
	stolen.Enrolment.AK = own.Enrolment.AK
	c := s.challenge(t, stolen)
	for name, tpm := range map[string]*vtpmtest.Host{"the thief's TPM": thief, "the owner's TPM, for the thief's AK": host} {
		if _, err := tpm.Open(t).Activate(t.Context(), c.Credential, c.EncryptedSecret); !errors.Is(err, vtpm.ErrCredential) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Finish(t.Context(), enrol.Answer{ID: c.ID, Secret: make([]byte, 32)}); !errors.Is(err, enrol.ErrRefused) {
		t.Errorf("a guess: %v", err)
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	host := vtpmtest.New(t)
	h, s := host.Open(t), newService(t, enrol.AnyHost{}, host)
	refused := func(name string, a enrol.Answer) {
		t.Helper()
		if issued, err := s.Finish(t.Context(), a); !errors.Is(err, enrol.ErrRefused) || issued.HostID != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	right := answer(t, h, s.challenge(t, request(t, h)))
	if _, err := s.Finish(t.Context(), right); err != nil {
		t.Fatal(err)
	}
	refused("the same again", right)

	right = answer(t, h, s.challenge(t, request(t, h)))
	refused("another secret", enrol.Answer{ID: right.ID, Secret: append(slices.Clone(right.Secret[:31]), right.Secret[31]^1)})
	refused("the right one after a wrong one", right)

	a, b := answer(t, h, s.challenge(t, request(t, h))), answer(t, h, s.challenge(t, request(t, h)))
	refused("of another challenge", enrol.Answer{ID: a.ID, Secret: b.Secret})
	refused("of no challenge", enrol.Answer{ID: "0123", Secret: b.Secret})

	late := answer(t, h, s.challenge(t, request(t, h)))
	s.now = s.now.Add(enrol.ChallengeTime)
	refused("too late", late)

	// A ledger has challenges of other kinds.
	if err := s.ledger.Offer(t.Context(), "licence", []byte("{}"), s.now.Add(time.Minute), s.now); err != nil {
		t.Fatal(err)
	}
	refused("of another kind of challenge", enrol.Answer{ID: "licence", Secret: b.Secret})
}

func TestRevoked(t *testing.T) {
	host := vtpmtest.New(t)
	h, s := host.Open(t), newService(t, enrol.AnyHost{}, host)
	issued := s.enrolled(t, h)
	for _, subject := range []ledger.Subject{{Kind: ledger.KindHost, ID: issued.HostID}, {Kind: ledger.KindAK, ID: issued.AKName}} {
		a := answer(t, h, s.challenge(t, request(t, h)))
		if err := s.ledger.Revoke(t.Context(), subject, "stolen", s.now); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Finish(t.Context(), a); !errors.Is(err, enrol.ErrRefused) || !errors.Is(err, ledger.ErrRevoked) {
			t.Errorf("%s: %v", subject.Kind, err)
		}
		if err := s.ledger.Unrevoke(t.Context(), subject, s.now); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAllowList(t *testing.T) {
	host := vtpmtest.New(t)
	h := host.Open(t)
	list := enrol.AllowList{Path: filepath.Join(t.TempDir(), "hosts")}
	s := newService(t, list, host)
	r := request(t, h)
	ek, err := x509.ParseCertificate(r.Enrolment.EKChain[0])
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(list.Path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Begin(t.Context(), r); err == nil || errors.Is(err, enrol.ErrRefused) {
		t.Errorf("no list: %v", err)
	}
	for text, ok := range map[string]bool{
		"":                               false,
		"# " + r.Enrolment.HostID + "\n": false,
		strings.Repeat("00", 34) + "\n":  false,
		r.Enrolment.HostID + "\n":        true,
		" " + pki.Fingerprint(ek) + " # rack 4\n": true,
	} {
		write(text)
		if _, err := s.Begin(t.Context(), r); (err == nil) != ok || !ok && !errors.Is(err, enrol.ErrRefused) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{r.Enrolment.HostID + "\nrubbish\n", r.Enrolment.HostID + " runtime\n", r.Enrolment.HostID + "\n" + r.Enrolment.HostID, strings.ToUpper(r.Enrolment.HostID)} {
		write(text)
		if _, err := s.Begin(t.Context(), r); err == nil || errors.Is(err, enrol.ErrRefused) {
			t.Errorf("a damaged list, %q: %v", text, err)
		}
	}
	write(r.Enrolment.HostID + " " + guestVM.UUID + "\n")
	if issued := s.enrolled(t, h); !slices.Equal(issued.VMs, []string{guestVM.UUID}) {
		t.Errorf("a host that asks for any gets %v", issued.VMs)
	}
	if _, err := s.Begin(t.Context(), request(t, h, guestVM.UUID, otherVM.UUID)); !errors.Is(err, enrol.ErrRefused) {
		t.Errorf("a host that asks for more: %v", err)
	}
	a := answer(t, h, s.challenge(t, r))
	write("# nobody\n")
	if _, err := s.Finish(t.Context(), a); !errors.Is(err, enrol.ErrRefused) {
		t.Errorf("a host that was taken off the list meanwhile: %v", err)
	}
}
