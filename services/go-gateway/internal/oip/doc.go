// Package oip translates the Open Inference Protocol v2 between its JSON form (REST) and its protobuf form (gRPC):
// https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
//
// Tensor data goes straight from JSON text to little-endian raw bytes and back, one pass each way, because encoding/json
// would turn each element into an interface and each integer into a float64. Requests:
//
//   - data is flat in row-major order or nested exactly as the shape says; anything ragged is refused;
//   - integers are exact and must fit their datatype; 1.0 is no integer; floats out of range are refused;
//   - FP16 and BF16 have no JSON form: they are refused with the advice to send them as binary data;
//   - a field given twice, a missing field, a tensor name used twice is refused; a field we don't know is ignored;
//   - binary tensors behind the JSON (Triton's extension, binary.go) are not copied, but checked against shape and datatype;
//   - a tensor in shared memory (sharedmemory.go) has no data here: its parameters pass, and the backend checks them.
//
// Responses hold flat data, but for outputs that the caller wants as binary data. Floats have the shortest form that reads back as the same value. What JSON cannot say (NaN,
// infinity, FP16, BF16, BYTES that are not UTF-8) fails with UNREPRESENTABLE instead of text that no parser accepts, as
// Triton writes it.
package oip
