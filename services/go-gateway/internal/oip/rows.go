package oip

import "fmt"

// CutRows cuts raw data of this datatype and shape along the first dimension into pieces of so many rows each, in order. It
// copies nothing. The error says how shape, data or rows contradict each other.
func CutRows(datatype string, shape []int64, raw []byte, rows []int) ([][]byte, error) {
	kind, ok := datatypes[datatype]
	if !ok {
		return nil, fmt.Errorf("datatype %q is unknown", datatype)
	}
	count, err := elements(shape)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, n := range rows {
		total += n
	}
	if len(shape) == 0 || shape[0] != int64(total) {
		return nil, fmt.Errorf("shape %s has not the %d rows that were asked for", shapeText(shape), total)
	}
	if kind.size > 0 && int64(len(raw)) != count*int64(kind.size) {
		return nil, fmt.Errorf("shape %s needs %d bytes of %s, found %d", shapeText(shape), count*int64(kind.size), datatype, len(raw))
	}
	pieces := make([][]byte, len(rows))
	for index, n := range rows {
		length, err := kind.length(raw, int64(n)*(count/max(int64(total), 1)))
		if err != nil {
			return nil, err
		}
		pieces[index], raw = raw[:length:length], raw[length:]
	}
	if len(raw) > 0 {
		return nil, fmt.Errorf("%d bytes follow the last element", len(raw))
	}
	return pieces, nil
}

// length is the number of bytes that the first elements of raw take: BYTES must be walked.
func (d datatype) length(raw []byte, elements int64) (int, error) {
	if d.size > 0 {
		return int(elements) * d.size, nil
	}
	left := raw
	for index := range elements {
		_, rest, err := d.next(left)
		if err != nil {
			return 0, fmt.Errorf("element %d %w", index, err)
		}
		left = rest
	}
	return len(raw) - len(left), nil
}
