package enrol_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/licensing"
	"github.com/ovsactl/ovsactl/licensing/enrol"
)

// serve answers every request alike, over TLS.
func serve(t *testing.T, status int, answer string) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func goodAnswer(t *testing.T) string {
	t.Helper()
	b, err := json.Marshal(enrol.Challenge{ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A client talks to the server that it was told, by its key or its authority, and to
// no other.
func TestWhomAClientTrusts(t *testing.T) {
	right, other := serve(t, http.StatusOK, goodAnswer(t)), sha256.Sum256([]byte("another key"))
	stranger, _ := authority(t, right.Certificate().NotAfter)
	for _, tt := range []struct {
		name  string
		trust enrol.Trust
		want  error // nil: it is believed
	}{
		{"its key", enrol.Trust{Pin: licensing.PinOf(right.Certificate())}, nil},
		{"another key", enrol.Trust{Pin: other[:]}, enrol.ErrIdentity},
		{"a part of its key's hash", enrol.Trust{Pin: licensing.PinOf(right.Certificate())[:16]}, enrol.ErrIdentity},
		{"its authority", enrol.Trust{Authorities: []*x509.Certificate{right.Certificate()}}, nil},
		{"another authority", enrol.Trust{Authorities: []*x509.Certificate{stranger}}, x509.UnknownAuthorityError{Cert: right.Certificate()}},
	} {
		c, err := enrol.NewClient(right.URL, tt.trust)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Begin(t.Context(), enrol.Request{})
		var unknown x509.UnknownAuthorityError
		if tt.want == nil && err != nil || tt.want != nil && !errors.Is(err, tt.want) && !errors.As(err, &unknown) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	for name, nobody := range map[string]enrol.Trust{
		"nobody": {}, "both": {Pin: other[:], Authorities: []*x509.Certificate{right.Certificate()}},
	} {
		if _, err := enrol.NewClient(right.URL, nobody); err == nil {
			t.Errorf("%s is trusted", name)
		}
	}
}

// Only the address of a service is one.
func TestAddressOfAService(t *testing.T) {
	trust := enrol.Trust{Pin: make([]byte, 32)}
	for _, good := range []string{"https://licences.example.org", "https://192.0.2.1:4452/"} {
		if _, err := enrol.NewClient(good, trust); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "licences.example.org:4452", "http://licences.example.org", "https://", "https://user:secret@licences.example.org",
		"https://licences.example.org/path", "https://licences.example.org?q", "https://licences.example.org#f", "https://[::1", "https://a b",
	} {
		if _, err := enrol.NewClient(bad, trust); !errors.Is(err, enrol.ErrURL) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// What answers is told from a service, and a refusal from a failure.
func TestAnswersOfAService(t *testing.T) {
	const none = "it is not an enrolment service"
	for _, tt := range []struct {
		name   string
		status int
		answer string
		want   string // "" for an enrol.Refusal
	}{
		{"a refusal", http.StatusForbidden, `{"code":"not_allowed","message":"no"}`, ""},
		{"a refusal without a code", http.StatusForbidden, `{"code":"","message":"no"}`, none},
		{"a web server's", http.StatusNotFound, "not found", none},
		{"nothing", http.StatusOK, "", "0 bytes, want 1 to"},
		{"something else", http.StatusOK, `{"id":"one"}`, "not the canonical encoding"},
		{"too much", http.StatusOK, `"` + strings.Repeat("x", enrol.MaxResponse) + `"`, "bytes, want 1 to"},
		{"another place", http.StatusTemporaryRedirect, "", none},
	} {
		s := serve(t, tt.status, tt.answer)
		c, err := enrol.NewClient(s.URL, enrol.Trust{Pin: licensing.PinOf(s.Certificate())})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Begin(t.Context(), enrol.Request{})
		var refusal enrol.Refusal
		if tt.want == "" && !errors.As(err, &refusal) || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	s := serve(t, http.StatusOK, goodAnswer(t))
	c, err := enrol.NewClient(s.URL, enrol.Trust{Pin: licensing.PinOf(s.Certificate())})
	if err != nil {
		t.Fatal(err)
	}
	big := enrol.Request{Enrolment: enrol.Enrolment{EKChain: [][]byte{make([]byte, enrol.MaxRequest)}}}
	if _, err := c.Begin(t.Context(), big); err == nil || !strings.Contains(err.Error(), "over the limit") {
		t.Errorf("a request that no service reads: %v", err)
	}
}

// Sizes of what a host asks are limited, each with its own words.
func TestLimitsOfARequest(t *testing.T) {
	good := func() enrol.Request {
		return enrol.Request{Enrolment: enrol.Enrolment{HostID: strings.Repeat("0", 68), AK: []byte{1}, EKChain: [][]byte{{1}}}, VMs: []string{guestVM.UUID}}
	}
	uuids := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("00000000-0000-4000-8000-%012d", i))
		}
		return all
	}
	for _, tt := range []struct {
		want   string // "" where it is good
		change func(*enrol.Request)
	}{
		{"", func(*enrol.Request) {}},
		{"", func(r *enrol.Request) { r.VMs = uuids(enrol.MaxVMs) }},
		{"101 virtual machines", func(r *enrol.Request) { r.VMs = uuids(enrol.MaxVMs + 1) }},
		{"host_id", func(r *enrol.Request) { r.Enrolment.HostID = strings.Repeat("0", 31) }},
		{"host_id", func(r *enrol.Request) { r.Enrolment.HostID = strings.Repeat("0", 161) }},
		{"an attestation key of 0 bytes", func(r *enrol.Request) { r.Enrolment.AK = []byte{} }},
		{"an attestation key of 1025 bytes", func(r *enrol.Request) { r.Enrolment.AK = make([]byte, 1025) }},
		{"0 certificates", func(r *enrol.Request) { r.Enrolment.EKChain = [][]byte{} }},
		{"9 certificates", func(r *enrol.Request) { r.Enrolment.EKChain = make([][]byte, 9) }},
		{"bytes, want 1 to", func(r *enrol.Request) { r.Enrolment.EKChain[0] = make([]byte, enrol.MaxRequest) }},
	} {
		r := good()
		tt.change(&r)
		_, err := enrol.ParseRequest([]byte(encode(t, r)))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("want %q: %v", tt.want, err)
		}
	}
	if _, err := enrol.ParseRequest(nil); err == nil || !strings.Contains(err.Error(), "0 bytes, want 1 to") {
		t.Errorf("nothing: %v", err)
	}
	host := strings.Repeat("0", 68)
	for list, want := range map[string]string{
		host + " " + strings.Join(uuids(enrol.MaxVMs), " "):             "",
		host + " " + strings.Join(uuids(enrol.MaxVMs+1), " "):           "more than 100 virtual machines",
		strings.Repeat("# a comment\n", (4<<20)/len("# a comment\n")+1): "more than 4194304 bytes",
	} {
		if _, err := enrol.ParseList([]byte(list)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
