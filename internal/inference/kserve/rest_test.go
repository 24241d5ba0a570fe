package kserve_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/ovsactl/ovsactl/internal/inference/inferencetest"
	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
)

// ask sends a request, and returns the answer with its code and header.
func ask(t testing.TB, method, url, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

// TestREST: the answers to requests, byte for byte.
func TestREST(t *testing.T) {
	web, _ := serve(t, 1<<20, append(inferencetest.Healthy(), inferencetest.Broken)...)
	const x = `"name":"x","datatype":"FP32","shape":[1,4]`
	for _, tt := range []struct {
		name, method, path, body string
		code                     int
		want                     string // all of it, or with ... a part
	}{
		{"live", "GET", "health/live", "", 200, `{"live":true}`},
		{"ready", "GET", "health/ready", "", 503, `{"error":"version 1 of model \"broken\": not available: ...`},
		{"model ready", "GET", "models/affine/versions/1/ready", "", 200, `{"name":"affine","ready":true}`},
		{"model not ready", "GET", "models/affine/versions/3/ready", "", 503, `...weights.bin is cut"}`},
		{"no such model", "GET", "models/nobody/ready", "", 404, `{"error":"model \"nobody\": not found"}`},
		{"version 0", "GET", "models/affine/versions/0", "", 404, `{"error":"version 0 of model \"affine\": not found"}`},
		{"metadata", "GET", "models/two", "", 200, `{"name":"two","versions":["1"],"platform":"reference","inputs":[{"name":"a","datatype":"FP32","shape":[-1,2]},{"name":"b","datatype":"FP32","shape":[-1,2]}],"outputs":[{"name":"sum","datatype":"FP32","shape":[-1,2]},{"name":"product","datatype":"FP32","shape":[-1,2]}]}`},
		{"a scalar's shape", "GET", "models/total", "", 200, `..."outputs":[{"name":"total","datatype":"FP32","shape":[]}]}`},
		{"no such path", "GET", "nothing", "", 404, `{"error":"no such path: /v2/nothing"}`},
		{"wrong method", "GET", "models/affine/infer", "", 405, `{"error":"method not allowed: /v2/models/affine/infer takes POST, not GET"}`},
		{"flat", "POST", "models/affine/versions/1/infer", `{"id":"a\"b","inputs":[{` + x + `,"data":[1,0,0,0]}]}`, 200,
			`{"model_name":"affine","model_version":"1","id":"a\"b","outputs":[{"name":"y","datatype":"FP32","shape":[1,3],"data":[1.5,1.75,103.0]}]}`},
		{"nested", "POST", "models/affine/infer", `{"inputs":[{` + x + `,"data":[[1,0,0,0]]}]}`, 200,
			`{"model_name":"affine","model_version":"2","outputs":[{"name":"y","datatype":"FP32","shape":[1,3],"data":[2.5,3.75,106.0]}]}`},
		{"data before its type", "POST", "models/affine/infer", `{"inputs":[{"data":[1,0,0,0],` + x + `}]}`, 200, `..."data":[2.5,3.75,106.0]}]}`},
		{"what we do not know is skipped", "POST", "models/affine/infer", `{"new":[{}],"parameters":{"priority":1},"inputs":[{` + x + `,"parameters":{"p":"q"},"data":[1,0,0,0]}],"outputs":[{"name":"y","parameters":{"p":true}}]}`, 200, `..."data":[2.5,3.75,106.0]}]}`},
		{"a scalar", "POST", "models/total/infer", `{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,2]}]}`, 200,
			`..."outputs":[{"name":"total","datatype":"FP32","shape":[],"data":[3.0]}]}`},
		{"not the nesting that it says", "POST", "models/affine/infer", `{"inputs":[{` + x + `,"data":[[1,0],[0,0]]}]}`, 400, `...input \"x\": invalid request: its data has shape [2 2], and it says [1 4]"}`},
		{"too few", "POST", "models/affine/infer", `{"inputs":[{` + x + `,"data":[1,2,3]}]}`, 400, `...its data has shape [3], and it says [1 4]"}`},
		{"no array", "POST", "models/total/infer", `{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":1}]}`, 400, `...its data is not an array"}`},
		{"no data", "POST", "models/affine/infer", `{"inputs":[{` + x + `}]}`, 400, `...it has no data"}`},
		{"no shape", "POST", "models/affine/infer", `{"inputs":[{"name":"x","datatype":"FP32","data":[1]}]}`, 400, `...input \"x\" has no shape"}`},
		{"a shape without end", "POST", "models/affine/infer", `{"inputs":[{"name":"x","datatype":"FP32","shape":[4611686018427387904,4],"data":[1]}]}`, 400, `...has too many elements"}`},
		{"a negative shape", "POST", "models/affine/infer", `{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,4],"data":[1]}]}`, 400, `...is negative"}`},
		{"no such datatype", "POST", "models/affine/infer", `{"inputs":[{"name":"x","datatype":"FLOAT","shape":[1,4],"data":[1,0,0,0]}]}`, 400, `...there is no datatype \"FLOAT\""}`},
		{"twice the same input", "POST", "models/affine/infer", `{"inputs":[{` + x + `,"data":[1,0,0,0]},{` + x + `,"data":[1,0,0,0]}]}`, 400, `...is there twice"}`},
		{"twice the same output", "POST", "models/affine/infer", `{"inputs":[{` + x + `,"data":[1,0,0,0]}],"outputs":[{"name":"y"},{"name":"y"}]}`, 400, `...is wanted twice"}`},
		{"no inputs", "POST", "models/affine/infer", `{}`, 400, `...input \"x\" is missing...`},
		{"inputs without end", "POST", "models/affine/infer", `{"inputs":[` + strings.Repeat(`{"shape":[]},`, 4096) + `{"shape":[]}]}`, 400, `...more than 4096 inputs or outputs"}`},
		{"outputs without end", "POST", "models/affine/infer", `{"outputs":[` + strings.Repeat(`{},`, 4096) + `{}]}`, 400, `...more than 4096 inputs or outputs"}`},
		{"no JSON", "POST", "models/affine/infer", `{"inputs":`, 400, `{"error":"invalid request: JSON at byte 10: it ends where an array is expected"}`},
		{"more than JSON", "POST", "models/affine/infer", `{}{}`, 400, `...where the end is expected"}`},
		{"a size without the header", "POST", "models/affine/infer", `{"inputs":[{` + x + `,"parameters":{"binary_data_size":16}}]}`, 400, `...no header Inference-Header-Content-Length"}`},
		{"texts", "POST", "models/texts/infer", `{"inputs":[{"name":"text","datatype":"BYTES","shape":[2],"data":["a\u00e9",""]}],"outputs":[{"name":"upper"},{"name":"length"}]}`, 200,
			`..."outputs":[{"name":"upper","datatype":"BYTES","shape":[2],"data":["AÉ",""]},{"name":"length","datatype":"INT32","shape":[2],"data":[3,0]}]}`},
		{"an output that JSON cannot have", "POST", "models/short/infer", `{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}`, 400, `...output \"y\" is of type BF16, which has no representation in JSON; ask for binary_data"}`},
		{"a model whose answer is wrong", "POST", "models/wrong/infer", `{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}`, 500, `{"error":"run model \"wrong\": an output is wrong: ...`},
		{"a model that fails", "POST", "models/failing/infer", `{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}`, 500, `{"error":"run model \"failing\": a layer has no memory"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, header, got := ask(t, tt.method, "http://"+web+"/v2/"+tt.path, tt.body)
			if header.Get("Content-Type") != "application/json" {
				t.Errorf("it is of type %q", header.Get("Content-Type"))
			}
			match(t, code, got, tt.code, tt.want)
		})
	}
}

// match compares an answer; the wanted one may begin or end with "...".
func match(t testing.TB, code int, got string, wantCode int, want string) {
	t.Helper()
	part, anyStart := strings.CutPrefix(want, "...")
	part, anyEnd := strings.CutSuffix(part, "...")
	ok := strings.Contains(got, part) && (anyStart || strings.HasPrefix(got, part)) && (anyEnd || strings.HasSuffix(got, part))
	if code != wantCode || !ok {
		t.Errorf("%d %s\nwant %d %s", code, got, wantCode, want)
	}
}

// TestBinary: the extension for binary data, byte for byte.
func TestBinary(t *testing.T) {
	web, _ := serve(t, 1<<20, "affine", "two", "texts")
	url := "http://" + web + "/v2/models/"
	tensor := func(name string, size int) string {
		return fmt.Sprintf(`{"name":%q,"datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":%d}}`, name, size)
	}
	a, b := string(inferencetest.Data(1, 2)), string(inferencetest.Data(3, 4))
	wants := func(parameters, outputs string) string {
		return `{"parameters":{` + parameters + `},"inputs":[` + tensor("b", 8) + "," + tensor("a", 8) + `],"outputs":[` + outputs + `]}`
	}
	for _, tt := range []struct {
		name, head, data, length string
		code                     int
		want                     string // of the JSON
		behind                   string
	}{
		{"as JSON", wants("", ""), b + a, "", 200, `..."data":[4.0,6.0]},{"name":"product","datatype":"FP32","shape":[1,2],"data":[3.0,8.0]}]}`, ""},
		{"all as binary", wants(`"binary_data_output":true`, ""), b + a, "", 200,
			`{"model_name":"two","model_version":"1","outputs":[{"name":"sum","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}},{"name":"product","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]}`,
			string(inferencetest.Data(4, 6, 3, 8))},
		{"an output says otherwise", wants(`"binary_data_output":true`, `{"name":"product"},{"name":"sum","parameters":{"binary_data":false}}`), b + a, "", 200,
			`..."outputs":[{"name":"product","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}},{"name":"sum","datatype":"FP32","shape":[1,2],"data":[4.0,6.0]}]}`,
			string(inferencetest.Data(3, 8))},
		{"one as binary", wants("", `{"name":"product","parameters":{"binary_data":true}}`), b + a, "", 200, `..."parameters":{"binary_data_size":8}}]}`, string(inferencetest.Data(3, 8))},
		{"cut", wants("", ""), b + a[:7], "", 400, `...input \"a\": invalid request: its binary data has 8 bytes, of which 7 are there"}`, ""},
		{"too long", wants("", ""), b + a + "x", "", 400, `...1 bytes are behind the last input's"}`, ""},
		{"a wrong size", `{"inputs":[` + tensor("a", 12) + "," + tensor("b", 4) + `]}`, a + b, "", 400, `...it has 12 bytes, and shape [1 2] of FP32 takes 8"}`, ""},
		{"a negative size", `{"inputs":[` + tensor("a", -1) + `]}`, a, "", 400, `...binary_data_size is -1"}`, ""},
		{"a size beyond all", `{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":9223372036854775808}}]}`, a, "", 400, `...is not an INT64"}`, ""},
		{"data and a size", `{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2],"parameters":{"binary_data_size":8}}]}`, a, "", 400, `...it has data, and a binary_data_size"}`, ""},
		{"a header beyond the body", wants("", ""), b + a, "100000", 400, `...Inference-Header-Content-Length is \"100000\", and the body has ...`, ""},
		{"a negative header", wants("", ""), b + a, "-1", 400, `...Inference-Header-Content-Length is \"-1\"...`, ""},
		{"a header that is none", wants("", ""), b + a, "ten", 400, `...Inference-Header-Content-Length is \"ten\"...`, ""},
		{"a header in the JSON", wants("", ""), b + a, "5", 400, `...JSON at byte 5: it ends in a string"}`, ""},
		{"an extension that we do not have", `{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"parameters":{"shared_memory_region":"r"}}]}`, "", "", 400, `...parameter \"shared_memory_region\" belongs to an extension that this server does not have"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			length := tt.length
			if length == "" {
				length = fmt.Sprint(len(tt.head))
			}
			code, header, got := ask(t, "POST", url+"two/infer", tt.head+tt.data, "Inference-Header-Content-Length", length)
			if tt.behind != "" {
				if header.Get("Content-Type") != "application/octet-stream" {
					t.Errorf("it is of type %q", header.Get("Content-Type"))
				}
				var n int
				if _, err := fmt.Sscan(header.Get("Inference-Header-Content-Length"), &n); err != nil || n > len(got) {
					t.Fatalf("the JSON has %q bytes, of %d", header.Get("Inference-Header-Content-Length"), len(got))
				}
				if got[n:] != tt.behind {
					t.Errorf("behind the JSON is %x, want %x", got[n:], tt.behind)
				}
				got = got[:n]
			} else if header.Get("Inference-Header-Content-Length") != "" {
				t.Error("it says that it has binary data")
			}
			match(t, code, got, tt.code, tt.want)
		})
	}
	t.Run("bytes that are no text", func(t *testing.T) {
		head := `{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}]`
		for outputs, want := range map[string]int{`,"outputs":[{"name":"text_bytes"}]}`: 400, `,"outputs":[{"name":"text_bytes","parameters":{"binary_data":true}}]}`: 200} {
			code, _, got := ask(t, "POST", url+"texts/infer", head+outputs+"\x01\x00\x00\x00\xff", "Inference-Header-Content-Length", fmt.Sprint(len(head)+len(outputs)))
			if code != want {
				t.Errorf("%s: %d %s, want %d", outputs, code, got, want)
			}
		}
	})
}

// TestDefect: a request that panics ends neither the server nor the model's turns.
func TestDefect(t *testing.T) {
	web, rpc := serve(t, 1<<20, "panicking", "affine")
	client := kservepb.NewGRPCInferenceServiceClient(dial(t, rpc))
	for range 2 * runtime.GOMAXPROCS(0) {
		_, err := client.ModelInfer(t.Context(), &kservepb.ModelInferRequest{
			ModelName: "panicking", RawInputContents: [][]byte{inferencetest.Data(1)},
			Inputs: []*kservepb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32", Shape: []int64{1}}},
		})
		if status.Code(err) != codes.Internal {
			t.Errorf("%v", err)
		}
	}
	code, _, got := ask(t, "POST", "http://"+web+"/v2/models/affine/infer", `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,0,0,0]}]}`)
	match(t, code, got, 200, `..."data":[2.5,3.75,106.0]}]}`)
}

// TestManyMessages: a small request over gRPC is not one that takes gigabytes.
func TestManyMessages(t *testing.T) {
	_, rpc := serve(t, 16<<20, "affine")
	client := kservepb.NewGRPCInferenceServiceClient(dial(t, rpc))
	for n, want := range map[int]string{1 << 16: "there is no type", 1<<16 + 1: "more than 65536 messages"} {
		r := &kservepb.ModelInferRequest{ModelName: "affine"}
		for range n {
			r.Inputs = append(r.Inputs, &kservepb.ModelInferRequest_InferInputTensor{})
		}
		if _, err := client.ModelInfer(t.Context(), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d messages: %v, want %q", n, err, want)
		}
	}
}

func dial(t testing.TB, rpc string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(rpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestReady: the server is ready when all models are; grpc.health.v1 says the same.
func TestReady(t *testing.T) {
	for _, tt := range []struct {
		models []string
		code   int
		state  grpc_health_v1.HealthCheckResponse_ServingStatus
	}{
		{[]string{"affine", "two"}, 200, grpc_health_v1.HealthCheckResponse_SERVING}, // one version of affine is broken
		{[]string{"affine", inferencetest.Broken}, 503, grpc_health_v1.HealthCheckResponse_NOT_SERVING},
	} {
		web, rpc := serve(t, 1<<20, tt.models...)
		if code, _, got := ask(t, "GET", "http://"+web+"/v2/health/ready", ""); code != tt.code {
			t.Errorf("%v: %d %s, want %d", tt.models, code, got, tt.code)
		}
		c := dial(t, rpc)
		for _, service := range []string{"", "inference.GRPCInferenceService"} {
			h, err := grpc_health_v1.NewHealthClient(c).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
			if err != nil || h.GetStatus() != tt.state {
				t.Errorf("%v: %q is %v, %v; want %v", tt.models, service, h.GetStatus(), err, tt.state)
			}
		}
		r, err := kservepb.NewGRPCInferenceServiceClient(c).ServerReady(t.Context(), &kservepb.ServerReadyRequest{})
		if err != nil || r.GetReady() != (tt.code == 200) {
			t.Errorf("%v: %v, %v", tt.models, r, err)
		}
	}
}

// TestGRPCContents: requests that no client of ours would make.
func TestGRPCContents(t *testing.T) {
	_, rpc := serve(t, 1<<20, inferencetest.Healthy()...)
	client := kservepb.NewGRPCInferenceServiceClient(dial(t, rpc))
	input := func(datatype string, c *kservepb.InferTensorContents, shape ...int64) []*kservepb.ModelInferRequest_InferInputTensor {
		return []*kservepb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: datatype, Shape: shape, Contents: c}}
	}
	two := [][]byte{inferencetest.Data(1), inferencetest.Data(1)}
	for _, tt := range []struct {
		name, model string
		inputs      []*kservepb.ModelInferRequest_InferInputTensor
		raw         [][]byte
		says        string
	}{
		{"right", "echo_int8", input("INT8", &kservepb.InferTensorContents{IntContents: []int32{-128, 127}}, 1, 2), nil, ""},
		{"beyond INT8", "echo_int8", input("INT8", &kservepb.InferTensorContents{IntContents: []int32{128, 0}}, 1, 2), nil, "128 is not of type INT8"},
		{"beyond UINT16", "echo_uint16", input("UINT16", &kservepb.InferTensorContents{UintContents: []uint32{65536}}, 1, 1), nil, "65536 is not of type UINT16"},
		{"in the field of another type", "echo_fp32", input("FP32", &kservepb.InferTensorContents{Fp64Contents: []float64{1}}, 1, 1), nil, "it has 0 bytes"},
		{"too few", "echo_fp32", input("FP32", &kservepb.InferTensorContents{Fp32Contents: []float32{1}}, 1, 2), nil, "takes 8"},
		{"FP16 by value", "echo_fp16", input("FP16", &kservepb.InferTensorContents{Fp32Contents: []float32{1}}, 1, 1), nil, "send raw_input_contents"},
		{"raw", "echo_fp32", input("FP32", nil, 1, 1), two[:1], ""},
		{"a truth", "echo_bool", input("BOOL", nil, 1, 2), [][]byte{{0, 1}}, ""},
		{"neither true nor false", "echo_bool", input("BOOL", nil, 1, 2), [][]byte{{0, 2}}, "neither 0 nor 1"},
		{"an output without a field for it", "short", input("FP32", &kservepb.InferTensorContents{Fp32Contents: []float32{1}}, 1), nil, ""},
		{"raw and by value", "echo_fp32", input("FP32", &kservepb.InferTensorContents{Fp32Contents: []float32{1}}, 1, 1), two[:1], "there are raw_input_contents"},
		{"raw of more inputs", "echo_fp32", input("FP32", nil, 1, 1), two, "2 raw_input_contents for 1 inputs"},
		{"texts that are cut", "echo_bytes", input("BYTES", nil, 1, 1), [][]byte{{9, 0, 0, 0, 'a'}}, "an element is cut"},
		{"more texts", "echo_bytes", input("BYTES", nil, 1, 1), [][]byte{{0, 0, 0, 0, 0, 0, 0, 0}}, "more than 1 elements"},
		{"an extension that we do not have", "echo_fp32", []*kservepb.ModelInferRequest_InferInputTensor{{
			Name: "x", Datatype: "FP32", Shape: []int64{1, 1}, Parameters: map[string]*kservepb.InferParameter{"shared_memory_region": {}},
		}}, two[:1], "belongs to an extension"},
		{"no datatype", "echo_fp32", input("", nil, 1, 1), two[:1], "there is no type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := client.ModelInfer(t.Context(), &kservepb.ModelInferRequest{ModelName: tt.model, Inputs: tt.inputs, RawInputContents: tt.raw})
			if tt.says == "" {
				if err != nil || (len(r.GetRawOutputContents()) == 1) != (tt.raw != nil || tt.model == "short") {
					t.Errorf("%v, %v", r, err)
				}
				return
			}
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}
