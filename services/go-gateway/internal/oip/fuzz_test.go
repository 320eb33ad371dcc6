package oip

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// Whatever a caller sends is refused as the caller's fault, or is JSON and becomes tensors of the promised size.
func FuzzDecodeInferRequest(f *testing.F) {
	for _, seed := range []string{
		body("FP32", "[2,2]", "[[0.1,-2e3],[3,4]]"), body("BYTES", "[2]", `["\ud83d\ude00","é\n"]`), body("INT64", "[]", "9007199254740993"),
		body("BOOL", "[0]", "[]"), body("FP16", "[1]", "[1]"), body("UINT8", "[9999999999]", "[1]"), body("INT8", "[1,1]", "[[1],[2]]"),
		`{"id":"1","parameters":{"timeout":1,"x":1.5,"y":true},"inputs":[],"outputs":[{"name":"y"}],"later":[null,{"a":[]}]}`,
		`{"inputs":[{"data":[1],"shape":[1],"datatype":"INT8","name":"x"},{"name":"x"}]}`, `{`, `[[[[`, `{"id":"\u12"}`, `{"inputs":[]}x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		request, _, err := DecodeInferRequest(text, nil, "m", "")
		if err != nil {
			refusedAsBad(t, err)
			return
		}
		if !json.Valid(text) {
			t.Fatalf("accepted what is no JSON: %q", text)
		}
		tensorsAsPromised(t, request, len(text))
	})
}

// A body with binary tensors is refused as the caller's fault, or the tensors are slices of it that have the promised size.
func FuzzBinaryExtension(f *testing.F) {
	for _, seed := range []struct{ text, tensors string }{
		{`{"inputs":[` + binaryInput("x", "FP32", "[2]", "8") + `]}`, "abcdefgh"},
		{`{"inputs":[` + binaryInput("x", "BYTES", "[2]", "9") + `,{"name":"y","datatype":"INT8","shape":[1],"data":[1]}]}`, "\x01\x00\x00\x00a\x00\x00\x00\x00"},
		{`{"inputs":[` + binaryInput("x", "BF16", "[0]", "0") + `],"parameters":{"binary_data_output":true},"outputs":[{"name":"y","parameters":{"binary_data":false}}]}`, ""},
		{`{"inputs":[` + binaryInput("x", "INT8", "[1]", "9223372036854775807") + `]}`, "a"},
	} {
		f.Add([]byte(seed.text+seed.tensors), strconv.Itoa(len(seed.text)))
	}
	shared := `{"inputs":[` + described + `},` + binaryInput("y", "INT8", "[1]", "1") + `],"outputs":[{"name":"z",` + inRegion + `}]}`
	f.Add([]byte(shared+"a"), strconv.Itoa(len(shared)))
	f.Add([]byte("abcd"), "0")
	f.Add([]byte("abcd"), "-1")
	f.Fuzz(func(t *testing.T, body []byte, length string) {
		text, tensors, err := SplitBody(body, length)
		if err != nil {
			refusedAsBad(t, err)
			return
		}
		if len(text)+len(tensors) != len(body) {
			t.Fatalf("%d bytes became %d and %d", len(body), len(text), len(tensors))
		}
		request, binary, err := DecodeInferRequest(text, tensors, "m", "")
		if err != nil {
			refusedAsBad(t, err)
			return
		}
		tensorsAsPromised(t, request, len(body))
		response := &pb.ModelInferResponse{RawOutputContents: request.GetRawInputContents()}
		for _, input := range inMessage(request) {
			response.Outputs = append(response.Outputs, &pb.ModelInferResponse_InferOutputTensor{Name: input.GetName(), Datatype: input.GetDatatype(), Shape: input.GetShape()})
		}
		answer, outputs, err := AppendInferResponse(nil, response, binary)
		if err != nil {
			var failure *apierr.Error
			if !errors.As(err, &failure) || failure.Code != apierr.Unrepresentable {
				t.Fatalf("what was taken can't be given back: %v", err)
			}
			return
		}
		if !json.Valid(answer) {
			t.Fatalf("the answer is no JSON: %s", answer)
		}
		for _, output := range outputs {
			if !slices.ContainsFunc(request.GetRawInputContents(), func(raw []byte) bool { return bytes.Equal(raw, output) }) {
				t.Fatalf("%x came out and never went in", output)
			}
		}
	})
}

// A raw BYTES tensor is taken exactly where a second reader, written otherwise, finds that many elements and nothing more.
func FuzzBytes(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00a\x00\x00\x00\x00"), int64(2))
	f.Add([]byte("\xff\xff\xff\xffa"), int64(1))
	f.Add([]byte{}, int64(0))
	f.Add([]byte{}, int64(math.MaxInt64/largestSize))
	f.Fuzz(func(t *testing.T, raw []byte, count int64) {
		found, whole := int64(0), true
		for reader := bytes.NewReader(raw); reader.Len() > 0; found++ {
			var length uint32
			if binary.Read(reader, binary.LittleEndian, &length) != nil || int64(length) > int64(reader.Len()) {
				whole = false
				break
			}
			if _, err := reader.Seek(int64(length), io.SeekCurrent); err != nil {
				t.Fatal(err)
			}
		}
		err := CheckRaw("BYTES", []int64{count}, raw)
		if want := whole && found == count; (err == nil) != want {
			t.Fatalf("%x as %d elements: %v, and the other reader found %d (all: %t)", raw, count, err, found, whole)
		}
	})
}

// A generate request is refused as the caller's fault, or is JSON whose tensors have the model's shape.
func FuzzDecodeGenerateRequest(f *testing.F) {
	for _, seed := range []string{
		`{"text_input":"a","id":"1","parameters":{"temperature":0.5,"tokens":[1,2]},"stream":true}`, `{"tokens":[1,2,3,4],"scale":1e3}`,
		`{"parameters":{"parameters":{}}}`, `{"text_input":["a",""],"text_input":1}`, `{"half":1}`, `{`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	model := languageModel()
	f.Fuzz(func(t *testing.T, text []byte) {
		request, err := DecodeGenerateRequest(text, model, "m", "")
		if err != nil {
			refusedAsBad(t, err)
			return
		}
		if !json.Valid(text) {
			t.Fatalf("accepted what is no JSON: %q", text)
		}
		tensorsAsPromised(t, request, len(text))
	})
}

func refusedAsBad(t *testing.T, err error) {
	t.Helper()
	var failure *apierr.Error
	if !errors.As(err, &failure) || failure.HTTP != http.StatusBadRequest || failure.Message == "" {
		t.Fatalf("refused with %#v, want an error 400 with a text", err)
	}
}

// inMessage are the inputs that don't lie in shared memory.
func inMessage(request *pb.ModelInferRequest) []*pb.ModelInferRequest_InferInputTensor {
	return slices.DeleteFunc(slices.Clone(request.GetInputs()), func(input *pb.ModelInferRequest_InferInputTensor) bool {
		return inSharedMemory(input.GetParameters())
	})
}

// tensorsAsPromised checks every input of a request that came as so many bytes: its size, and that what was allocated for
// all of them is a small multiple of what was sent, whatever the shapes promise.
func tensorsAsPromised(t *testing.T, request *pb.ModelInferRequest, sent int) {
	t.Helper()
	inputs := inMessage(request)
	if len(inputs) != len(request.GetRawInputContents()) {
		t.Fatalf("%d inputs with %d raw contents", len(inputs), len(request.GetRawInputContents()))
	}
	allocated := 0
	for index, input := range inputs {
		raw := request.GetRawInputContents()[index]
		sizeAsPromised(t, input.GetDatatype(), input.GetShape(), raw)
		allocated += cap(raw)
	}
	const ratio = 8 // "0," is an FP64, of 8 bytes; growing a slice may double it
	if allocated > ratio*sent {
		t.Fatalf("%d bytes made tensors of %d", sent, allocated)
	}
}

func sizeAsPromised(t *testing.T, name string, shape []int64, raw []byte) {
	t.Helper()
	count, err := elements(shape)
	if err != nil {
		t.Fatal(err)
	}
	kind := datatypes[name]
	for range count {
		if len(raw) < max(kind.size, 1) {
			t.Fatalf("%s of shape %v ends early", name, shape)
		}
		if _, raw, err = kind.next(raw); err != nil {
			t.Fatal(err)
		}
	}
	if len(raw) > 0 {
		t.Fatalf("%s of shape %v has %d bytes too many", name, shape, len(raw))
	}
}

// What a response writes, a request reads as the same bytes; what it refuses to write, JSON cannot say.
func FuzzRoundTrip(f *testing.F) {
	names := slices.Sorted(maps.Keys(datatypes))
	for index := range names {
		f.Add(uint8(index), []byte{0, 1, 2, 3, 0xff, 0x80, 0x7f, 0xfe})
		f.Add(uint8(index), []byte("\x01\x00\x00\x00a\x00\x00\x00\x00\x02\x00\x00\x00\xc3\xa9"))
		f.Add(uint8(index), []byte{})
	}
	f.Fuzz(func(t *testing.T, choice uint8, raw []byte) {
		name := names[int(choice)%len(names)]
		raw, count := wellFormed(name, raw)
		text, _, err := AppendInferResponse(nil, answerOf(name, []int64{count}, raw), BinaryOutputs{})
		if err != nil {
			var failure *apierr.Error
			if !errors.As(err, &failure) || failure.Code != apierr.Unrepresentable {
				t.Fatalf("%s %x: %v", name, raw, err)
			}
			return
		}
		var response struct{ Outputs json.RawMessage }
		if err := json.Unmarshal(text, &response); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		request, _, err := DecodeInferRequest([]byte(`{"inputs":`+string(response.Outputs)+`}`), nil, "m", "")
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if !bytes.Equal(request.GetRawInputContents()[0], raw) {
			t.Fatalf("%s: %x came back as %x", name, raw, request.GetRawInputContents()[0])
		}
	})
}

// wellFormed is as many elements as raw has whole, in the one form that a tensor gives them: a BOOL is 0 or 1.
func wellFormed(name string, raw []byte) (elements []byte, count int64) {
	kind := datatypes[name]
	for rest := raw; len(rest) >= max(kind.size, 1); count++ {
		_, next, err := kind.next(rest)
		if err != nil {
			break
		}
		element := rest[:len(rest)-len(next)]
		if name == "BOOL" {
			element = []byte{min(element[0], 1)}
		}
		elements = append(elements, element...)
		rest = next
	}
	return elements, count
}

// Text survives both ways, and encoding/json agrees with both.
func FuzzString(f *testing.F) {
	for _, seed := range []string{"", "a", "é\x00\x1f\x7f", "\"\\/\b\f\n\r\t", "\u2028\ufffd😀"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return // only UTF-8 is ever written; FuzzRoundTrip covers the refusal
		}
		written := appendString(nil, []byte(text))
		var theirs string
		if err := json.Unmarshal(written, &theirs); err != nil || theirs != text {
			t.Fatalf("encoding/json reads %s as %q (%v), want %q", written, theirs, err, text)
		}
		foreign, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, quoted := range [][]byte{written, foreign} {
			ours, err := (&scanner{text: quoted}).string()
			if err != nil || ours != text {
				t.Fatalf("%s is read as %q (%v), want %q", quoted, ours, err, text)
			}
		}
	})
}
