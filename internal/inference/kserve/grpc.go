package kserve

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ovsactl/ovsactl/internal/buildinfo"
	"github.com/ovsactl/ovsactl/internal/inference"
	"github.com/ovsactl/ovsactl/internal/inference/kserve/kservepb"
	"github.com/ovsactl/ovsactl/internal/inference/protocol"
)

// Register adds the protocol to a gRPC server, and grpc.health.v1. What a request may
// take is for that server to say: protocol.ServerOptions.
func Register(s grpc.ServiceRegistrar, repo *inference.Repository) {
	kservepb.RegisterGRPCInferenceServiceServer(s, service{repo: repo})
	h := health.NewServer()
	state := grpc_health_v1.HealthCheckResponse_SERVING
	if unready(repo) != nil {
		state = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	h.SetServingStatus("", state)
	h.SetServingStatus(kservepb.GRPCInferenceService_ServiceDesc.ServiceName, state)
	grpc_health_v1.RegisterHealthServer(s, h)
}

type service struct {
	kservepb.UnimplementedGRPCInferenceServiceServer
	repo *inference.Repository
}

func (s service) ServerLive(context.Context, *kservepb.ServerLiveRequest) (*kservepb.ServerLiveResponse, error) {
	return &kservepb.ServerLiveResponse{Live: true}, nil
}

func (s service) ServerReady(context.Context, *kservepb.ServerReadyRequest) (*kservepb.ServerReadyResponse, error) {
	return &kservepb.ServerReadyResponse{Ready: unready(s.repo) == nil}, nil
}

func (s service) ServerMetadata(context.Context, *kservepb.ServerMetadataRequest) (*kservepb.ServerMetadataResponse, error) {
	return &kservepb.ServerMetadataResponse{Name: serverName, Version: buildinfo.Version()}, nil
}

func (s service) ModelReady(_ context.Context, r *kservepb.ModelReadyRequest) (*kservepb.ModelReadyResponse, error) {
	v, err := version(s.repo, r.GetName(), r.GetVersion())
	if err != nil {
		return nil, protocol.Status(err)
	}
	return &kservepb.ModelReadyResponse{Ready: v.Available() == nil}, nil
}

func (s service) ModelMetadata(_ context.Context, r *kservepb.ModelMetadataRequest) (*kservepb.ModelMetadataResponse, error) {
	v, err := version(s.repo, r.GetName(), r.GetVersion())
	if err == nil {
		err = v.Available()
	}
	if err != nil {
		return nil, protocol.Status(err)
	}
	tensors := func(ports []inference.Port) []*kservepb.ModelMetadataResponse_TensorMetadata {
		var all []*kservepb.ModelMetadataResponse_TensorMetadata
		for _, p := range ports {
			all = append(all, &kservepb.ModelMetadataResponse_TensorMetadata{Name: p.Name, Datatype: p.Type.String(), Shape: p.Shape})
		}
		return all
	}
	return &kservepb.ModelMetadataResponse{
		Name: v.Name, Versions: versions(s.repo, v.Name), Platform: platform(s.repo),
		Inputs: tensors(v.Inputs()), Outputs: tensors(v.Outputs()),
	}, nil
}

func (s service) ModelInfer(ctx context.Context, r *kservepb.ModelInferRequest) (*kservepb.ModelInferResponse, error) {
	answer, err := s.infer(ctx, r)
	if err != nil {
		return nil, protocol.Status(err)
	}
	return answer, nil
}

func (s service) infer(ctx context.Context, r *kservepb.ModelInferRequest) (*kservepb.ModelInferResponse, error) {
	v, err := version(s.repo, r.GetModelName(), r.GetModelVersion())
	if err != nil {
		return nil, err
	}
	inputs, err := tensors(r)
	if err != nil {
		return nil, err
	}
	var wanted []string
	for _, o := range r.GetOutputs() {
		if err := refuse(o.GetParameters()); err != nil {
			return nil, err
		}
		wanted = append(wanted, o.GetName())
	}
	outputs, err := v.Infer(ctx, inputs, wanted)
	if err != nil {
		return nil, err
	}
	answer := &kservepb.ModelInferResponse{ModelName: v.Name, ModelVersion: strconv.FormatInt(v.Number, 10), Id: r.GetId()}
	// An answer has the form of its question.
	raw := len(r.GetRawInputContents()) > 0
	for _, t := range outputs {
		raw = raw || t.Type == inference.Float16 || t.Type == inference.BFloat16
	}
	for _, t := range outputs {
		out := &kservepb.ModelInferResponse_InferOutputTensor{Name: t.Name, Datatype: t.Type.String(), Shape: t.Shape}
		answer.Outputs = append(answer.Outputs, out)
		if raw {
			answer.RawOutputContents = append(answer.RawOutputContents, t.Data)
		} else if out.Contents, err = contents(t); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// tensors are the inputs of a request.
func tensors(r *kservepb.ModelInferRequest) ([]inference.Tensor, error) {
	raw := r.GetRawInputContents()
	if len(raw) > 0 && len(raw) != len(r.GetInputs()) {
		return nil, fmt.Errorf("%w: %d raw_input_contents for %d inputs", inference.ErrInvalid, len(raw), len(r.GetInputs()))
	}
	var all []inference.Tensor
	for i, in := range r.GetInputs() {
		if err := refuse(in.GetParameters()); err != nil {
			return nil, err
		}
		t := inference.Tensor{Name: in.GetName(), Shape: in.GetShape()}
		var err error
		if t.Type, err = inference.ParseType(in.GetDatatype()); err != nil {
			return nil, fmt.Errorf("input %q: %w", t.Name, err)
		}
		switch {
		case len(raw) == 0:
			t.Data, err = data(t.Type, in.GetContents())
		case in.GetContents() != nil:
			err = fmt.Errorf("%w: it has contents, and there are raw_input_contents", inference.ErrInvalid)
		default:
			t.Data = raw[i]
		}
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", t.Name, err)
		}
		all = append(all, t)
	}
	return all, nil
}

func refuse(parameters map[string]*kservepb.InferParameter) error {
	for _, name := range refused {
		if _, is := parameters[name]; is {
			return fmt.Errorf("%w: parameter %q belongs to an extension that this server does not have", inference.ErrInvalid, name)
		}
	}
	return nil
}
