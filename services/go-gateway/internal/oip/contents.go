package oip

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// RawContents is the raw form of typed contents. A field that is not the datatype's is not looked at, so that the missing
// elements show as a contradiction; so does an integer that does not fit its datatype.
func RawContents(datatype string, contents *pb.InferTensorContents) ([]byte, error) {
	bits := 8 * datatypes[datatype].size
	var raw []byte
	switch datatype {
	case "BOOL":
		for _, value := range contents.GetBoolContents() {
			raw = appendBool(raw, value)
		}
	case "INT8", "INT16", "INT32":
		for index, value := range contents.GetIntContents() {
			if unused := 32 - bits; value<<unused>>unused != value {
				return nil, fmt.Errorf("element %d is %d, out of range for %s", index, value, datatype)
			}
			raw = appendBits(raw, uint64(value), bits)
		}
	case "UINT8", "UINT16", "UINT32":
		for index, value := range contents.GetUintContents() {
			if unused := 32 - bits; value<<unused>>unused != value {
				return nil, fmt.Errorf("element %d is %d, out of range for %s", index, value, datatype)
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

// TypedContents is the typed form of whole raw elements; false where the datatype has none (FP16, BF16).
func TypedContents(datatype string, raw []byte) (*pb.InferTensorContents, bool) {
	contents := &pb.InferTensorContents{}
	kind, ok := datatypes[datatype]
	if !ok {
		return nil, false
	}
	for len(raw) > 0 {
		element, rest, err := kind.next(raw)
		if err != nil {
			return nil, false
		}
		raw = rest
		switch datatype {
		case "BOOL":
			contents.BoolContents = append(contents.BoolContents, element[0] != 0)
		case "INT8", "INT16", "INT32":
			contents.IntContents = append(contents.IntContents, int32(signed(element)))
		case "UINT8", "UINT16", "UINT32":
			contents.UintContents = append(contents.UintContents, uint32(unsigned(element)))
		case "INT64":
			contents.Int64Contents = append(contents.Int64Contents, signed(element))
		case "UINT64":
			contents.Uint64Contents = append(contents.Uint64Contents, unsigned(element))
		case "FP32":
			contents.Fp32Contents = append(contents.Fp32Contents, math.Float32frombits(binary.LittleEndian.Uint32(element)))
		case "FP64":
			contents.Fp64Contents = append(contents.Fp64Contents, math.Float64frombits(binary.LittleEndian.Uint64(element)))
		case "BYTES":
			contents.BytesContents = append(contents.BytesContents, element)
		default:
			return nil, false
		}
	}
	return contents, true
}
