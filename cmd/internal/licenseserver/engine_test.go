package licenseserver_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

	// What it has done is told to whoever looks after the guest, and not to clients.
	if body, err := fetchBody(r.ops + "/metrics"); err != nil || !bytes.Contains(body, []byte(`ovsa_engine_requests_total{model="affine",result="ok",version="1"} 3`)) || !bytes.Contains(body, []byte("ovsaruntime_engine_up 1\n")) {
		t.Errorf("metrics: %v\n%s", err, body)
	}
	if code, _ := f.ask(client, http.MethodGet, f.rest+"/metrics", nil); code != 404 {
		t.Errorf("metrics for clients: %d", code)
	}

	// What is said of the processes, and by them, has no key.
	told := r.said(t)
	r.end()
	if left := r.left(); len(left) > 0 {
		t.Errorf("there is %q", left)
	}
	told = append(told, r.log.String()...)
	key := g.acquire(t, "artefacts/affine/1/model.lic")
	for name, form := range map[string][]byte{
		"as it is": key.Bytes(), "in hexadecimal": hex.AppendEncode(nil, key.Bytes()), "in base64": base64.RawStdEncoding.AppendEncode(nil, key.Bytes()), "for addresses": base64.RawURLEncoding.AppendEncode(nil, key.Bytes()),
	} {
		if bytes.Contains(bytes.ToLower(told), bytes.ToLower(form)) {
			t.Errorf("the model's key is told %s", name)
		}
	}
}

// children are the processes that the runtime has started, and those that they have.
func (r *runner) children() (pids []int) {
	for todo := []int{r.process.Process.Pid}; len(todo) > 0; todo = todo[1:] {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", todo[0]))
		for _, path := range threads {
			text, _ := os.ReadFile(path) // a thread that has ended has none
			for _, word := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(word); err == nil {
					pids, todo = append(pids, pid), append(todo, pid)
				}
			}
		}
	}
	return pids
}

// said is what everybody may know of the runtime and of what it has started.
func (r *runner) said(t *testing.T) (all []byte) {
	t.Helper()
	n := 0
	for _, process := range append(r.children(), r.process.Process.Pid) {
		for _, file := range []string{"cmdline", "environ"} {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", process, file))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, data...)
		}
		n++
	}
	if n < 3 || !bytes.Contains(all, []byte("ovsa-engine")) {
		t.Fatalf("there are %d processes: %q", n, all)
	}
	return all
}
