package tfserving_test

import (
	"log/slog"
	"testing"

	"google.golang.org/grpc"

	"github.com/ovsactl/ovsactl/internal/inference/inferencetest"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
	"github.com/ovsactl/ovsactl/internal/inference/tfserving"
	"github.com/ovsactl/ovsactl/internal/inference/tfserving/tfservingpb"
)

// serve serves models of inferencetest, and says where: HTTP, gRPC.
func serve(t testing.TB, max int64, models ...string) (string, string) {
	t.Helper()
	repo := inferencetest.Open(t, models...)
	return inferencetest.Serve(t, tfserving.Handler(repo, max), func(s *grpc.Server) { tfserving.Register(s, repo, max) }, protocol.ServerOptions(int(max), slog.New(slog.DiscardHandler))...)
}

// TestOpenVINO: the client of OpenVINO Model Server, unmodified.
func TestOpenVINO(t *testing.T) {
	web, rpc := serve(t, 1<<20, append(inferencetest.Healthy(), inferencetest.Broken)...)
	inferencetest.Client(t, 8, "testdata/ovms.py", web, rpc)
}

// TestTensorFlow: the client of TensorFlow Serving, unmodified.
func TestTensorFlow(t *testing.T) {
	_, rpc := serve(t, 1<<20, append(inferencetest.Healthy(), inferencetest.Broken)...)
	inferencetest.Client(t, 8, "testdata/tfs.py", rpc, inferencetest.Describe(t,
		tfservingpb.File_internal_inference_tfserving_tfservingpb_tensor_proto, tfservingpb.File_internal_inference_tfserving_tfservingpb_serving_proto))
}
