package enrol_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ovsactl/ovsactl/licensing/enrol"
	"github.com/ovsactl/ovsactl/vtpm/vtpmtest"
)

// post asks the handler, and returns what it answers and logs.
func post(t *testing.T, s *service, path, body string) (status int, answer, log string) {
	t.Helper()
	var lines bytes.Buffer
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	s.Handler(slog.New(slog.NewTextHandler(&lines, nil))).ServeHTTP(w, r)
	return w.Code, w.Body.String(), lines.String()
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Whatever check failed, a host is told the same, and the log has the reason.
func TestRefusalsAreAlike(t *testing.T) {
	host, other := vtpmtest.New(t), vtpmtest.New(t)
	h := host.Open(t)
	s := newService(t, enrol.AnyHost{}, host)
	good, stranger := request(t, h), request(t, other.Open(t))
	badAK := good
	badAK.Enrolment.AK = append(slices.Clone(good.Enrolment.AK), 0)
	told := map[string]bool{}
	for name, tt := range map[string]struct{ path, body, reason string }{
		"vendor":       {enrol.BeginPath, encode(t, stranger), "unknown authority"},
		"AK":           {enrol.BeginPath, encode(t, badAK), "attestation key"},
		"no challenge": {enrol.FinishPath, encode(t, enrol.Answer{ID: "00", Secret: make([]byte, 32)}), "never was"},
		"secret":       {enrol.FinishPath, encode(t, enrol.Answer{ID: s.challenge(t, good).ID, Secret: make([]byte, 32)}), "another secret"},
	} {
		status, answer, log := post(t, s, tt.path, tt.body)
		if status != http.StatusForbidden || !strings.Contains(log, tt.reason) || strings.Contains(answer, tt.reason) {
			t.Errorf("%s: %d %s, %s", name, status, answer, log)
		}
		told[answer] = true
	}
	if len(told) != 1 {
		t.Errorf("the answers differ: %v", told)
	}
}

// A request that comes too early is not even read, one that has not arrived is not
// let in yet, and the doorman hears which were refused.
func TestAdmission(t *testing.T) {
	s := newService(t, enrol.AnyHost{})
	var heard []bool
	open, full := true, false
	s.admit = func(r *http.Request) (func() (func(bool), error), error) {
		if !open {
			return nil, errors.New("not so quick")
		}
		return func() (func(bool), error) {
			if n, err := r.Body.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Error("it is let in before it has arrived")
			}
			if full {
				return nil, errors.New("too many")
			}
			return func(refused bool) { heard = append(heard, refused) }, nil
		}, nil
	}
	if status, _, _ := post(t, s, enrol.BeginPath, "{}"); status != http.StatusBadRequest || !slices.Equal(heard, []bool{true}) {
		t.Errorf("%d, heard %v", status, heard)
	}
	full = true
	if status, answer, log := post(t, s, enrol.BeginPath, "{}"); status != http.StatusTooManyRequests || !strings.Contains(answer, "slow_down") || !strings.Contains(log, "too many") {
		t.Errorf("%d %s, %s", status, answer, log)
	}
	open = false
	status, answer, log := post(t, s, enrol.BeginPath, "{}")
	if status != http.StatusTooManyRequests || !strings.Contains(answer, "slow_down") || !strings.Contains(log, "not so quick") || strings.Contains(answer, "not so quick") {
		t.Errorf("%d %s, %s", status, answer, log)
	}
}

func TestMalformedRequests(t *testing.T) {
	s := newService(t, enrol.AnyHost{})
	for name, tt := range map[string]struct {
		path, body, code string
		status           int
	}{
		"nothing":          {enrol.BeginPath, "", "malformed", 400},
		"no JSON":          {enrol.BeginPath, "x", "malformed", 400},
		"no fields":        {enrol.BeginPath, "{}", "malformed", 400},
		"an unknown field": {enrol.FinishPath, `{"id":"00","secret":"AA==","admin":true}`, "malformed", 400},
		"a field twice":    {enrol.FinishPath, `{"id":"00","id":"00","secret":"AA=="}`, "malformed", 400},
		"another spelling": {enrol.FinishPath, `{"ID":"00","secret":"AA=="}`, "malformed", 400},
		"bytes after it":   {enrol.FinishPath, `{"id":"00","secret":"AA=="}{}`, "malformed", 400},
		"a long id":        {enrol.FinishPath, `{"id":"` + strings.Repeat("0", 65) + `","secret":"AA=="}`, "malformed", 400},
		"too large":        {enrol.BeginPath, strings.Repeat(" ", enrol.MaxRequest+1), "too_large", 413},
	} {
		status, answer, log := post(t, s, tt.path, tt.body)
		if status != tt.status || !strings.Contains(answer, `"code":"`+tt.code+`"`) || log == "" {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}

// A service that cannot decide says so, and not that the host is to blame.
func TestUnavailable(t *testing.T) {
	host := vtpmtest.New(t)
	s := newService(t, enrol.AllowList{Path: "/nowhere/hosts"}, host)
	status, answer, log := post(t, s, enrol.BeginPath, encode(t, request(t, host.Open(t))))
	if status != http.StatusServiceUnavailable || !strings.Contains(log, "/nowhere/hosts") || strings.Contains(answer, "nowhere") {
		t.Errorf("%d %s %s", status, answer, log)
	}
}

// What an answer's secret is, is not in the log.
func TestSecretsAreNotLogged(t *testing.T) {
	host := vtpmtest.New(t)
	h, s := host.Open(t), newService(t, enrol.AnyHost{}, host)
	a := answer(t, h, s.challenge(t, request(t, h)))
	body := encode(t, a)
	status, _, log := post(t, s, enrol.FinishPath, body)
	if status != http.StatusOK || strings.Contains(log, string(a.Secret)) || !strings.Contains(log, "host enrolled") {
		t.Errorf("%d %s", status, log)
	}
	var lines bytes.Buffer
	slog.New(slog.NewTextHandler(&lines, nil)).Info("answer", "secret", a.Secret)
	if !strings.Contains(lines.String(), "(secret)") {
		t.Errorf("%s", lines.String())
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{
		`{"enrolment":{"host_id":"` + strings.Repeat("00", 34) + `","ak":"AA==","ek_chain":["AA=="],"simulated":true},"vms":["6f1c2d7e-0d0c-5c5e-9a53-0a8f3b0c7a11"]}`,
		`{"enrolment":{"host_id":"` + strings.Repeat("00", 34) + `","ak":"AA==","ek_chain":["AA=="],"simulated":false}}`,
		`{"id":"00","secret":"AA=="}`, `{}`, `null`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := enrol.ParseRequest(b); err == nil && encode(t, r) != string(b) {
			t.Errorf("%s is another encoding of %+v", b, r)
		}
		if a, err := enrol.ParseAnswer(b); err == nil && encode(t, a) != string(b) {
			t.Errorf("%s is another encoding", b)
		}
	})
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte(strings.Repeat("00", 34) + " 6f1c2d7e-0d0c-5c5e-9a53-0a8f3b0c7a11 # a host\n"))
	f.Add([]byte("# nobody\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		hosts, err := enrol.ParseList(b)
		for _, a := range hosts {
			if err != nil || len(a.Host) < 64 || len(a.VMs) > enrol.MaxVMs {
				t.Errorf("%+v, %v", a, err)
			}
			if text, removed, err := enrol.Without(b, a.Host); err != nil || !removed {
				t.Errorf("%+v cannot be removed: %q, %v", a, text, err)
			} else if again, added, err := enrol.With(text, a); err != nil || !added {
				t.Errorf("%+v cannot be added again: %q, %v", a, again, err)
			}
		}
	})
}
