// Package front is the configuration of nginx in front of a guest's model server.
package front

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed nginx.conf
var text string

// Options are what a front is told.
type Options struct {
	Dir         string        // of nginx's own files
	Certs       string        // has server.pem, server.key and client_ca.pem
	User        string        // of its workers
	REST        string        // where clients connect with HTTP/1.1, host:port; "" for nowhere
	GRPC        string        // and with HTTP/2
	Server      string        // the model server's REST: "127.0.0.1:PORT" or "unix:PATH"
	GRPCServer  string        // and its gRPC
	MaxBody     int64         // bytes of a request
	Revoked     bool          // Certs has client.crl, too: clients' certificates that are not taken any more
	Connections int           // of clients at the same time, for each worker, all with a request
	PerClient   int           // requests of one client at the same time; 0: as many as of all
	Rate        int           // requests of one client in a minute; 0: any
	Burst       int           // and how many of them at once
	Timeout     time.Duration // of a request in which nothing comes or goes
}

var (
	path     = regexp.MustCompile(`^/[A-Za-z0-9._/-]*$`)
	loopback = regexp.MustCompile(`^127\.0\.0\.1:[0-9]{1,5}$`)
	name     = regexp.MustCompile(`^[a-z_][a-z0-9_-]*$`)
)

// spare is what a worker has open beside connections of requests: those that it keeps to
// the model server, listens at, and writes to.
const spare = 128

// Render is the configuration. What nginx would take for something else than it is, is
// refused: there is no quoting.
func (o Options) Render() ([]byte, error) {
	for _, p := range []string{o.Dir, o.Certs} {
		if !path.MatchString(p) {
			return nil, fmt.Errorf("configure nginx: the path %q has other characters than letters, digits and . _ - /", p)
		}
	}
	if !name.MatchString(o.User) {
		return nil, fmt.Errorf("configure nginx: %q is no user's name", o.User)
	}
	v := struct {
		Options
		Timeout        string
		Sockets, Files int
	}{o, strconv.FormatInt(o.Timeout.Milliseconds(), 10) + "ms", 2*o.Connections + spare, 2*o.Connections + 2*spare}
	for _, address := range []*string{&v.REST, &v.GRPC} {
		if *address == "" {
			continue
		}
		host, port, err := net.SplitHostPort(*address)
		if err != nil {
			return nil, fmt.Errorf("configure nginx: %w", err)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("configure nginx: %q is no port", port)
		}
		if host != "" && net.ParseIP(host) == nil {
			return nil, fmt.Errorf("configure nginx: %q is no address", host)
		}
		if host == "" { // all, as [::] with nginx's default is not for IPv4
			*address = port
		}
	}
	for _, server := range []struct{ listen, at string }{{o.REST, o.Server}, {o.GRPC, o.GRPCServer}} {
		if of, is := strings.CutPrefix(server.at, "unix:"); server.listen != "" && !(is && path.MatchString(of) || loopback.MatchString(server.at)) {
			return nil, fmt.Errorf("configure nginx: %q is no address of a model server", server.at)
		}
	}
	var b bytes.Buffer
	if err := template.Must(template.New("nginx.conf").Option("missingkey=error").Parse(text)).Execute(&b, v); err != nil {
		return nil, fmt.Errorf("configure nginx: %w", err)
	}
	return b.Bytes(), nil
}
