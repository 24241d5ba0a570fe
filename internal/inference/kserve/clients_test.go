package kserve_test

import (
	"log/slog"
	"testing"

	"google.golang.org/grpc"

	"github.com/ovsactl/ovsactl/internal/inference/inferencetest"
	"github.com/ovsactl/ovsactl/internal/inference/kserve"
	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
)

// serve serves models of inferencetest, and says where: HTTP, gRPC.
func serve(t testing.TB, max int, models ...string) (string, string) {
	t.Helper()
	repo := inferencetest.Open(t, models...)
	return inferencetest.Serve(t, kserve.Handler(repo, int64(max)), func(s *grpc.Server) { kserve.Register(s, repo) }, protocol.ServerOptions(max, slog.New(slog.DiscardHandler))...)
}

// TestTriton: NVIDIA's client, unmodified.
func TestTriton(t *testing.T) {
	web, rpc := serve(t, 1<<19, append(inferencetest.Healthy(), inferencetest.Broken)...)
	inferencetest.Client(t, 15, "testdata/triton.py", web, rpc, inferencetest.Describe(t, kservepb.File_internal_inference_kserve_kservepb_kserve_proto))
}
