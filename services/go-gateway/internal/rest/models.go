package rest

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/backend"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// knownFor is how long a backend's description of a model is believed. A model that was loaded anew meanwhile refuses a
// request that was made for the old one, which is noticed at once (server.described).
const knownFor = 5 * time.Second

// model is what a backend says about a model.
type model struct {
	metadata *pb.ModelMetadataResponse
	// decoupled models answer a request any number of times, by ModelStreamInfer alone.
	decoupled bool
}

func (m model) equal(other model) bool {
	return m.decoupled == other.decoupled && proto.Equal(m.metadata, other.metadata)
}

// models remembers descriptions. It holds no more of them than there are models: what is unknown is not remembered.
type models struct {
	client pb.GRPCInferenceServiceClient

	mu    sync.Mutex
	known map[modelKey]knownModel
}

type modelKey struct{ name, version string }

type knownModel struct {
	model
	until time.Time
}

func newModels(client pb.GRPCInferenceServiceClient) *models {
	return &models{client: client, known: map[modelKey]knownModel{}}
}

// find is the description of a model, and whether it was remembered.
func (m *models) find(ctx context.Context, key modelKey) (found model, remembered bool, err error) {
	m.mu.Lock()
	entry := m.known[key]
	m.mu.Unlock()
	if time.Now().Before(entry.until) {
		return entry.model, true, nil
	}
	found, err = m.ask(ctx, key)
	return found, false, err
}

// ask asks a backend and remembers the answer.
func (m *models) ask(ctx context.Context, key modelKey) (model, error) {
	found, err := m.describe(ctx, key)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		delete(m.known, key)
		return model{}, err
	}
	m.known[key] = knownModel{found, time.Now().Add(knownFor)}
	return found, nil
}

func (m *models) describe(ctx context.Context, key modelKey) (model, error) {
	metadata, err := backend.Call(ctx, m.client.ModelMetadata, &pb.ModelMetadataRequest{Name: key.name, Version: key.version})
	if err != nil {
		return model{}, err
	}
	configuration, err := backend.Call(ctx, m.client.ModelConfig, &pb.ModelConfigRequest{Name: key.name, Version: key.version})
	switch {
	case err == nil:
		return model{metadata, configuration.GetConfig().GetModelTransactionPolicy().GetDecoupled()}, nil
	case apierr.From(err).GRPC == codes.Unimplemented:
		return model{metadata, true}, nil // a backend that doesn't say: any model can be asked as one that is
	}
	return model{}, err
}

// described makes an attempt with the model's description. One that is refused, where the description was remembered and
// turns out to be old, is made again with the new one; a request that was refused has not run.
func (s *server) described(ctx context.Context, name, version string, attempt func(model) error) error {
	key := modelKey{name, version}
	known, remembered, err := s.models.find(ctx, key)
	if err != nil {
		return err
	}
	err = attempt(known)
	if err == nil || !remembered || !refused(err) {
		return err
	}
	current, failed := s.models.ask(ctx, key)
	if failed != nil || current.equal(known) {
		return err
	}
	return attempt(current)
}

// refused says that a request doesn't fit the model, in the gateway's or the backend's view.
func refused(err error) bool {
	return slices.Contains([]codes.Code{codes.InvalidArgument, codes.NotFound, codes.Unimplemented, codes.FailedPrecondition}, apierr.From(err).GRPC)
}
