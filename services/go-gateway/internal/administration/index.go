package administration

import (
	"context"
	"strings"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// The states of a model, as Triton names them.
const (
	ready       = "READY"
	unavailable = "UNAVAILABLE"
)

// RepositoryIndex joins the indexes of all pods. A model is READY when every pod says so; otherwise it has the state that the
// first other pod gives, and the reason names that pod.
func (s *Service) RepositoryIndex(ctx context.Context, request *pb.RepositoryIndexRequest) (*pb.RepositoryIndexResponse, error) {
	all := &pb.RepositoryIndexRequest{RepositoryName: request.GetRepositoryName()} // whether a model is ready shows in all answers together
	answers, err := gather(ctx, s, s.Client.RepositoryIndex, all)
	if err != nil {
		return nil, err
	}
	models := joinIndexes(answers)
	response := &pb.RepositoryIndexResponse{}
	for _, key := range sortedVersions(models) {
		if !request.GetReady() || models[key].GetState() == ready {
			response.Models = append(response.Models, models[key])
		}
	}
	return response, nil
}

// index is what one pod says, by model and version.
type index map[modelVersion]*pb.RepositoryIndexResponse_ModelIndex

func joinIndexes(answers []answer[pb.RepositoryIndexResponse]) index {
	perPod, joined := make([]index, len(answers)), index{}
	for number, answer := range answers {
		perPod[number] = index{}
		for _, model := range answer.response.GetModels() {
			key := modelVersion{model.GetName(), model.GetVersion()}
			perPod[number][key], joined[key] = model, model
		}
	}
	if len(answers) == 1 {
		return joined
	}
	for key := range joined {
		joined[key] = &pb.RepositoryIndexResponse_ModelIndex{Name: key.name, Version: key.version, State: ready}
		for number, answer := range answers {
			if state, reason := perPod[number].state(key); state != ready {
				joined[key].State, joined[key].Reason = state, strings.TrimSuffix("on "+answer.pod+": "+reason, ": ")
				break
			}
		}
	}
	return joined
}

// state is that of a model at one pod, whose index may lack it.
func (i index) state(key modelVersion) (state, reason string) {
	if i[key] == nil {
		return unavailable, "its repository lacks the model"
	}
	return i[key].GetState(), i[key].GetReason()
}
