package batch

import (
	"container/list"
	"context"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// timeoutParameter is Triton's, in microseconds.
const timeoutParameter = "timeout"

// mergeable are the request parameters that say how to treat a request and not what to compute. A batch doesn't carry them: timeout
// becomes the deadline, and all requests have one priority. A request with any other, such as sequence_id, goes alone.
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_parameters.md
var mergeable = []string{timeoutParameter, "priority"}

// entry is one request that can be joined with others.
type entry struct {
	ctx      context.Context
	request  *pb.ModelInferRequest
	key      []byte   // of its queue
	raw      [][]byte // the inputs' data
	typed    bool     // the caller sent typed contents and reads typed contents
	rows     int
	bytes    int
	deadline time.Time // zero: none
	arrived  time.Time

	// Guarded by the model's lock.
	queue *queue        // that it is or was in
	place *list.Element // in the queue; nil: it has left
	batch *batch        // that it is part of

	waited time.Duration // in the queue; written before turn
	turn   chan turn     // gets one value when the entry leaves the queue, unless its caller has taken it out
}

// turn is what becomes of an entry that left the queue: its caller sends it by itself, or has its part of an answer, or an error.
type turn struct {
	alone   bool
	slot    *slot // that the caller holds while it sends; nil: none
	answer  *answer
	index   int // in the answer
	err     error
	trailer metadata.MD // with err
}

// timeoutOf is the time that the parameter timeout (microseconds, 0: none) gives the request.
func timeoutOf(request *pb.ModelInferRequest) (time.Duration, bool) {
	choice, ok := request.GetParameters()[timeoutParameter].GetParameterChoice().(*pb.InferParameter_Int64Param)
	if !ok || choice.Int64Param <= 0 || choice.Int64Param > math.MaxInt64/int64(time.Microsecond) {
		return 0, false
	}
	return time.Duration(choice.Int64Param) * time.Microsecond, true
}

// newEntry returns false for a request that must go alone: joined with others it could mean something else, or is wrong in a
// way that the inference server should name to its caller only.
func (m *model) newEntry(ctx context.Context, request *pb.ModelInferRequest) (*entry, bool) {
	e, _ := m.spare.Get().(*entry)
	if e == nil {
		e = &entry{turn: make(chan turn, 1)}
	}
	e.ctx, e.request, e.arrived = ctx, request, time.Now()
	if !plain(request) || !e.readInputs() || e.rows < 1 || e.rows > m.limits.MaxSize {
		m.free(e)
		return nil, false
	}
	e.deadline, _ = ctx.Deadline()
	e.key = appendKey(e.key, request)
	return e, true
}

// free keeps an entry for another request. Nobody else may have it any more: its turn was received, or it was never queued.
func (m *model) free(e *entry) {
	*e = entry{turn: e.turn, key: e.key[:0]}
	m.spare.Put(e)
}

// plain says whether nothing in the request but its tensors and its id tells it from others.
func plain(request *pb.ModelInferRequest) bool {
	for name, parameter := range request.GetParameters() {
		if !slices.Contains(mergeable, name) {
			return false
		}
		if _, whole := parameter.GetParameterChoice().(*pb.InferParameter_Int64Param); name == timeoutParameter && !whole {
			return false
		}
	}
	for _, input := range request.GetInputs() {
		if len(input.GetParameters()) > 0 {
			return false
		}
	}
	for _, output := range request.GetOutputs() {
		if len(output.GetParameters()) > 0 {
			return false
		}
	}
	return len(request.ProtoReflect().GetUnknown()) == 0
}

// readInputs returns false where the inputs have no common number of rows or their data isn't what datatype and shape say.
func (e *entry) readInputs() bool {
	inputs := e.request.GetInputs()
	if len(inputs) == 0 || len(inputs[0].GetShape()) == 0 {
		return false
	}
	e.raw = e.request.GetRawInputContents()
	e.typed = len(e.raw) == 0
	if e.typed {
		e.raw = make([][]byte, len(inputs))
	}
	if len(e.raw) != len(inputs) {
		return false
	}
	rows := inputs[0].GetShape()[0]
	for index, input := range inputs {
		if e.typed {
			var err error
			if e.raw[index], err = oip.RawContents(input.GetDatatype(), input.GetContents()); err != nil {
				return false
			}
		} else if input.GetContents() != nil {
			return false
		}
		if oip.CheckRaw(input.GetDatatype(), input.GetShape(), e.raw[index]) != nil || len(input.GetShape()) == 0 || input.GetShape()[0] != rows {
			return false
		}
		e.bytes += len(e.raw[index])
	}
	e.rows = int(rows)
	return true
}

// appendKey appends what requests must share to be joined, in an encoding that no two kinds share.
func appendKey(key []byte, request *pb.ModelInferRequest) []byte {
	text := func(value string) {
		key = append(binary.AppendUvarint(key, uint64(len(value))), value...)
	}
	text(request.GetModelVersion())
	key = binary.AppendUvarint(key, uint64(len(request.GetInputs())))
	for _, input := range request.GetInputs() {
		text(input.GetName())
		text(input.GetDatatype())
		key = binary.AppendUvarint(key, uint64(len(input.GetShape())))
		for _, dimension := range input.GetShape()[1:] {
			key = binary.AppendVarint(key, dimension)
		}
	}
	for _, output := range request.GetOutputs() {
		text(output.GetName())
	}
	return key
}
