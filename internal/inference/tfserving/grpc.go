// Package tfserving speaks what TensorFlow Serving does: Predict, GetModelMetadata and
// GetModelStatus over gRPC, and the same over REST. OpenVINO Model Server speaks it too,
// and where its clients expect something else than TensorFlow Serving's, they get both.
//
// https://www.tensorflow.org/tfx/serving/api_rest
package tfserving

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
	pb "github.com/ovsactl/ovsactl/internal/inference/tfserving/tfservingpb"
)

const (
	signature      = "serving_default"            // what each model's only signature is called
	method         = "tensorflow/serving/predict" // and what it is for
	signatureField = "signature_def"
)

// Register adds the services to a gRPC server. What a request may take is for that
// server to say, protocol.ServerOptions; max is how long its tensors may be all together
// where it has less values than elements.
func Register(s grpc.ServiceRegistrar, repo *inference.Repository, max int64) {
	pb.RegisterPredictionServiceServer(s, predictions{repo: repo, max: max})
	pb.RegisterModelServiceServer(s, models{repo: repo})
}

type predictions struct {
	pb.UnimplementedPredictionServiceServer
	repo *inference.Repository
	max  int64
}

type models struct {
	pb.UnimplementedModelServiceServer
	repo *inference.Repository
}

// named is the version that a request names; the newest that is available for none, or 0.
func named(repo *inference.Repository, spec *pb.ModelSpec) (*inference.Version, error) {
	number, err := numbered(spec)
	if err != nil {
		return nil, err
	}
	if err := signed(spec.GetSignatureName()); err != nil {
		return nil, err
	}
	return repo.Version(spec.GetName(), number)
}

func numbered(spec *pb.ModelSpec) (int64, error) {
	if label := spec.GetVersionLabel(); label != "" {
		return 0, fmt.Errorf("version label %q of model %q: %w; versions have numbers", label, spec.GetName(), inference.ErrNotFound)
	}
	n := spec.GetVersion().GetValue()
	if n < 0 {
		return 0, fmt.Errorf("%w: version %d", inference.ErrInvalid, n)
	}
	return n, nil
}

func signed(name string) error {
	if name != "" && name != signature {
		return fmt.Errorf("%w: there is no signature %q; the model's is %q", inference.ErrInvalid, name, signature)
	}
	return nil
}

func spec(v *inference.Version, signature string) *pb.ModelSpec {
	return &pb.ModelSpec{
		Name: v.Name, SignatureName: signature,
		VersionChoice: &pb.ModelSpec_Version{Version: wrapperspb.Int64(v.Number)},
	}
}

func (s predictions) Predict(ctx context.Context, r *pb.PredictRequest) (*pb.PredictResponse, error) {
	answer, err := s.predict(ctx, r)
	if err != nil {
		return nil, protocol.Status(err)
	}
	return answer, nil
}

func (s predictions) predict(ctx context.Context, r *pb.PredictRequest) (*pb.PredictResponse, error) {
	v, err := named(s.repo, r.GetModelSpec())
	if err != nil {
		return nil, err
	}
	if err := v.Available(); err != nil {
		return nil, err
	}
	var inputs []inference.Tensor
	left := s.max
	for name, p := range r.GetInputs() {
		t, err := tensor(name, p, left)
		if err != nil {
			return nil, err
		}
		left -= int64(len(t.Data))
		inputs = append(inputs, t)
	}
	outputs, err := v.Infer(ctx, inputs, r.GetOutputFilter())
	if err != nil {
		return nil, err
	}
	answer := &pb.PredictResponse{ModelSpec: spec(v, signature), Outputs: map[string]*pb.TensorProto{}}
	for _, t := range outputs {
		if answer.Outputs[t.Name], err = tensorProto(t); err != nil {
			return nil, fmt.Errorf("output %q: %w", t.Name, err)
		}
	}
	return answer, nil
}

func (s predictions) GetModelMetadata(_ context.Context, r *pb.GetModelMetadataRequest) (*pb.GetModelMetadataResponse, error) {
	v, err := named(s.repo, r.GetModelSpec())
	if err == nil {
		err = v.Available()
	}
	fields := r.GetMetadataField()
	if err == nil && (len(fields) == 0 || slices.ContainsFunc(fields, func(f string) bool { return f != signatureField })) {
		err = fmt.Errorf("%w: metadata_field is %q, and may be %q", inference.ErrInvalid, fields, signatureField)
	}
	if err != nil {
		return nil, protocol.Status(err)
	}
	any, err := anypb.New(signatures(v))
	if err != nil {
		return nil, protocol.Status(err)
	}
	return &pb.GetModelMetadataResponse{ModelSpec: spec(v, ""), Metadata: map[string]*anypb.Any{signatureField: any}}, nil
}

func signatures(v *inference.Version) *pb.SignatureDefMap {
	infos := func(ports []inference.Port) map[string]*pb.TensorInfo {
		all := map[string]*pb.TensorInfo{}
		for _, p := range ports {
			all[p.Name] = &pb.TensorInfo{Name: p.Name, Dtype: dtype(p.Type), TensorShape: shape(p.Shape)}
		}
		return all
	}
	return &pb.SignatureDefMap{SignatureDef: map[string]*pb.SignatureDef{
		signature: {Inputs: infos(v.Inputs()), Outputs: infos(v.Outputs()), MethodName: method},
	}}
}

func (s models) GetModelStatus(_ context.Context, r *pb.GetModelStatusRequest) (*pb.GetModelStatusResponse, error) {
	number, err := numbered(r.GetModelSpec())
	if err != nil {
		return nil, protocol.Status(err)
	}
	answer, err := states(s.repo, r.GetModelSpec().GetName(), number)
	if err != nil {
		return nil, protocol.Status(err)
	}
	return answer, nil
}

// states are those of a version or, for 0, of all versions of a model.
func states(repo *inference.Repository, model string, number int64) (*pb.GetModelStatusResponse, error) {
	versions, err := repo.Versions(model)
	if err == nil && number != 0 {
		var v *inference.Version
		v, err = repo.Version(model, number)
		versions = []*inference.Version{v}
	}
	if err != nil {
		return nil, err
	}
	answer := &pb.GetModelStatusResponse{}
	for _, v := range versions {
		s := &pb.ModelVersionStatus{Version: v.Number, State: pb.ModelVersionStatus_AVAILABLE, Status: &pb.StatusProto{}}
		if err := v.Available(); err != nil {
			s.State = pb.ModelVersionStatus_END
			s.Status = &pb.StatusProto{ErrorCode: pb.StatusProto_UNAVAILABLE, ErrorMessage: err.Error()}
		}
		answer.ModelVersionStatus = append(answer.ModelVersionStatus, s)
	}
	return answer, nil
}
