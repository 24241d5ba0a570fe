package tfserving

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
	pb "github.com/ovsactl/ovsactl/internal/inference/tfserving/tfservingpb"
)

// Handler answers everything below /v1. The body of a request may have max bytes.
func Handler(repo *inference.Repository, max int64) http.Handler {
	s := rest{repo, max}
	mux := http.NewServeMux()
	for _, model := range []string{"/v1/models/{model}", "/v1/models/{model}/versions/{version}"} {
		mux.Handle(model, http.HandlerFunc(s.model))
		mux.Handle(model+"/metadata", protocol.Only(http.MethodGet, s.metadata))
	}
	mux.HandleFunc("/", protocol.NoSuchPath)
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
		protocol.NoSuchPath(w, r)
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
	// TensorFlow Serving writes names as in the messages, and OpenVINO Model Server in
	// another case. Each one's clients know only its own: both are there.
	answer, signature := map[string]any{}, map[string]any{}
	for _, protoNames := range []bool{true, false} {
		if err := add(answer, &pb.GetModelMetadataResponse{ModelSpec: spec(v, "")}, protoNames); err != nil {
			return err
		}
		if err := add(signature, signatures(v), protoNames); err != nil {
			return err
		}
	}
	answer["metadata"] = map[string]any{signatureField: signature}
	protocol.JSON(w, http.StatusOK, answer)
	return nil
}

// add adds a message's fields to an object.
func add(to map[string]any, m proto.Message, protoNames bool) error {
	text, err := marshal(m, protoNames)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, &to)
}

func marshal(m proto.Message, protoNames bool) (json.RawMessage, error) {
	return protojson.MarshalOptions{UseProtoNames: protoNames, EmitUnpopulated: true}.Marshal(m)
}
