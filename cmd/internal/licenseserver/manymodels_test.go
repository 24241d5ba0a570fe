package licenseserver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/credentials"

	"github.com/ovsactl/ovsactl/internal/inference/onnxtest"
)

// Of a thousand requests that are there at the same time, through the front, each gets its
// own answer, and so does each of a thousand others meanwhile.
func TestHostingThousandRequests(t *testing.T) {
	s := servesDoubles(t)
	if at, err := s.requests(1000); err != nil || at != 1000 {
		t.Errorf("of a thousand requests %d were there at the same time: %v", at, err)
	}
	s.until("ready")
	if started := s.status().Engine.Started; started != 1 {
		t.Errorf("the engine was started %d times", started)
	}
}

// servesDoubles serves y = 2x + 1, as the model "double".
func servesDoubles(t testing.TB) modelServer {
	t.Helper()
	g := hostGuide(t, "nginx")
	g.sold("-t Sale")
	g.write("model.onnx", onnxtest.Affine([]float32{2}, []float32{1}))
	s := g.serving("onnxruntime", []version{g.licensed("double", 1, "model.onnx")})
	s.until("ready")
	return s
}

// requests sends so many over REST, each but for its last byte until all are there, and as
// many over gRPC while they are. It returns how many were there at the same time, of those
// over REST alone, and what is wrong with an answer.
func (s modelServer) requests(n int) (atOnce int, err error) {
	t := s.front.t
	client := s.front.client("client")
	client.Timeout = 2 * time.Minute
	secure := credentials.NewTLS(client.Transport.(*http.Transport).TLSClientConfig)
	var remote []asker
	for range 10 {
		remote = append(remote, overGRPC(t, strings.TrimPrefix(s.front.grpc, "https://"), secure))
	}
	var begun atomic.Int64
	all, release := make(chan struct{}), make(chan struct{})
	begin := func() {
		if begun.Add(1) == int64(n) {
			close(all)
		}
	}
	check := func(i int, ask func(shape []int64, x []byte) ([]byte, error)) error {
		shape := []int64{int64(1 + i%50), 1}
		var x, want []float32
		for row := range shape[0] {
			v := float32(i) + float32(row)/64
			x, want = append(x, v), append(want, 2*v+1)
		}
		y, err := ask(shape, floats(x...))
		if err == nil && !bytes.Equal(y, floats(want...)) {
			err = fmt.Errorf("the answer to %v is %x", x, y)
		}
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		return nil
	}
	rest, ctx := errgroup.WithContext(t.Context())
	for i := range n {
		rest.Go(func() error {
			return check(i, func(shape []int64, x []byte) ([]byte, error) {
				request, err := restRequest(t, s.front.rest, "double", shape, x, func(b []byte) io.Reader {
					last := len(b) - 1
					return io.MultiReader(bytes.NewReader(b[:last]), &held{begin, release, bytes.NewReader(b[last:])})
				})
				if err != nil {
					return nil, err
				}
				return restAnswer(client, request.WithContext(ctx))
			})
		})
	}
	select {
	case <-all:
	case <-ctx.Done():
		return int(begun.Load()), rest.Wait()
	}
	var others errgroup.Group
	others.SetLimit(n / 4)
	for i := range n {
		others.Go(func() error {
			return check(n+i, func(shape []int64, x []byte) ([]byte, error) { return remote[i%len(remote)]("double", shape, x) })
		})
	}
	failed := others.Wait()
	close(release)
	return int(begun.Load()), errors.Join(failed, rest.Wait())
}

// held is a reader that says when it is read first, and waits then.
type held struct {
	begun func()
	until <-chan struct{}
	io.Reader
}

func (h *held) Read(b []byte) (int, error) {
	if h.begun != nil {
		h.begun()
		h.begun = nil
	}
	<-h.until
	return h.Reader.Read(b)
}

const manyModels, manyVersions = 10, 3

// allReady is what to wait for.
var allReady = strings.TrimSuffix(strings.Repeat("ready, ", manyModels*manyVersions), ", ")

// Of many models and versions each answers for itself, the newest where none is named.
func TestHostingManyModels(t *testing.T) {
	s := servesMany(t)
	client := s.front.client("client")
	ask := overREST(t, s.front.rest, client)
	for m := range manyModels {
		for v := range manyVersions + 1 { // 0 for the newest
			name, n := modelName(m), v
			if v > 0 {
				name = fmt.Sprintf("%s/versions/%d", name, v)
			} else {
				n = manyVersions
			}
			y, err := ask(name, []int64{2, 1}, floats(3, -1))
			factor, offset := manyAffine(m, n)
			if want := floats(3*factor+offset, -factor+offset); err != nil || !bytes.Equal(y, want) {
				t.Errorf("%s: %x, want %x, %v", name, y, want, err)
			}
		}
	}
}

func modelName(m int) string { return fmt.Sprintf("model%c", 'a'+m) }

// manyAffine is what a version of a model computes.
func manyAffine(m, n int) (factor, offset float32) { return float32(2 + m), float32(100 * n) }

// servesMany serves all of them, each with a licence of its own.
func servesMany(t testing.TB) modelServer {
	t.Helper()
	g := hostGuide(t, "nginx")
	g.sold("-t Sale")
	var all []version
	for m := range manyModels {
		for n := 1; n <= manyVersions; n++ {
			factor, offset := manyAffine(m, n)
			g.write("model.onnx", onnxtest.Affine([]float32{factor}, []float32{offset}))
			all = append(all, g.licensed(modelName(m), n, "model.onnx"))
		}
	}
	s := g.serving("onnxruntime", all)
	s.until(allReady)
	return s
}
