package licenseserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// echo is a service for tests: /slow answers after a while, /panic not at all,
// and everything else with the body that it gets.
type echo struct {
	reloads atomic.Int32
	refuse  atomic.Bool // what Reload is given
	began   chan struct{}
}

func newEcho(context.Context, Config) (Service, error) {
	return &echo{began: make(chan struct{}, 16)}, nil
}

func (e *echo) Reload(Material) error {
	if e.refuse.Load() {
		return errors.New("the service refuses it")
	}
	e.reloads.Add(1)
	return nil
}

func (e *echo) Close() error { return nil }

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/panic":
		panic("the service failed")
	case "/slow":
		e.began <- struct{}{}
		time.Sleep(300 * time.Millisecond)
	}
	if _, err := r.TLS.ExportKeyingMaterial("EXPORTER-test", nil, 32); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	w.Write(body)
}
