package licenseserver_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
	"github.com/ovsactl/ovsactl/internal/inference/onnxtest"
)

// TestHostingEngine: a licensed model is answered for by the server of ours, behind
// nginx, without a network of its own.
func TestHostingEngine(t *testing.T) {
	g := hostGuide(t, "nginx")
	g.sold("-t Sale")
	g.write("model.onnx", onnxtest.Affine([]float32{1, 2, 3, 10, 20, 30}, []float32{0.5, 0, -1}))
	r := g.serving("onnxruntime", []version{g.licensed("affine", 1, "model.onnx")})
	f := r.front
	r.until("ready")

	client := f.client("client")
	post := func(path, body string) (int, string) {
		code, answer := f.ask(client, http.MethodPost, f.rest+path, []byte(body))
		return code, string(answer)
	}
	code, answer := post("/v2/models/affine/infer", `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[2,1]}]}`)
	var said struct {
		Outputs []struct{ Data []float32 }
	}
	if err := json.Unmarshal([]byte(answer), &said); err != nil || code != 200 || len(said.Outputs) != 1 || !slices.Equal(said.Outputs[0].Data, []float32{12.5, 24, 35}) {
		t.Errorf("the Open Inference Protocol: %d, %s (%v)", code, answer, err)
	}
	if code, answer := post("/v1/models/affine/versions/1:predict", `{"instances":[[2,1]]}`); code != 200 || !strings.Contains(strings.Join(strings.Fields(answer), ""), `{"predictions":[[12.5,24`) {
		t.Errorf("TensorFlow Serving's: %d, %s", code, answer)
	}
	if code, answer := post("/v2/models/affine/infer", `{"inputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[2,1]}]}`); code != 400 || !strings.Contains(answer, `\"x\" is missing`) {
		t.Errorf("a wrong request: %d, %s", code, answer)
	}

	// Over gRPC, with the client of somebody else.
	conn, err := grpc.NewClient(strings.TrimPrefix(f.grpc, "https://"), grpc.WithTransportCredentials(credentials.NewTLS(client.Transport.(*http.Transport).TLSClientConfig)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	remote := kservepb.NewGRPCInferenceServiceClient(conn)
	request := &kservepb.ModelInferRequest{ModelName: "affine", RawInputContents: [][]byte{floats(2, 1)},
		Inputs: []*kservepb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32", Shape: []int64{1, 2}}}}
	got, err := remote.ModelInfer(t.Context(), request)
	if err != nil || len(got.RawOutputContents) != 1 || !bytes.Equal(got.RawOutputContents[0], floats(12.5, 24, 35)) {
		t.Errorf("over gRPC: %v, %v", got, err)
	}
	request.ModelName = "another"
	if _, err := remote.ModelInfer(t.Context(), request); status.Code(err) != codes.NotFound {
		t.Errorf("another model: %v", err)
	}
	stranger, err := grpc.NewClient(strings.TrimPrefix(f.grpc, "https://"), grpc.WithTransportCredentials(credentials.NewTLS(f.with(nil).Transport.(*http.Transport).TLSClientConfig)))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := kservepb.NewGRPCInferenceServiceClient(stranger).ServerLive(t.Context(), &kservepb.ServerLiveRequest{}); err == nil {
		t.Error("without a certificate it answers over gRPC")
	}

	r.end()
	if left := r.left(); len(left) > 0 {
		t.Errorf("there is %q", left)
	}
}
