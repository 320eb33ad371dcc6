package batch

import (
	"fmt"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// join makes one request of the entries', whose rows follow one another. It has no id and no parameters.
func join(entries []*entry) *pb.ModelInferRequest {
	first, rows := entries[0].request, int64(0)
	for _, e := range entries {
		rows += int64(e.rows)
	}
	joined := &pb.ModelInferRequest{
		ModelName: first.GetModelName(), ModelVersion: first.GetModelVersion(), Outputs: first.GetOutputs(),
		Inputs:           make([]*pb.ModelInferRequest_InferInputTensor, len(first.GetInputs())),
		RawInputContents: make([][]byte, len(first.GetInputs())),
	}
	for index, input := range first.GetInputs() {
		joined.Inputs[index] = &pb.ModelInferRequest_InferInputTensor{
			Name: input.GetName(), Datatype: input.GetDatatype(), Shape: withRows(rows, input.GetShape()),
		}
		size := 0
		for _, e := range entries {
			size += len(e.raw[index])
		}
		raw := make([]byte, 0, size)
		for _, e := range entries {
			raw = append(raw, e.raw[index]...)
		}
		joined.RawInputContents[index] = raw
	}
	return joined
}

func withRows(rows int64, shape []int64) []int64 {
	return append([]int64{rows}, shape[1:]...)
}

// answer is a batch's response and each entry's data in it: by output, then by entry.
type answer struct {
	response *pb.ModelInferResponse
	pieces   [][][]byte
}

// split cuts a response into the rows of each entry; the error says why the response isn't that of these entries.
func split(entries []*entry, response *pb.ModelInferResponse) (*answer, error) {
	outputs, raw := response.GetOutputs(), response.GetRawOutputContents()
	if len(raw) > 0 && len(raw) != len(outputs) {
		return nil, fmt.Errorf("%d outputs have %d raw contents", len(outputs), len(raw))
	}
	rows := make([]int, len(entries))
	for index, e := range entries {
		rows[index] = e.rows
	}
	a := &answer{response: response, pieces: make([][][]byte, len(outputs))}
	for index, output := range outputs {
		var data []byte
		var err error
		if len(raw) > 0 {
			data = raw[index]
		} else if data, err = oip.RawContents(output.GetDatatype(), output.GetContents()); err != nil {
			return nil, fmt.Errorf("output %q: %w", output.GetName(), err)
		}
		if a.pieces[index], err = oip.CutRows(output.GetDatatype(), output.GetShape(), data, rows); err != nil {
			return nil, fmt.Errorf("output %q: %w", output.GetName(), err)
		}
	}
	return a, nil
}

// part is the response to one entry, in the form in which it was asked.
func (a *answer) part(index int, e *entry) *pb.ModelInferResponse {
	part := &pb.ModelInferResponse{
		ModelName: a.response.GetModelName(), ModelVersion: a.response.GetModelVersion(), Id: e.request.GetId(),
		Parameters: a.response.GetParameters(),
		Outputs:    make([]*pb.ModelInferResponse_InferOutputTensor, len(a.pieces)), RawOutputContents: make([][]byte, len(a.pieces)),
	}
	for output, whole := range a.response.GetOutputs() {
		part.Outputs[output] = &pb.ModelInferResponse_InferOutputTensor{
			Name: whole.GetName(), Datatype: whole.GetDatatype(), Shape: withRows(int64(e.rows), whole.GetShape()), Parameters: whole.GetParameters(),
		}
		part.RawOutputContents[output] = a.pieces[output][index]
	}
	if e.typed {
		setTyped(part)
	}
	return part
}

// setTyped moves raw contents to typed ones, unless an output's datatype has none: then all stay raw.
func setTyped(response *pb.ModelInferResponse) {
	typed := make([]*pb.InferTensorContents, len(response.GetOutputs()))
	for index, output := range response.GetOutputs() {
		contents, ok := oip.TypedContents(output.GetDatatype(), response.GetRawOutputContents()[index])
		if !ok {
			return
		}
		typed[index] = contents
	}
	for index, contents := range typed {
		response.Outputs[index].Contents = contents
	}
	response.RawOutputContents = nil
}
