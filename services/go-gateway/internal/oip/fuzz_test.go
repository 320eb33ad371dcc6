package oip

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
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
			var failure *apierr.Error
			if !errors.As(err, &failure) || failure.HTTP != http.StatusBadRequest || failure.Message == "" {
				t.Fatalf("refused with %#v, want an error 400 with a text", err)
			}
			return
		}
		if !json.Valid(text) {
			t.Fatalf("accepted what is no JSON: %q", text)
		}
		if len(request.GetInputs()) != len(request.GetRawInputContents()) {
			t.Fatalf("%d inputs with %d raw contents", len(request.GetInputs()), len(request.GetRawInputContents()))
		}
		for index, input := range request.GetInputs() {
			sizeAsPromised(t, input.GetDatatype(), input.GetShape(), request.GetRawInputContents()[index])
		}
	})
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
