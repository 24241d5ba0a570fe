package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// points is how many points the detector's maps have.
const points = 80 * 80

// maps is what the real model says about the photograph, as facedetect's reference has it.
func maps(t *testing.T) map[string][]float32 {
	t.Helper()
	text, err := os.ReadFile("../facedetect/testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]struct {
		Points []struct {
			At     int
			Values []float32
		}
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	filled := map[string][]float32{}
	for at, out := range outputs {
		first := []int{0, 1, 3, 5}[at]
		filled[out.name] = make([]float32, out.perPoint*points)
		for _, p := range all["one face"].Points {
			for c := range out.perPoint {
				filled[out.name][c*points+p.At] = p.Values[first+c]
			}
		}
	}
	return filled
}

var outputs = []struct {
	name     string
	perPoint int
}{{"heatmap", 1}, {"scale", 2}, {"offset", 2}, {"landmarks", 10}}

// answering is a server that has the detector's answer for a picture, and checks what
// it is sent. binaries says whether it answers with binary tensors; it need not.
func answering(t *testing.T, binaries bool) http.Handler {
	t.Helper()
	says := maps(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/models/faces", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"name": "faces", "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 320, 320]}]}`)
	})
	mux.HandleFunc("POST /v2/models/faces/infer", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		length, err := strconv.Atoi(r.Header.Get("Inference-Header-Content-Length"))
		if err != nil || length > len(body) || len(body)-length != 4*3*320*320 {
			http.Error(w, `{"error": "not a picture"}`, http.StatusBadRequest)
			return
		}
		// The picture is grey below the middle, and the input as large as it is.
		for at, want := range map[int]float32{0: 0, 320 * 319: 77} {
			if got := math.Float32frombits(binary.LittleEndian.Uint32(body[length+4*at:])); got != want {
				t.Errorf("the input has %v at %d, want %v", got, at, want)
			}
		}
		var tensors []map[string]any
		var data []byte
		for _, out := range outputs {
			one := map[string]any{"name": out.name, "datatype": "FP32", "shape": []int{1, out.perPoint, 80, 80}}
			if binaries {
				one["parameters"] = map[string]any{"binary_data_size": 4 * len(says[out.name])}
				data, _ = binary.Append(data, binary.LittleEndian, says[out.name])
			} else {
				one["data"] = says[out.name]
			}
			tensors = append(tensors, one)
		}
		text, _ := json.Marshal(map[string]any{"model_name": "faces", "outputs": tensors})
		if binaries {
			w.Header().Set("Inference-Header-Content-Length", strconv.Itoa(len(text)))
		}
		_, _ = w.Write(append(text, data...))
	})
	return mux
}

// place has certificates, a picture, and a server that wants a certificate.
type place struct{ dir, url string }

func start(t *testing.T, handler http.Handler) place {
	t.Helper()
	p := place{dir: t.TempDir()}
	p.certificate(t, "server")
	client := p.certificate(t, "client")
	p.certificate(t, "other")
	own, err := tls.LoadX509KeyPair(p.file("server.pem"), p.file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(client)
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = nil
	s.TLS = &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MinVersion: tls.VersionTLS13}
	s.StartTLS()
	t.Cleanup(s.Close)
	p.url = s.URL

	picture := image.NewGray(image.Rect(0, 0, 512, 512))
	for i := range picture.Pix[512*256:] {
		picture.Pix[512*256+i] = 77
	}
	f, err := os.Create(p.file("picture.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, picture); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p place) file(name string) string { return filepath.Join(p.dir, name) }

func (p place) certificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(p.file(name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// run runs the client with what it needs, and more.
func (p place) run(t *testing.T, more ...string) (string, error) {
	t.Helper()
	args := []string{
		"-server", p.url, "-server-cert", p.file("server.pem"), "-client-cert", p.file("client.pem"), "-client-key", p.file("client.key"),
		"-model", "faces", "-o", p.file("results"),
	}
	var stdout bytes.Buffer
	err := run(t.Context(), append(append(args, more...), p.file("picture.png")), &stdout, io.Discard)
	return stdout.String(), err
}

func TestFindsAndDraws(t *testing.T) {
	for name, binaries := range map[string]bool{"binary": true, "JSON": false} {
		t.Run(name, func(t *testing.T) {
			p := start(t, answering(t, binaries))
			said, err := p.run(t, "-json")
			if err != nil {
				t.Fatal(err)
			}
			var got []found
			if err := json.Unmarshal([]byte(said), &got); err != nil || len(got) != 1 || len(got[0].Faces) != 1 {
				t.Fatalf("%v: %s", err, said)
			}
			want := [4]float32{184.36, 62.5, 268.65, 174.75}
			for i, v := range got[0].Faces[0].Box {
				if math.Abs(float64(v-want[i])) > 0.01 {
					t.Errorf("box %v, want %v", got[0].Faces[0].Box, want)
				}
			}
			drawn, err := read(got[0].Drawn)
			if err != nil || drawn.Bounds() != image.Rect(0, 0, 512, 512) {
				t.Fatalf("the picture drawn: %v, %v", drawn, err)
			}
			if _, green, _, _ := drawn.At(185, 63).RGBA(); green>>8 != 0xff {
				t.Error("there is no frame")
			}
		})
	}
}

func TestSaysWhatItFound(t *testing.T) {
	p := start(t, answering(t, true))
	said, err := p.run(t)
	if err != nil || !strings.Contains(said, "picture.png: 1 face; drawn in "+p.file("results/picture.png")) || !strings.Contains(said, "91 % sure: 184, 62 to 269, 175") {
		t.Errorf("%v: %s", err, said)
	}
	said, err = p.run(t, "-threshold", "0.95", "-json")
	if err != nil || !strings.Contains(said, `"faces": []`) {
		t.Errorf("no face: %v: %s", err, said)
	}
}

func TestRefusals(t *testing.T) {
	p := start(t, answering(t, true))
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"another's certificate", []string{"-client-cert", p.file("other.pem"), "-client-key", p.file("other.key")}, "certificate"},
		{"no certificate", []string{"-client-cert", p.file("none.pem")}, "read the client's certificate"},
		{"another server's", []string{"-server-cert", p.file("other.pem")}, "certificate"},
		{"a server's that is none", []string{"-server-cert", p.file("picture.png")}, "has no certificate"},
		{"without TLS", []string{"-server", "http://127.0.0.1"}, "want https://"},
		{"another model", []string{"-model", "../faces"}, "404"},
		{"over the original", []string{"-o", p.dir}, "written over"},
		{"no picture", []string{p.file("server.pem")}, "unknown format"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if said, err := p.run(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %s, want %q", err, said, tt.want)
			}
		})
	}
}

func TestWhatTheServerSaysIsShown(t *testing.T) {
	p := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"error": "version 1 of model \"faces\": not available\u001b[2J"}`)
	}))
	_, err := p.run(t)
	if err == nil || !strings.Contains(err.Error(), "503 Service Unavailable") || !strings.Contains(err.Error(), "not available") || strings.Contains(err.Error(), "\x1b") {
		t.Errorf("got %v", err)
	}
}

func TestModelsThatItDoesNotKnow(t *testing.T) {
	for _, inputs := range []string{
		`[]`,
		`[{"name": "image", "datatype": "UINT8", "shape": [1, 3, 320, 320]}]`,
		`[{"name": "image", "datatype": "FP32", "shape": [1, 320, 320, 3]}]`,
		`[{"name": "image", "datatype": "FP32", "shape": [3, 320, 320]}]`,
		`[{"name": "image", "datatype": "FP32", "shape": [1, 3, 320, 10000000000]}]`,
		`[{"name": "a"}, {"name": "b"}]`,
	} {
		p := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"inputs": %s}`, inputs) }))
		if said, err := p.run(t); err == nil {
			t.Errorf("accepted %s: %s", inputs, said)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name, text, data string
		want             string // "" for the numbers 1 and 2
	}{
		{"binary", `{"outputs": [{"name": "a", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}]}`, "\x00\x00\x80\x3f\x00\x00\x00\x40", ""},
		{"JSON", `{"outputs": [{"name": "a", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}`, "", ""},
		{"too few bytes", `{"outputs": [{"name": "a", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]}`, "\x00\x00\x80\x3f", "8 bytes"},
		{"another size", `{"outputs": [{"name": "a", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 4}}]}`, "\x00\x00\x80\x3f", "4 bytes"},
		{"too few numbers", `{"outputs": [{"name": "a", "datatype": "FP32", "shape": [3], "data": [1, 2]}]}`, "", "2 numbers"},
		{"another type", `{"outputs": [{"name": "a", "datatype": "FP64", "shape": [2], "data": [1, 2]}]}`, "", "FP64"},
		{"too many", `{"outputs": [{"name": "a", "datatype": "FP32", "shape": [2147483647, 2147483647, 4], "data": [1]}]}`, "", "shape"},
		{"less than nothing", `{"outputs": [{"name": "a", "datatype": "FP32", "shape": [-1, -2], "data": [1, 2]}]}`, "", "shape"},
		{"no JSON", `outputs`, "", "invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decode([]byte(tt.text+tt.data), len(tt.text))
			switch {
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, %v, want %q", got, err, tt.want)
			case tt.want == "" && (err != nil || fmt.Sprint(got) != "map[a:[1 2]]"):
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	if _, err := decode([]byte("{}"), 3); err == nil {
		t.Error("more JSON than there is was accepted")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"outputs": [{"name": "a", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]}1234`), 100)
	f.Add([]byte(`{"outputs": [{"name": "a", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}`), 77)
	f.Fuzz(func(t *testing.T, body []byte, length int) {
		got, err := decode(body, length)
		total := 0
		for _, values := range got {
			total += 4 * len(values)
		}
		// A number of JSON takes at least two bytes.
		if err == nil && total > 4*len(body) {
			t.Errorf("%d bytes of numbers from %d", total, len(body))
		}
	})
}
