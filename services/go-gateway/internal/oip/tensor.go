package oip

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// readTensor reads the JSON data of one tensor, flat in row-major order or nested as the shape says, into raw form.
func readTensor(s *scanner, name string, shape []int64) ([]byte, error) {
	kind, err := jsonDatatype(name)
	if err != nil {
		return nil, err
	}
	count, err := elements(shape)
	if err != nil {
		return nil, err
	}
	reader := tensorReader{scanner: s, kind: kind, raw: make([]byte, 0, capacity(kind, count, len(s.text)-s.at))}
	if s.isFlat() {
		shape = []int64{count}
	}
	if err := reader.dimension(shape); err != nil {
		return nil, within("data", err)
	}
	return reader.raw, nil
}

// jsonDatatype is the datatype of that name, which JSON can say.
func jsonDatatype(name string) (datatype, error) {
	kind, ok := datatypes[name]
	if !ok {
		return datatype{}, unknownDatatype(name)
	}
	if kind.read == nil {
		return datatype{}, fmt.Errorf("datatype %s has no JSON form; send it as binary data or call by gRPC", name)
	}
	return kind, nil
}

func unknownDatatype(name string) error {
	return fmt.Errorf("datatype %q is unknown; known are %s", name, strings.Join(slices.Sorted(maps.Keys(datatypes)), ", "))
}

// capacity is the size of the raw tensor, bounded by what that much text can hold: a shape may promise anything.
func capacity(kind datatype, count int64, text int) int64 {
	const shortestElement = 2 // a digit and a comma
	return min(count, int64(text/shortestElement+1)) * int64(max(kind.size, bytesLength+1))
}

// isFlat reports whether the data is one array of elements.
func (s *scanner) isFlat() bool {
	if s.next() != '[' {
		return false
	}
	ahead := *s
	ahead.at++
	return ahead.next() != '['
}

type tensorReader struct {
	*scanner
	kind datatype
	raw  []byte
}

// dimension reads the array of the first dimension of shape and, in it, those of the others; without dimensions, an element.
func (r *tensorReader) dimension(shape []int64) error {
	if len(shape) == 0 {
		return r.element()
	}
	found := int64(0)
	err := r.array(func(int) error {
		found++
		return r.dimension(shape[1:])
	})
	if err == nil && found != shape[0] {
		return &fieldError{text: fmt.Sprintf("must hold %d, as the shape says, but holds %d", shape[0], found)}
	}
	return err
}

func (r *tensorReader) element() (err error) {
	r.raw, err = r.kind.read(r.scanner, r.raw)
	return err
}
