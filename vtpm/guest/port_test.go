package guest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/hint"
	"github.com/ovsactl/ovsactl/vtpm/quote"
)

var hostRequest = quote.HostRequest{Version: 1, Nonce: nonce, AK: append([]byte{0, 0x0b}, make([]byte, 32)...)}

// answering is a port whose other end gives to each connection, after a whole
// request, the next of some answers and ends.
func answering(t *testing.T, answers ...string) (Port, *[]string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "port") //nolint:usetesting // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "p")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var heard []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, answer := range answers {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for r := bufio.NewReader(c); ; {
				line, err := r.ReadString('\n')
				if line != "\n" {
					heard = append(heard, line)
				}
				if err != nil || line != "\n" {
					break
				}
			}
			c.Write([]byte(answer))
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done; os.RemoveAll(dir) })
	return Port("unix:" + path), &heard
}

func answer(t *testing.T, a quote.HostAnswer) string {
	t.Helper()
	b, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}

func TestAskTheHost(t *testing.T) {
	good := answer(t, quote.HostAnswer{Version: 1, Nonce: nonce, Quote: &quote.HostQuote{Attest: []byte("for us")}})
	earlier := answer(t, quote.HostAnswer{Version: 1, Nonce: bytes.Repeat([]byte{1}, 32), Quote: &quote.HostQuote{Attest: []byte("for another")}})
	slow := answer(t, quote.HostAnswer{Version: 1, Nonce: nonce, Problem: quote.ProblemRate})
	for name, answers := range map[string][]string{
		"at once":                               {good},
		"after an answer to somebody before":    {earlier + good},
		"after the end of such an answer":       {earlier[20:] + good},
		"after the service was started again":   {"", good},
		"after half an answer":                  {good[:50], good},
		"after the host has asked to slow down": {slow, slow, good},
	} {
		t.Run(name, func(t *testing.T) {
			port, heard := answering(t, answers...)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			q, err := port.Attest(ctx, hostRequest)
			if err != nil || string(q.Attest) != "for us" {
				t.Errorf("%+v, %v; the host heard %q", q, err, *heard)
			}
		})
	}
}

func TestHostThatDoesNotAnswer(t *testing.T) {
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	if _, err := Port("/nowhere/port").Attest(t.Context(), hostRequest); !errors.Is(err, ErrNoHost) || !errors.Is(err, ErrHost) || hint.Of(err) == "" {
		t.Errorf("no port: %v", err)
	}
	refused := answer(t, quote.HostAnswer{Version: 1, Nonce: nonce, Problem: quote.ProblemHost})
	port, _ := answering(t, refused)
	if _, err := port.Attest(t.Context(), hostRequest); !errors.Is(err, ErrHostRefused) || hint.Of(err) == "" {
		t.Errorf("a host that cannot quote: %v", err)
	}
	port, _ = answering(t, "", "", "", "", "", "", "", "")
	if _, err := port.Attest(short(), hostRequest); !errors.Is(err, context.DeadlineExceeded) || hint.Of(err) == "" {
		t.Errorf("nobody at the other end: %v", err)
	}
	long := bytes.Repeat([]byte("x"), quote.MaxHostAnswer+10)
	port, _ = answering(t, string(long)+"\n")
	if _, err := port.Attest(t.Context(), hostRequest); !errors.Is(err, bufio.ErrTooLong) {
		t.Errorf("an answer without an end: %v", err)
	}
	port, _ = answering(t, string(bytes.Repeat([]byte("{}\n"), maxStale+1)))
	if _, err := port.Attest(t.Context(), hostRequest); err == nil || !errors.Is(err, ErrHost) {
		t.Errorf("nothing but answers to others: %v", err)
	}
	bad := hostRequest
	bad.Nonce = nil
	if _, err := port.Attest(t.Context(), bad); err == nil {
		t.Error("a request that is none")
	}
}
