package inferencetest

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/ovsactl/ovsactl/internal/need"
	"github.com/ovsactl/ovsactl/internal/run"
)

//go:embed cases.py
var cases string

// Serve has a protocol served on loopback, and says where: HTTP, gRPC.
func Serve(t testing.TB, h http.Handler, register func(*grpc.Server), options ...grpc.ServerOption) (string, string) {
	t.Helper()
	web := httptest.NewServer(h)
	t.Cleanup(web.Close)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(options...)
	register(s)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return strings.TrimPrefix(web.URL, "http://"), l.Addr().String()
}

// Describe writes what .proto files say, for a client to compare with what it knows.
func Describe(t testing.TB, files ...protoreflect.FileDescriptor) string {
	t.Helper()
	all := &descriptorpb.FileDescriptorSet{}
	for _, f := range files {
		all.File = append(all.File, protodesc.ToFileDescriptorProto(f))
	}
	text, err := proto.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "descriptors")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Client runs a script of a client in Python, each of its functions test_* as a test.
// There are to be some.
func Client(t *testing.T, some int, script string, args ...string) {
	t.Helper()
	python := need.Tool(t, "bin/tools/clients/bin/python")
	var out, diagnostics bytes.Buffer
	err := run.Cmd{
		Path: python, Args: append([]string{"-B", "-c", cases, script}, args...),
		// TensorFlow says what it is made for; the clients are to reach loopback only.
		Env:    []string{"TF_CPP_MIN_LOG_LEVEL=3", "no_proxy=*"},
		Stdout: &out, Stderr: &diagnostics,
	}.Run(t.Context())
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", script, err, out.String(), diagnostics.String())
	}
	for line := range strings.Lines(out.String()) {
		text, is := strings.CutPrefix(line, "CASE ")
		if !is {
			t.Log(line)
			continue
		}
		var c struct{ Name, Why string }
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		some--
		t.Run(c.Name, func(t *testing.T) {
			if c.Why != "" {
				t.Error(c.Why)
			}
		})
	}
	if some > 0 {
		t.Errorf("%d tests of %s are missing", some, script)
	}
}
