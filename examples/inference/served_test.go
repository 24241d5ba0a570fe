// Package inference tests the clients with what serves models in a guest: the engine, and
// nginx with certificates on both sides. What they find is what the detector's authors
// find (facedetect/testdata/reference.py).
package inference

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
	"github.com/ovsactl/ovsactl/licensing/licensetest"
)

// made is a file that make has made, by its path from the sources' directory.
func made(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(full); err != nil {
		need.Absent(t, "demo-client", "there is no "+path+": make package test-deps")
	}
	return full
}

func TestClientsFindTheFace(t *testing.T) {
	for _, engine := range []struct {
		runtime, library string
		model            []string
	}{
		{"onnxruntime", "bin/onnxruntime/libonnxruntime.so.1.21.1", []string{"model.onnx"}},
		{"openvino", "bin/openvino", []string{"model.xml", "model.bin"}},
	} {
		t.Run(engine.runtime, func(t *testing.T) {
			files := map[string]string{"images/photo.png": made(t, "dist/demo/photo.png")}
			for _, name := range engine.model {
				files["models/faces/1/"+name] = made(t, "dist/demo/"+name)
			}
			served(t, files, "-runtime", engine.runtime, "-library", made(t, engine.library))
		})
	}
}

// served has an engine serve a model, and both clients ask it.
func served(t *testing.T, files map[string]string, flags ...string) {
	t.Helper()
	engine, runtime := made(t, "bin/ovsa-engine"), made(t, "bin/ovsaruntime")
	python, nginx := made(t, "bin/demo-client/bin/python"), need.Program(t, "nginx")
	dir, photo := t.TempDir(), files["images/photo.png"]
	for name, from := range files {
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, to); err != nil {
			t.Fatal(err)
		}
	}
	certs := filepath.Join(dir, "certs")
	do(t, run.Cmd{Path: runtime, Args: []string{"gencerts", "-certs", certs, "-host", "localhost", "127.0.0.1"}})

	http, grpc, rest, secure := licensetest.FreeAddress(t), licensetest.FreeAddress(t), licensetest.FreeAddress(t), licensetest.FreeAddress(t)
	start(t, http, run.Cmd{Path: engine, Args: append([]string{"serve", "-models", filepath.Join(dir, "models"), "-http", http, "-grpc", grpc}, flags...)})
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, front, dir, certs, rest, http, secure, grpc), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, rest, run.Cmd{Path: nginx, Args: []string{"-e", "stderr", "-c", config}})

	_, port, _ := net.SplitHostPort(secure)
	for name, client := range map[string]run.Cmd{
		"Go, the Open Inference Protocol over REST": {Path: "go", Args: []string{
			"run", "./go", "-json", "-server", "https://" + rest, "-model", "faces", "-o", filepath.Join(dir, "go"),
			"-server-cert", certs + "/server.pem", "-client-cert", certs + "/client.pem", "-client-key", certs + "/client.key", photo,
		}},
		"Python, TensorFlow Serving's over gRPC": {Path: python, Args: []string{
			"-B", "python/face_detection.py", "--json", "--grpc_address", "127.0.0.1", "--grpc_port", port, "--tls", "--model_name", "faces",
			"--server_cert", certs + "/server.pem", "--client_cert", certs + "/client.pem", "--client_key", certs + "/client.key",
			"--input_images_dir", filepath.Join(dir, "images"), "--output_dir", filepath.Join(dir, "python"),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			out := do(t, client)
			var found []struct {
				Drawn string
				Faces []struct {
					Box   [4]float64
					Score float64
				}
			}
			if err := json.Unmarshal(out, &found); err != nil || len(found) != 1 || len(found[0].Faces) != 1 {
				t.Fatalf("%v: %s", err, out)
			}
			for i, want := range [4]float64{184.36, 62.5, 268.65, 174.75} {
				if got := found[0].Faces[0]; math.Abs(got.Box[i]-want) > 1 || math.Abs(got.Score-0.913) > 0.01 {
					t.Fatalf("found %v", got)
				}
			}
			if info, err := os.Stat(found[0].Drawn); err != nil || info.Size() == 0 {
				t.Errorf("the picture that was drawn: %v", err)
			}
		})
	}
}

// front is a front as a guest has one, in short.
const front = `user root; daemon off; pid %[1]s/nginx.pid; error_log stderr; events {}
http {
	access_log off; client_max_body_size 64m;
	client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
	ssl_certificate %[2]s/server.pem; ssl_certificate_key %[2]s/server.key;
	ssl_client_certificate %[2]s/client_ca.pem; ssl_verify_client on;
	server { listen %[3]s ssl; location / { proxy_pass http://%[4]s; } }
	server { listen %[5]s ssl http2; location / { grpc_pass grpc://%[6]s; } }
}
`

func do(t *testing.T, c run.Cmd) []byte {
	t.Helper()
	out, err := c.Output(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// start starts a server, and waits until it listens.
func start(t *testing.T, address string, c run.Cmd) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	p, err := c.Start(ctx)
	if err != nil {
		stop()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	for {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s has ended: %v", c.Path, err)
		case <-time.After(50 * time.Millisecond):
		}
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
	}
}
