package oip

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// rawContents is the raw form of an output's typed contents. A field that is not the datatype's is not looked at, so that
// the missing elements show as a contradiction; so does an integer that does not fit its datatype.
func rawContents(output *pb.ModelInferResponse_InferOutputTensor) ([]byte, error) {
	contents, bits := output.GetContents(), 8*datatypes[output.GetDatatype()].size
	var raw []byte
	switch output.GetDatatype() {
	case "BOOL":
		for _, value := range contents.GetBoolContents() {
			raw = appendBool(raw, value)
		}
	case "INT8", "INT16", "INT32":
		for index, value := range contents.GetIntContents() {
			if unused := 32 - bits; value<<unused>>unused != value {
				return nil, fmt.Errorf("element %d is %d, out of range for %s", index, value, output.GetDatatype())
			}
			raw = appendBits(raw, uint64(value), bits)
		}
	case "UINT8", "UINT16", "UINT32":
		for index, value := range contents.GetUintContents() {
			if unused := 32 - bits; value<<unused>>unused != value {
				return nil, fmt.Errorf("element %d is %d, out of range for %s", index, value, output.GetDatatype())
			}
			raw = appendBits(raw, uint64(value), bits)
		}
	case "INT64":
		for _, value := range contents.GetInt64Contents() {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(value))
		}
	case "UINT64":
		for _, value := range contents.GetUint64Contents() {
			raw = binary.LittleEndian.AppendUint64(raw, value)
		}
	case "FP32":
		for _, value := range contents.GetFp32Contents() {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(value))
		}
	case "FP64":
		for _, value := range contents.GetFp64Contents() {
			raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(value))
		}
	case "BYTES":
		for _, value := range contents.GetBytesContents() {
			raw = append(binary.LittleEndian.AppendUint32(raw, uint32(len(value))), value...)
		}
	}
	return raw, nil
}
