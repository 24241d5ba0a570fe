// Package protocol is what the protocols of a model server have in common: how long a
// request may be, and what errors are called.
package protocol

import (
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovsactl/ovsactl/internal/inference"
)

// MaxRequest is how many bytes a request may have where nothing else is said.
const MaxRequest = 64 << 20

var (
	// ErrTooLarge says that a request is longer than it may be.
	ErrTooLarge = errors.New("request too large")
	// ErrNoSuchPath says that a protocol does not have a path.
	ErrNoSuchPath = errors.New("no such path")
	// ErrMethod says that a path does not have a method.
	ErrMethod = errors.New("method not allowed")
	// ErrEncoding says that a body is encoded in a way that is not known.
	ErrEncoding = errors.New("unsupported content encoding")
)

// maxMessage is how long what an error says may be: it may repeat what was asked, and
// gRPC has it in a header.
const maxMessage = 2048

func message(err error) string {
	text := err.Error()
	if len(text) > maxMessage {
		text = text[:maxMessage] + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// errors and what they are called, the first that fits.
var kinds = []struct {
	err  error
	code codes.Code
	http int
}{
	{inference.ErrUnavailable, codes.Unavailable, http.StatusServiceUnavailable}, // its reason may be any of the others
	{inference.ErrNotFound, codes.NotFound, http.StatusNotFound},
	{ErrNoSuchPath, codes.Unimplemented, http.StatusNotFound},
	{ErrMethod, codes.Unimplemented, http.StatusMethodNotAllowed},
	{ErrEncoding, codes.InvalidArgument, http.StatusUnsupportedMediaType},
	{ErrTooLarge, codes.ResourceExhausted, http.StatusRequestEntityTooLarge},
	{inference.ErrInvalid, codes.InvalidArgument, http.StatusBadRequest},
	{context.DeadlineExceeded, codes.DeadlineExceeded, http.StatusGatewayTimeout},
	{context.Canceled, codes.Canceled, http.StatusServiceUnavailable}, // nobody reads it
	{nil, codes.Internal, http.StatusInternalServerError},
}

// Status is an error as gRPC has it.
func Status(err error) error {
	for _, k := range kinds {
		if k.err == nil || errors.Is(err, k.err) {
			return status.Error(k.code, message(err))
		}
	}
	return nil
}

// Fail answers with an error, in the form that both protocols have.
func Fail(w http.ResponseWriter, err error) {
	for _, k := range kinds {
		if k.err == nil || errors.Is(err, k.err) {
			JSON(w, k.http, map[string]string{"error": message(err)})
			return
		}
	}
}

// JSON answers with a value.
func JSON(w http.ResponseWriter, code int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(`{"error":"the answer has no representation in JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	w.Write(text)
}

// Only lets one method through.
func Only(method string, answer func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method && !(method == http.MethodGet && r.Method == http.MethodHead) {
			w.Header().Set("Allow", method)
			Fail(w, fmt.Errorf("%w: %s takes %s, not %s", ErrMethod, r.URL.Path, method, r.Method))
			return
		}
		if err := answer(w, r); err != nil {
			Fail(w, err)
		}
	})
}

// NoSuchPath answers where there is nothing.
func NoSuchPath(w http.ResponseWriter, r *http.Request) {
	Fail(w, fmt.Errorf("%w: %s", ErrNoSuchPath, r.URL.Path))
}

// Version is the version that a text names; 0, the newest that is available, for none.
func Version(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: version %q is not a number", inference.ErrInvalid, text)
	}
	return n, nil
}

// Body is a request's body, of at most max bytes, also where it was compressed.
func Body(r *http.Request, max int64) ([]byte, error) {
	if r.ContentLength > max {
		return nil, fmt.Errorf("%w: it has %d bytes, and may have %d", ErrTooLarge, r.ContentLength, max)
	}
	from := io.LimitReader(r.Body, max+1)
	size := r.ContentLength
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		unzip, err := gzip.NewReader(from)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", inference.ErrInvalid, err)
		}
		from, size = io.LimitReader(unzip, max+1), -1
	case "deflate":
		inflate, err := zlib.NewReader(from)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", inference.ErrInvalid, err)
		}
		from, size = io.LimitReader(inflate, max+1), -1
	default:
		return nil, fmt.Errorf("%w: %q; send it as it is, or gzip or deflate", ErrEncoding, encoding)
	}
	body, err := read(from, size)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: the body is cut: %w", inference.ErrInvalid, err)
	case int64(len(body)) > max:
		return nil, fmt.Errorf("%w: it may have %d bytes", ErrTooLarge, max)
	}
	return body, nil
}

// read reads to the end. What is announced takes memory when it comes, not before.
func read(from io.Reader, announced int64) ([]byte, error) {
	const first = 1 << 20
	size := int64(first)
	if announced >= 0 {
		size = min(first, announced)
	}
	body := make([]byte, 0, size+1) // one more, so that the end is seen without growing
	for {
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, err
		case len(body) == cap(body):
			size = 2 * int64(cap(body))
			if announced >= int64(len(body)) {
				size = min(size, announced+1)
			}
			body = append(make([]byte, 0, size), body...)
		}
	}
}
