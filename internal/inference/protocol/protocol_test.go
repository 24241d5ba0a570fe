package protocol

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ovsactl/ovsactl/internal/inference"
)

func packed(text string, pack func(io.Writer) io.WriteCloser) string {
	var b bytes.Buffer
	w := pack(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func gzipped(w io.Writer) io.WriteCloser  { return gzip.NewWriter(w) }
func deflated(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }

// TestBody: a body is as long as it may be, whatever it says and however it is packed.
func TestBody(t *testing.T) {
	const max = 3 << 20
	fits, long := strings.Repeat("x", max), strings.Repeat("x", max+1)
	for _, tt := range []struct {
		name, encoding, body string
		length               int64 // -1 where it is not said
		want                 error
	}{
		{"none", "", "", 0, nil},
		{"all that may be", "", fits, max, nil},
		{"one more", "", long, max + 1, ErrTooLarge},
		{"of a length that is not said", "", fits, -1, nil},
		{"too long, and it is not said", "", long, -1, ErrTooLarge},
		{"shorter than it says", "", fits[1:], max, inference.ErrInvalid},
		{"gzip", "gzip", packed(fits, gzipped), -1, nil},
		{"too long in gzip", "gzip", packed(long, gzipped), -1, ErrTooLarge},
		{"cut gzip", "gzip", packed(fits, gzipped)[:100], -1, inference.ErrInvalid},
		{"no gzip", "gzip", "xxxxxxxxxxxxxxxx", -1, inference.ErrInvalid},
		{"deflate", "deflate", packed(fits, deflated), -1, nil},
		{"too long in deflate", "deflate", packed(long, deflated), -1, ErrTooLarge},
		{"no deflate", "deflate", "xxxxxxxxxxxxxxxx", -1, inference.ErrInvalid},
		{"what we do not know", "br", fits, max, ErrEncoding},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan error, 1)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := Body(r, max)
				if err == nil && len(body) > 0 && string(body) != fits {
					err = fmt.Errorf("it has %d bytes", len(body))
				}
				got <- err
			}))
			defer s.Close()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, io.MultiReader(strings.NewReader(tt.body)))
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = tt.length
			r.Header.Set("Content-Encoding", tt.encoding)
			go func() {
				if answer, err := http.DefaultClient.Do(r); err == nil {
					answer.Body.Close()
				}
			}()
			if err := <-got; !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// TestErrors: what errors are called in both protocols.
func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code codes.Code
		http int
	}{
		{inference.ErrNotFound, codes.NotFound, 404},
		{inference.ErrInvalid, codes.InvalidArgument, 400},
		{fmt.Errorf("%w: %w", inference.ErrUnavailable, inference.ErrInvalid), codes.Unavailable, 503},
		{ErrTooLarge, codes.ResourceExhausted, 413},
		{fmt.Errorf("%w: %w", inference.ErrInvalid, ErrTooLarge), codes.ResourceExhausted, 413},
		{ErrNoSuchPath, codes.Unimplemented, 404},
		{ErrMethod, codes.Unimplemented, 405},
		{ErrEncoding, codes.InvalidArgument, 415},
		{context.DeadlineExceeded, codes.DeadlineExceeded, 504},
		{context.Canceled, codes.Canceled, 503},
		{errors.New("a layer has no memory"), codes.Internal, 500},
	} {
		err := fmt.Errorf("model %q: %w", "a", tt.err)
		if got := status.Code(Status(err)); got != tt.code {
			t.Errorf("%v is %s over gRPC, want %s", err, got, tt.code)
		}
		w := httptest.NewRecorder()
		Fail(w, err)
		if w.Code != tt.http || !strings.Contains(w.Body.String(), `{"error":"model \"a\": `) {
			t.Errorf("%v is %d, %s; want %d", err, w.Code, w.Body, tt.http)
		}
	}
}

// TestLongErrors: what was asked may be long, and what is answered is not.
func TestLongErrors(t *testing.T) {
	err := fmt.Errorf("input %q is missing", strings.Repeat("é", 1<<20))
	w := httptest.NewRecorder()
	Fail(w, err)
	for what, n := range map[string]int{"HTTP": w.Body.Len(), "gRPC": len(status.Convert(Status(err)).Message())} {
		if n < 2000 || n > 2100 {
			t.Errorf("over %s it has %d bytes", what, n)
		}
	}
}

// TestTooLongBeforeItIsRead: a body that says how long it is need not be sent.
func TestTooLongBeforeItIsRead(t *testing.T) {
	for length, want := range map[int64]error{10: io.ErrNoProgress, 11: ErrTooLarge} {
		r := httptest.NewRequest(http.MethodPost, "/", iotest.ErrReader(io.ErrNoProgress))
		r.ContentLength = length
		if _, err := Body(r, 10); !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", length, err, want)
		}
	}
}

func TestVersion(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "0": 0, "12": 12, "9223372036854775807": 9223372036854775807} {
		if n, err := Version(text); err != nil || n != want {
			t.Errorf("%q is %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"-1", "x", "1.0", "9223372036854775808", " 1"} {
		if _, err := Version(text); !errors.Is(err, inference.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
