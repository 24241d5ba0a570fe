// Package kserve speaks the Open Inference Protocol, version 2, over REST and gRPC:
// health, metadata and inference, and the extension for binary data in REST.
//
// https://github.com/kserve/open-inference-protocol
package kserve

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/ovsactl/ovsactl/internal/buildinfo"
	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
)

// serverName is what the server calls itself.
const serverName = "ovsa-engine"

// extensions are the protocol's that we have, over REST.
var extensions = []string{"binary_tensor_data"}

// Handler answers everything below /v2. The body of a request may have max bytes.
func Handler(repo *inference.Repository, max int64) http.Handler {
	s := rest{repo, max}
	mux := http.NewServeMux()
	for path, h := range map[string]http.Handler{
		"/v2":              protocol.Only(http.MethodGet, s.server),
		"/v2/{$}":          protocol.Only(http.MethodGet, s.server),
		"/v2/health/live":  protocol.Only(http.MethodGet, s.live),
		"/v2/health/ready": protocol.Only(http.MethodGet, s.ready),
		"/":                http.HandlerFunc(protocol.NoSuchPath),
	} {
		mux.Handle(path, h)
	}
	for _, model := range []string{"/v2/models/{model}", "/v2/models/{model}/versions/{version}"} {
		mux.Handle(model, protocol.Only(http.MethodGet, s.model))
		mux.Handle(model+"/ready", protocol.Only(http.MethodGet, s.modelReady))
		mux.Handle(model+"/infer", protocol.Only(http.MethodPost, s.infer))
	}
	return mux
}

type rest struct {
	repo *inference.Repository
	max  int64
}

func (s rest) live(w http.ResponseWriter, _ *http.Request) error {
	protocol.JSON(w, http.StatusOK, map[string]bool{"live": true})
	return nil
}

func (s rest) ready(w http.ResponseWriter, _ *http.Request) error {
	if err := unready(s.repo); err != nil {
		return err
	}
	protocol.JSON(w, http.StatusOK, map[string]bool{"ready": true})
	return nil
}

// unready says which model is not available; the server is ready when all are.
func unready(repo *inference.Repository) error {
	for _, name := range repo.Models() {
		v, err := repo.Version(name, 0)
		if err == nil {
			err = v.Available()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s rest) server(w http.ResponseWriter, _ *http.Request) error {
	protocol.JSON(w, http.StatusOK, struct {
		Name       string   `json:"name"`
		Version    string   `json:"version"`
		Extensions []string `json:"extensions"`
	}{serverName, buildinfo.Version(), extensions})
	return nil
}

// version is the one that a request's path names.
func (s rest) version(r *http.Request) (*inference.Version, error) {
	return version(s.repo, r.PathValue("model"), r.PathValue("version"))
}

func version(repo *inference.Repository, model, number string) (*inference.Version, error) {
	n, err := protocol.Version(number)
	if err != nil {
		return nil, err
	}
	if number != "" && n == 0 {
		return nil, fmt.Errorf("version 0 of model %q: %w", model, inference.ErrNotFound)
	}
	return repo.Version(model, n)
}

func (s rest) modelReady(w http.ResponseWriter, r *http.Request) error {
	v, err := s.version(r)
	if err != nil {
		return err
	}
	if err := v.Available(); err != nil {
		return err
	}
	protocol.JSON(w, http.StatusOK, struct {
		Name  string `json:"name"`
		Ready bool   `json:"ready"`
	}{v.Name, true})
	return nil
}

type tensorMetadata struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
}

func (s rest) model(w http.ResponseWriter, r *http.Request) error {
	v, err := s.version(r)
	if err != nil {
		return err
	}
	if err := v.Available(); err != nil {
		return err
	}
	tensors := func(ports []inference.Port) []tensorMetadata {
		all := []tensorMetadata{}
		for _, p := range ports {
			all = append(all, tensorMetadata{p.Name, p.Type.String(), append([]int64{}, p.Shape...)})
		}
		return all
	}
	protocol.JSON(w, http.StatusOK, struct {
		Name     string           `json:"name"`
		Versions []string         `json:"versions"`
		Platform string           `json:"platform"`
		Inputs   []tensorMetadata `json:"inputs"`
		Outputs  []tensorMetadata `json:"outputs"`
	}{v.Name, versions(s.repo, v.Name), platform(s.repo), tensors(v.Inputs()), tensors(v.Outputs())})
	return nil
}

// versions are the numbers of those that can be asked for, the oldest first.
func versions(repo *inference.Repository, model string) []string {
	numbers := []string{}
	all, _ := repo.Versions(model)
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Available() == nil {
			numbers = append(numbers, strconv.FormatInt(all[i].Number, 10))
		}
	}
	return numbers
}

// platform is the library's name without its version.
func platform(repo *inference.Repository) string {
	name, _, _ := strings.Cut(repo.Runtime(), " ")
	return strings.ToLower(name)
}

func (s rest) infer(w http.ResponseWriter, r *http.Request) error {
	v, err := s.version(r)
	if err != nil {
		return err
	}
	if err := v.Available(); err != nil {
		return err
	}
	body, err := protocol.Body(r, s.max)
	if err != nil {
		return err
	}
	request, err := parse(body, r.Header.Get(headerLength))
	if err != nil {
		return err
	}
	binary, err := request.form(v.Outputs())
	if err != nil {
		return err
	}
	outputs, err := v.Infer(r.Context(), request.inputs, request.wanted())
	if err != nil {
		return err
	}
	return write(w, v, request.id, outputs, binary)
}
