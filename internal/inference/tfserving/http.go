package tfserving

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
)

// Handler answers everything below /v1. The body of a request may have max bytes.
func Handler(repo *inference.Repository, max int64) http.Handler {
	s := rest{repo, max}
	mux := http.NewServeMux()
	for _, model := range []string{"/v1/models/{model}", "/v1/models/{model}/versions/{version}"} {
		mux.Handle(model, http.HandlerFunc(s.model))
		mux.Handle(model+"/metadata", protocol.Only(http.MethodGet, s.metadata))
	}
	mux.Handle("/", protocol.Only(http.MethodGet, protocol.NoSuchPath))
	return mux
}

type rest struct {
	repo *inference.Repository
	max  int64
}

// model answers the path of a model or a version; a method of it follows a colon.
func (s rest) model(w http.ResponseWriter, r *http.Request) {
	last := "model"
	if r.PathValue("version") != "" {
		last = "version"
	}
	name, verb, called := strings.Cut(r.PathValue(last), ":")
	r.SetPathValue(last, name)
	switch {
	case !called:
		protocol.Only(http.MethodGet, s.status).ServeHTTP(w, r)
	case verb == "predict":
		protocol.Only(http.MethodPost, s.predict).ServeHTTP(w, r)
	case verb == "classify" || verb == "regress":
		protocol.Fail(w, fmt.Errorf("%w: this server has no %q, only \"predict\"", inference.ErrInvalid, verb))
	default:
		protocol.Fail(w, fmt.Errorf("%w: %s", protocol.ErrNoSuchPath, r.URL.Path))
	}
}

// version is the one that a request's path names.
func (s rest) version(r *http.Request) (*inference.Version, error) {
	n, err := protocol.Version(r.PathValue("version"))
	if err != nil {
		return nil, err
	}
	v, err := s.repo.Version(r.PathValue("model"), n)
	if err != nil {
		return nil, err
	}
	return v, v.Available()
}

func (s rest) status(w http.ResponseWriter, r *http.Request) error {
	n, err := protocol.Version(r.PathValue("version"))
	if err != nil {
		return err
	}
	answer, err := states(s.repo, r.PathValue("model"), n)
	if err != nil {
		return err
	}
	text, err := marshal(answer, true)
	if err != nil {
		return err
	}
	protocol.JSON(w, http.StatusOK, text)
	return nil
}

func (s rest) metadata(w http.ResponseWriter, r *http.Request) error {
	v, err := s.version(r)
	if err != nil {
		return err
	}
	both, err := spellings(signatures(v))
	if err != nil {
		return err
	}
	model := map[string]string{"name": v.Name, "version": strconv.FormatInt(v.Number, 10)}
	protocol.JSON(w, http.StatusOK, map[string]any{
		"model_spec": with(model, "signature_name", ""), "modelSpec": with(model, "signatureName", ""),
		"metadata": map[string]any{signatureField: both},
	})
	return nil
}

func with(m map[string]string, key, value string) map[string]string {
	all := map[string]string{key: value}
	for k, v := range m {
		all[k] = v
	}
	return all
}

func marshal(m proto.Message, protoNames bool) (json.RawMessage, error) {
	return protojson.MarshalOptions{UseProtoNames: protoNames, EmitUnpopulated: true}.Marshal(m)
}

// spellings is a message with the names of its fields as TensorFlow Serving writes them
// beside those that OpenVINO Model Server writes: each one's clients know only its own.
func spellings(m proto.Message) (map[string]any, error) {
	all := map[string]any{}
	for _, protoNames := range []bool{true, false} {
		text, err := marshal(m, protoNames)
		if err != nil {
			return nil, err
		}
		var one map[string]any
		if err := json.Unmarshal(text, &one); err != nil {
			return nil, err
		}
		merge(all, one)
	}
	return all, nil
}

func merge(into, from map[string]any) {
	for key, value := range from {
		object, is := value.(map[string]any)
		there, was := into[key].(map[string]any)
		if is && was {
			merge(there, object)
			continue
		}
		into[key] = value
	}
}
