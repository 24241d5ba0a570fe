package licenseserver_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
)

// The libraries that run models, as `make test-deps` fetches them.
const (
	onnxRuntime = "bin/onnxruntime/libonnxruntime.so.1.21.1"
	openVINO    = "bin/openvino"
)

// programs builds the runtime and the model server into a directory that the server
// sees, with a library that runs models, and returns where that is there.
func programs(t testing.TB, engine string) (dir, library string) {
	t.Helper()
	path, known := onnxRuntime, onnxRuntime
	if engine == "openvino" {
		path, known = openVINO, "openvino"
	}
	from := filepath.Join("../../..", path)
	if _, err := os.Stat(from); err != nil {
		need.Absent(t, known, "there is no "+path)
	}
	dir = licensetest.ProgramDir(t)
	if err := (run.Cmd{Path: "go", Args: []string{"build", "-o", dir, "../../ovsa-engine", "../../ovsaruntime"}}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	library = filepath.Join(dir, "lib")
	if engine == "openvino" {
		if err := os.CopyFS(library, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		return dir, library
	}
	licensetest.CopyProgram(t, from, library)
	return dir, library
}

// version is one of a model, which the customer has a licence for.
type version struct {
	model string
	n     int
}

func (v version) stem() string { return fmt.Sprintf("%s-%d", v.model, v.n) }

// licensed seals files of the guide's directory as a version of a model, sells and stores
// its licence, and puts both where the runtime finds them. There is a Sale.config: see
// sold.
func (g *guide) licensed(model string, n int, files ...string) version {
	g.t.Helper()
	v := version{model, n}
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(v.stem())))
	g.tool(g.isv, fmt.Sprintf("controlAccess -i @%s -n %s -d %s -v %d -p @%s.dat -m @%s.masterlic -k @isv_keystore -g %s-%s-4%s-8%s-%s",
		strings.Join(files, " @"), model, model, n, v.stem(), v.stem(), id[:8], id[8:12], id[12:15], id[15:18], id[18:30]))
	g.tool(g.isv, fmt.Sprintf("sale -m @%s.masterlic -k @isv_keystore -l @Sale.config -t @runtime.tcb -p @primary_cust.csr.crt -c @%s.lic", v.stem(), v.stem()))
	g.stored(v.stem(), "cust", g.path("DB/ovsa.db"))
	dir := g.path(fmt.Sprintf("artefacts/%s/%d", model, n))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		g.t.Fatal(err)
	}
	for _, suffix := range []string{".dat", ".lic"} {
		if err := os.Rename(g.path(v.stem()+suffix), filepath.Join(dir, "model"+suffix)); err != nil {
			g.t.Fatal(err)
		}
	}
	return v
}

// licensedChain is licensed, of a chain that is in a directory already.
func (g *guide) licensedChain(model, dir string) version {
	g.t.Helper()
	for _, name := range []string{"model.xml", "model.bin"} {
		if err := os.Symlink(filepath.Join(dir, name), g.path(name)); err != nil {
			g.t.Fatal(err)
		}
	}
	return g.licensed(model, 1, "model.xml", "model.bin")
}

// modelServer is a runtime that serves models with the engine of ours, behind nginx.
type modelServer struct {
	*runner
	*front
}

// serving starts it for versions that are licensed. r.until says when they are ready.
func (g *guide) serving(engine string, versions []version, flags ...string) modelServer {
	g.t.Helper()
	dir, library := programs(g.t, engine)
	s := g.modelServer(dir, engine, library, versions, flags...)
	s.start()
	g.t.Cleanup(s.end)
	return s
}

// modelServer is serving, but for the start and where the programs are.
func (g *guide) modelServer(dir, engine, library string, versions []version, flags ...string) modelServer {
	g.t.Helper()
	certs := g.path("Modelserver")
	if code, out := g.ovsaruntime("gencerts", "-certs", certs, "-client", "client"); code != 0 {
		g.t.Fatalf("gencerts: exit %d\n%s", code, out)
	}
	var configs []string
	for i, v := range versions {
		if slices.ContainsFunc(versions[:i], func(other version) bool { return other.model == v.model }) {
			continue
		}
		configs = append(configs, fmt.Sprintf(`{"config":{"name":%q, "base_path":%q, "custom_loader_options": {"loader_name": "ovsa", "keystore": %q, "controlled_access_file": "model"}}}`,
			v.model, g.path("artefacts/"+v.model), g.path("cust_keystore")))
	}
	r := g.runner(`{"model_config_list":[` + strings.Join(configs, ",") + `]}`)
	f := r.front(certs, flags...)
	r.args = append(r.args[:slices.Index(r.args, "--")], "-engine", engine, "-library", library)
	r.program = filepath.Join(dir, "ovsaruntime")
	return modelServer{r, f}
}

// floats are the bytes of 32-bit floats.
func floats(all ...float32) (b []byte) {
	for _, v := range all {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// asker asks a model server for y of x, both bytes of floats.
type asker func(model string, shape []int64, x []byte) (y []byte, err error)

// overGRPC asks with a connection of its own.
func overGRPC(t testing.TB, address string, c credentials.TransportCredentials) asker {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	client := kservepb.NewGRPCInferenceServiceClient(conn)
	return func(model string, shape []int64, x []byte) ([]byte, error) {
		answer, err := client.ModelInfer(t.Context(), &kservepb.ModelInferRequest{ModelName: model, RawInputContents: [][]byte{x},
			Inputs: []*kservepb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32", Shape: shape}}})
		if err != nil {
			return nil, err
		}
		if len(answer.RawOutputContents) != 1 {
			return nil, fmt.Errorf("%d outputs", len(answer.RawOutputContents))
		}
		return answer.RawOutputContents[0], nil
	}
}

// overREST asks with binary tensors.
func overREST(t testing.TB, url string, c *http.Client) asker {
	return func(model string, shape []int64, x []byte) ([]byte, error) {
		request, err := restRequest(t, url, model, shape, x, bytes.NewReader)
		if err != nil {
			return nil, err
		}
		return restAnswer(c, request)
	}
}

// restRequest is one for y of x, as bytes of them.
func restRequest[R io.Reader](t testing.TB, url, model string, shape []int64, x []byte, reader func([]byte) R) (*http.Request, error) {
	dims, err := json.Marshal(shape)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, `{"inputs":[{"name":"x","datatype":"FP32","shape":%s,"parameters":{"binary_data_size":%d}}],"parameters":{"binary_data_output":true}}`, dims, len(x))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v2/models/"+model+"/infer", reader(append(head, x...)))
	if err != nil {
		return nil, err
	}
	request.ContentLength = int64(len(head) + len(x))
	request.Header.Set("Inference-Header-Content-Length", fmt.Sprint(len(head)))
	return request, nil
}

func restAnswer(c *http.Client, request *http.Request) ([]byte, error) {
	response, err := c.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", response.Status, body)
	}
	var n int
	if _, err := fmt.Sscan(response.Header.Get("Inference-Header-Content-Length"), &n); err != nil || n > len(body) {
		return nil, fmt.Errorf("a head of %q bytes of %d", response.Header.Get("Inference-Header-Content-Length"), len(body))
	}
	return body[n:], nil
}
