package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// limit is how much of an answer is read.
const limit = 256 << 20

// headerLength is the header that says how much of a body is JSON. Tensors follow it.
const headerLength = "Inference-Header-Content-Length"

// server is one that speaks the Open Inference Protocol, version 2, over REST, with its
// extension for binary tensors:
// https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
type server struct {
	base  *url.URL
	model string // and its version
	http  *http.Client
}

type tensor struct {
	Name       string         `json:"name"`
	Shape      []int64        `json:"shape,omitempty"`
	Type       string         `json:"datatype,omitempty"`
	Parameters map[string]any `json:"parameters,omitempty"`
	Data       []float32      `json:"data,omitempty"`
}

type metadata struct {
	Inputs  []tensor `json:"inputs"`
	Outputs []tensor `json:"outputs"`
}

// dial prepares requests to a server with the certificate of this client. The server's
// must be the one of serverCert, or one that it has signed.
func dial(address, serverCert, clientCert, clientKey, model, version string, timeout time.Duration) (*server, error) {
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("server %q: want https://HOST:PORT", address)
	}
	pem, err := os.ReadFile(serverCert)
	if err != nil {
		return nil, fmt.Errorf("read the server's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%q has no certificate", serverCert)
	}
	own, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		return nil, fmt.Errorf("read the client's certificate and key: %w", err)
	}
	path := base.JoinPath("v2/models", url.PathEscape(model))
	if version != "" {
		path = path.JoinPath("versions", url.PathEscape(version))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{own},
	}}
	return &server{base: path, model: model, http: &http.Client{Transport: transport, Timeout: timeout}}, nil
}

// metadata is what the model takes and gives.
func (s *server) metadata(ctx context.Context) (metadata, error) {
	var m metadata
	body, _, err := s.do(ctx, http.MethodGet, s.base, nil, 0)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("read what the server says of model %q: %w", s.model, err)
	}
	return m, nil
}

// infer asks the model for outputs, which are numbers.
func (s *server) infer(ctx context.Context, input tensor, values []float32, outputs []string) (map[string][]float32, error) {
	input.Parameters = map[string]any{"binary_data_size": 4 * len(values)}
	request := struct {
		Inputs  []tensor `json:"inputs"`
		Outputs []tensor `json:"outputs"`
	}{Inputs: []tensor{input}}
	for _, name := range outputs {
		request.Outputs = append(request.Outputs, tensor{Name: name, Parameters: map[string]any{"binary_data": true}})
	}
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	sent, err := binary.Append(text, binary.LittleEndian, values)
	if err != nil {
		return nil, err
	}
	body, length, err := s.do(ctx, http.MethodPost, s.base.JoinPath("infer"), sent, len(text))
	if err != nil {
		return nil, err
	}
	got, err := decode(body, length)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	for _, name := range outputs {
		if _, is := got[name]; !is {
			return nil, fmt.Errorf("the answer lacks output %q", name)
		}
	}
	return got, nil
}

// decode reads an answer of which the first length bytes are JSON.
func decode(body []byte, length int) (map[string][]float32, error) {
	if length < 0 || length > len(body) {
		return nil, fmt.Errorf("%d bytes of JSON in %d bytes", length, len(body))
	}
	var answer struct {
		Outputs []tensor `json:"outputs"`
	}
	if err := json.Unmarshal(body[:length], &answer); err != nil {
		return nil, err
	}
	rest, all := body[length:], map[string][]float32{}
	for _, out := range answer.Outputs {
		if out.Type != "FP32" {
			return nil, fmt.Errorf("output %q is of type %q, want FP32", out.Name, out.Type)
		}
		count := int64(1)
		for _, d := range out.Shape {
			if d < 0 || d > math.MaxInt32 || count*d > math.MaxInt32 {
				return nil, fmt.Errorf("output %q has shape %v", out.Name, out.Shape)
			}
			count *= d
		}
		values := out.Data
		if size, is := out.Parameters["binary_data_size"].(float64); is {
			if size != float64(4*count) || int64(len(rest)) < 4*count {
				return nil, fmt.Errorf("output %q has shape %v and %v bytes", out.Name, out.Shape, size)
			}
			values = make([]float32, count)
			if _, err := binary.Decode(rest, binary.LittleEndian, values); err != nil {
				return nil, err
			}
			rest = rest[4*count:]
		}
		if int64(len(values)) != count {
			return nil, fmt.Errorf("output %q has shape %v and %d numbers", out.Name, out.Shape, len(values))
		}
		all[out.Name] = values
	}
	return all, nil
}

// do sends a request of which the first header bytes are JSON, where any follow. It
// returns the answer, and how much of that is JSON.
func (s *server) do(ctx context.Context, method string, to *url.URL, sent []byte, header int) (body []byte, length int, err error) {
	request, err := http.NewRequestWithContext(ctx, method, to.String(), bytes.NewReader(sent))
	if err != nil {
		return nil, 0, err
	}
	if sent != nil {
		request.Header.Set("Content-Type", "application/octet-stream")
		request.Header.Set(headerLength, strconv.Itoa(header))
	}
	response, err := s.http.Do(request)
	if err != nil {
		return nil, 0, fmt.Errorf("ask the server: %w", err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body, err = io.ReadAll(io.LimitReader(response.Body, limit+1))
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("read the answer: %w", err)
	case len(body) > limit:
		return nil, 0, errors.New("read the answer: it is too large")
	case response.StatusCode != http.StatusOK:
		return nil, 0, refusal(response.Status, body)
	}
	length = len(body)
	if says := response.Header.Get(headerLength); says != "" {
		if length, err = strconv.Atoi(says); err != nil {
			return nil, 0, fmt.Errorf("read the answer: header %s is %q", headerLength, says)
		}
	}
	return body, length, nil
}

// refusal is what a server says that does not do what it was asked.
func refusal(status string, body []byte) error {
	var says struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &says) == nil && says.Error != "" {
		return fmt.Errorf("the server refuses: %s: %q", status, says.Error)
	}
	return fmt.Errorf("the server refuses: %s: %.200q", status, body)
}
