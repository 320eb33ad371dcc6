package administration

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// ModelStatistics sums the statistics of all pods, by model and version: counts and times, batches by their size, memory by
// its kind; last_inference is the latest. A model that only some pods have is reported with theirs.
func (s *Service) ModelStatistics(ctx context.Context, request *pb.ModelStatisticsRequest) (*pb.ModelStatisticsResponse, error) {
	answers, err := gather(ctx, s, s.Client.ModelStatistics, request)
	if err != nil {
		return nil, err
	}
	sums := map[modelVersion]*pb.ModelStatistics{}
	for _, answer := range answers {
		for _, model := range answer.response.GetModelStats() {
			key := modelVersion{model.GetName(), model.GetVersion()}
			if sums[key] == nil {
				sums[key] = &pb.ModelStatistics{Name: key.name, Version: key.version, InferenceStats: &pb.InferStatistics{}}
			}
			addModel(sums[key], model)
		}
	}
	response := &pb.ModelStatisticsResponse{}
	for _, key := range sortedVersions(sums) {
		response.ModelStats = append(response.ModelStats, sums[key])
	}
	return response, nil
}

func addModel(sum, model *pb.ModelStatistics) {
	sum.LastInference = max(sum.GetLastInference(), model.GetLastInference())
	sum.InferenceCount += model.GetInferenceCount()
	sum.ExecutionCount += model.GetExecutionCount()
	add(sum.GetInferenceStats().ProtoReflect(), model.GetInferenceStats().ProtoReflect())
	for _, batch := range model.GetBatchStats() {
		addBatch(sum, batch)
	}
	for _, memory := range model.GetMemoryUsage() {
		addMemory(sum, memory)
	}
	for index, response := range model.GetResponseStats() {
		if sum.ResponseStats == nil {
			sum.ResponseStats = map[string]*pb.InferResponseStatistics{}
		}
		if sum.ResponseStats[index] == nil {
			sum.ResponseStats[index] = &pb.InferResponseStatistics{}
		}
		add(sum.ResponseStats[index].ProtoReflect(), response.ProtoReflect())
	}
}

func addBatch(sum *pb.ModelStatistics, batch *pb.InferBatchStatistics) {
	at, found := slices.BinarySearchFunc(sum.BatchStats, batch.GetBatchSize(), func(known *pb.InferBatchStatistics, size uint64) int {
		return cmp.Compare(known.GetBatchSize(), size)
	})
	if !found {
		sum.BatchStats = slices.Insert(sum.BatchStats, at, &pb.InferBatchStatistics{})
	}
	add(sum.BatchStats[at].ProtoReflect(), batch.ProtoReflect())
	sum.BatchStats[at].BatchSize = batch.GetBatchSize()
}

func addMemory(sum *pb.ModelStatistics, memory *pb.MemoryUsage) {
	at := slices.IndexFunc(sum.MemoryUsage, func(known *pb.MemoryUsage) bool {
		return known.GetType() == memory.GetType() && known.GetId() == memory.GetId()
	})
	if at < 0 {
		at = len(sum.MemoryUsage)
		sum.MemoryUsage = append(sum.MemoryUsage, &pb.MemoryUsage{Type: memory.GetType(), Id: memory.GetId()})
	}
	sum.MemoryUsage[at].ByteSize += memory.GetByteSize()
}

// add adds each counter of a message, which has nothing else but messages of counters, to the same of sum. All messages within are present after it,
// because Triton's clients read them without asking.
func add(sum, message protoreflect.Message) {
	fields := sum.Descriptor().Fields()
	for index := range fields.Len() {
		field := fields.Get(index)
		if field.Kind() == protoreflect.MessageKind {
			add(sum.Mutable(field).Message(), message.Get(field).Message())
			continue
		}
		sum.Set(field, protoreflect.ValueOfUint64(sum.Get(field).Uint()+message.Get(field).Uint()))
	}
}

// modelVersion names what statistics and the index tell about.
type modelVersion struct{ name, version string }

func sortedVersions[Value any](all map[modelVersion]Value) []modelVersion {
	keys := make([]modelVersion, 0, len(all))
	for key := range all {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b modelVersion) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.version, b.version))
	})
	return keys
}
