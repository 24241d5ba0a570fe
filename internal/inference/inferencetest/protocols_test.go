package inferencetest_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ovsactl/ovsactl/internal/inference/inferencetest"
	"github.com/ovsactl/ovsactl/internal/inference/kserve"
	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
	"github.com/ovsactl/ovsactl/internal/inference/tfserving"
	"github.com/ovsactl/ovsactl/internal/inference/tfserving/tfservingpb"
)

// TestOneServer: both protocols at the same ports, as a model server has them.
func TestOneServer(t *testing.T) {
	repo := inferencetest.Open(t, "affine")
	mux := http.NewServeMux()
	mux.Handle("/v1/", tfserving.Handler(repo, protocol.MaxRequest))
	mux.Handle("/v2", kserve.Handler(repo, protocol.MaxRequest))
	mux.Handle("/v2/", kserve.Handler(repo, protocol.MaxRequest))
	web, rpc := inferencetest.Serve(t, mux, func(s *grpc.Server) {
		kserve.Register(s, repo)
		tfserving.Register(s, repo, protocol.MaxRequest)
	}, protocol.ServerOptions(protocol.MaxRequest, slog.New(slog.DiscardHandler))...)

	for path, want := range map[string]int{"/v1/models/affine": 200, "/v2": 200, "/v2/": 200, "/v2/models/affine": 200, "/v3": 404} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+web+path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s is %d, want %d", path, answer.StatusCode, want)
		}
	}
	c, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r, err := kservepb.NewGRPCInferenceServiceClient(c).ModelReady(t.Context(), &kservepb.ModelReadyRequest{Name: "affine"}); err != nil || !r.GetReady() {
		t.Errorf("%v, %v", r, err)
	}
	status := &tfservingpb.GetModelStatusRequest{ModelSpec: &tfservingpb.ModelSpec{Name: "affine"}}
	if r, err := tfservingpb.NewModelServiceClient(c).GetModelStatus(t.Context(), status); err != nil || len(r.GetModelVersionStatus()) != 3 {
		t.Errorf("%v, %v", r, err)
	}
}
