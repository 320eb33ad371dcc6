package oip

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

func TestDecimal_is_what_strconv_reads_bit_for_bit(t *testing.T) {
	texts := []string{
		"0", "-0", "0.0", "-0.0", "1", "-1.5", "0.1", "3.14159", "16777217", "16777219", "-16777217.0", "0.000000000000001", "999999999999999",
		"9999999999.99999", "1.00000005960464", "1.00000011920929", "0.50000002980232",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		texts = append(texts, fmt.Sprint(random.Float32()), strconv.FormatFloat(random.NormFloat64()*100, 'f', random.IntN(13), 64))
		middle := float64(random.Float32()) + math.Ldexp(1, -25-random.IntN(3)) // between two neighbours of FP32, or near that
		texts = append(texts, strconv.FormatFloat(middle, 'f', 14, 64))
	}
	fast := 0
	for _, text := range texts {
		for _, bits := range []int{32, 64} {
			want, err := strconv.ParseFloat(text, bits)
			if err != nil {
				t.Fatal(err)
			}
			s := scanner{text: []byte(text + ",")}
			got, ok := s.decimal(bits)
			if !ok {
				continue
			}
			fast++
			if bits == 32 {
				got = float64(float32(got))
			}
			if math.Float64bits(got) != math.Float64bits(want) || s.at != len(text) {
				t.Errorf("%s as FP%d: got %v up to byte %d, want %v up to %d", text, bits, got, s.at, want, len(text))
			}
		}
	}
	if fast < len(texts) {
		t.Errorf("%d of %d readings were short decimals, want at least half", fast, 2*len(texts))
	}
}

func TestDecimal_leaves_all_else_where_it_is(t *testing.T) {
	for _, text := range []string{
		"", "-", "x", "01", "-01.5", "1.", "1.e3", "1e3", "1.5E-3", ".5", "+1", "NaN", "1234567890123456", "0.1234567890123456", "12345678.90123456",
		strings.Repeat("9", 400),
	} {
		s := scanner{text: []byte(text)}
		if value, ok := s.decimal(64); ok || s.at != 0 {
			t.Errorf("%q was read as %v up to byte %d", text, value, s.at)
		}
	}
}
