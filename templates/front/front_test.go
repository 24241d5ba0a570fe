package front

import (
	"strings"
	"testing"
	"time"
)

func good() Options {
	return Options{Dir: "/run/ovsa/front", Certs: "/var/OVSA/Modelserver", User: "www-data", REST: ":2225", GRPC: "127.0.0.1:3335",
		Server: "127.0.0.1:8000", GRPCServer: "unix:/run/ovsa/engine/grpc", MaxBody: 1 << 20, Connections: 1024, Timeout: time.Minute}
}

func TestRender(t *testing.T) {
	text, err := good().Render()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"listen 2225 ssl;", "listen 127.0.0.1:3335 ssl http2;", "ssl_verify_client on;", "client_max_body_size 1048576;",
		"upstream rest { server 127.0.0.1:8000; keepalive 32; }", "upstream grpc { server unix:/run/ovsa/engine/grpc; keepalive 32; }", "proxy_read_timeout 60000ms;",
		"ssl_client_certificate /var/OVSA/Modelserver/client_ca.pem;", "user www-data;",
		"worker_connections 2176;", "worker_rlimit_nofile 2304;", // 1024 of clients, and as many to the model server
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, not := range []string{"ssl_crl", "limit_req", "limit_conn"} {
		if strings.Contains(string(text), not) {
			t.Errorf("%q in\n%s", not, text)
		}
	}
	o := good()
	o.Revoked, o.PerClient, o.Rate, o.Burst = true, 16, 90, 7
	text, err = o.Render()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ssl_crl /var/OVSA/Modelserver/client.crl;", "limit_conn_zone $ssl_client_s_dn ", "limit_conn at_once 16;", "limit_req_zone $ssl_client_s_dn zone=rate:1m rate=90r/m;",
		"limit_req zone=rate burst=7 nodelay;", "worker_shutdown_timeout 60000ms;",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	o = good()
	o.GRPC = ""
	if text, err := o.Render(); err != nil || strings.Contains(string(text), "http2") {
		t.Errorf("without gRPC: %v\n%s", err, text)
	}
}

func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"a space":          func(o *Options) { o.Dir = "/run/my front" },
		"a semicolon":      func(o *Options) { o.Certs = "/x;include /etc/passwd" },
		"a relative":       func(o *Options) { o.Dir = "front" },
		"a newline":        func(o *Options) { o.User = "x\nroot" },
		"no user":          func(o *Options) { o.User = "" },
		"a name":           func(o *Options) { o.REST = "localhost:2225" },
		"no port":          func(o *Options) { o.REST = "127.0.0.1" },
		"port 0":           func(o *Options) { o.GRPC = ":0" },
		"a service":        func(o *Options) { o.GRPC = ":https" },
		"a large port":     func(o *Options) { o.GRPC = ":65536" },
		"a port with ;":    func(o *Options) { o.GRPC = ":80;" },
		"a host with ;":    func(o *Options) { o.GRPC = "x;y:80" },
		"another server":   func(o *Options) { o.Server = "192.0.2.1:80" },
		"a server with ;":  func(o *Options) { o.Server = "127.0.0.1:80;" },
		"a socket with ;":  func(o *Options) { o.GRPCServer = "unix:/x;y" },
		"a socket nowhere": func(o *Options) { o.GRPCServer = "unix:" },
		"a path with $x":   func(o *Options) { o.Certs = "/$host" },
	} {
		o := good()
		change(&o)
		if text, err := o.Render(); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
}
