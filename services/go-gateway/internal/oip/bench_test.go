package oip

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// An image of 3 × 224 × 224 floats, the usual size of a request that is not small.
func imageBody() (body []byte, elements int) {
	elements = 3 * 224 * 224
	random := rand.New(rand.NewPCG(1, 2))
	values := make([]string, elements)
	for index := range values {
		values[index] = fmt.Sprint(random.Float32())
	}
	return fmt.Appendf(nil, `{"inputs":[{"name":"image","datatype":"FP32","shape":[1,3,224,224],"data":[%s]}]}`, strings.Join(values, ",")), elements
}

func BenchmarkDecode(b *testing.B) {
	body, _ := imageBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := DecodeInferRequest(body, nil, "m", ""); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeRow decodes a row of 16 floats, as small requests have.
func BenchmarkDecodeRow(b *testing.B) {
	body := []byte(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1,16],"data":[0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.1,1.2,1.3,1.4,1.5,1.6,1.7]}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := DecodeInferRequest(body, nil, "m", ""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	body, elements := imageBody()
	request, _, err := DecodeInferRequest(body, nil, "m", "")
	if err != nil {
		b.Fatal(err)
	}
	response := &pb.ModelInferResponse{
		ModelName:         "m",
		Outputs:           []*pb.ModelInferResponse_InferOutputTensor{{Name: "image", Datatype: "FP32", Shape: []int64{int64(elements)}}},
		RawOutputContents: request.RawInputContents,
	}
	var text []byte
	b.ReportAllocs()
	for b.Loop() {
		if text, _, err = AppendInferResponse(text[:0], response, BinaryOutputs{}); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(text)))
}

func TestDecodeAllocatesLittleBesidesTheTensor(t *testing.T) {
	body, elements := imageBody()
	allocations := testing.AllocsPerRun(5, func() {
		if _, _, err := DecodeInferRequest(body, nil, "m", ""); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 100 {
		t.Errorf("%v allocations for %d elements, want at most 100 whatever the number of elements", allocations, elements)
	}
}
