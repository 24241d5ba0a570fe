package enrol

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
)

// Code says in a word why a request got no answer.
type Code string

// The codes. They do not change, and tell nobody which check failed.
const (
	CodeMalformed   Code = "malformed"    // 400: not a request of this protocol
	CodeTooLarge    Code = "too_large"    // 413
	CodeRefused     Code = "host_refused" // 403: the host proved too little, or is not allowed
	CodeSlowDown    Code = "slow_down"    // 429: too many requests, or too many that were refused
	CodeUnavailable Code = "unavailable"  // 503: the service cannot decide now
)

// Refusal is what a host is told instead of an answer.
type Refusal struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

func (r Refusal) Error() string { return r.Message + " (" + string(r.Code) + ")" }

// refusals are what is told for each code, and with which status.
func refusal(code Code) (Refusal, int) {
	switch code {
	case CodeMalformed:
		return Refusal{code, "This is not a request that the service knows."}, http.StatusBadRequest
	case CodeTooLarge:
		return Refusal{code, "The request is larger than any that the service takes."}, http.StatusRequestEntityTooLarge
	case CodeRefused:
		return Refusal{code, "The host was not enrolled; ask the service's administrator, whose log says why."}, http.StatusForbidden
	case CodeSlowDown:
		return Refusal{code, "There were too many requests; try again later."}, http.StatusTooManyRequests
	}
	return Refusal{CodeUnavailable, "The service cannot decide now; try again later."}, http.StatusServiceUnavailable
}

// Handler serves the two requests of an enrolment. What a refusal's reason is goes
// to the log alone.
func (s *Service) Handler(log *slog.Logger) http.Handler {
	h := &handler{s, log}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+BeginPath, h.admitted(h.begin))
	mux.HandleFunc("POST "+FinishPath, h.admitted(h.finish))
	return mux
}

// admitted is f for requests that are let in. They count as under way when they have
// arrived: whoever sends slowly keeps nobody waiting.
func (h *handler) admitted(f func(http.ResponseWriter, *http.Request, []byte)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		slowDown := func(err error) {
			w.Header().Set("Retry-After", "1")
			h.refuse(w, r, CodeSlowDown, err)
		}
		enter, err := h.service.opts.Admit(r)
		if err != nil {
			slowDown(err)
			return
		}
		body, unread := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequest))
		defer clear(body)
		done, err := enter()
		if err != nil {
			slowDown(err)
			return
		}
		a := &answered{ResponseWriter: w}
		var large *http.MaxBytesError
		switch {
		case errors.As(unread, &large):
			h.refuse(a, r, CodeTooLarge, unread)
		case unread != nil:
			h.refuse(a, r, CodeMalformed, unread)
		default:
			f(a, r, body)
		}
		done(a.status/100 == 4)
	}
}

// answered knows the status that was answered with.
type answered struct {
	http.ResponseWriter
	status int
}

func (a *answered) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

type handler struct {
	service *Service
	log     *slog.Logger
}

func (h *handler) begin(w http.ResponseWriter, r *http.Request, body []byte) {
	request, err := ParseRequest(body)
	if err != nil {
		h.refuse(w, r, CodeMalformed, err)
		return
	}
	challenge, err := h.service.Begin(r.Context(), request)
	if err != nil {
		h.refuse(w, r, codeOf(err), err)
		return
	}
	h.log.InfoContext(r.Context(), "host challenged", "remote", r.RemoteAddr, "host", request.Enrolment.HostID, "simulated", request.Enrolment.Simulated)
	h.answer(w, r, http.StatusOK, challenge)
}

func (h *handler) finish(w http.ResponseWriter, r *http.Request, body []byte) {
	answer, err := ParseAnswer(body)
	if err != nil {
		h.refuse(w, r, CodeMalformed, err)
		return
	}
	defer clear(answer.Secret)
	issued, err := h.service.Finish(r.Context(), answer)
	if err != nil {
		h.refuse(w, r, codeOf(err), err)
		return
	}
	h.log.InfoContext(r.Context(), "host enrolled", "remote", r.RemoteAddr, "host", issued.HostID, "ak", issued.AKName, "vms", issued.VMs, "until", issued.NotAfter)
	h.answer(w, r, http.StatusOK, issued.Certificate)
}

func codeOf(err error) Code {
	if errors.Is(err, ErrRefused) {
		return CodeRefused
	}
	return CodeUnavailable
}

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, code Code, reason error) {
	told, status := refusal(code)
	level := slog.LevelWarn
	if code == CodeUnavailable {
		level = slog.LevelError
	}
	h.log.Log(r.Context(), level, "host not enrolled", "remote", r.RemoteAddr, "path", r.URL.Path, "code", code, "reason", reason.Error())
	h.answer(w, r, status, told)
}

func (h *handler) answer(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		h.log.ErrorContext(r.Context(), "answer", "reason", err.Error())
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a host that went away asks again
}
