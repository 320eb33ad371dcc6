package oip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// datatype is how the elements of a tensor look in raw form (little-endian) and in JSON.
type datatype struct {
	// size is the number of bytes of a raw element; 0 means BYTES: 4 bytes of length, then that many.
	size int
	// read reads a JSON value and appends the raw element; nil where JSON has no form for it.
	read func(s *scanner, dst []byte) ([]byte, error)
	// write appends the JSON form of one raw element, for BYTES without its length; nil as for read.
	write func(dst, element []byte) ([]byte, error)
}

// largestSize is the size of the largest raw element of fixed size.
const largestSize = 8

// bytesLength is the number of bytes that hold the length of a BYTES element.
const bytesLength = 4

var datatypes = map[string]datatype{
	"BOOL":   {1, readBool, writeBool},
	"UINT8":  {1, readUnsigned("UINT8", 8), writeUnsigned},
	"UINT16": {2, readUnsigned("UINT16", 16), writeUnsigned},
	"UINT32": {4, readUnsigned("UINT32", 32), writeUnsigned},
	"UINT64": {8, readUnsigned("UINT64", 64), writeUnsigned},
	"INT8":   {1, readSigned("INT8", 8), writeSigned},
	"INT16":  {2, readSigned("INT16", 16), writeSigned},
	"INT32":  {4, readSigned("INT32", 32), writeSigned},
	"INT64":  {8, readSigned("INT64", 64), writeSigned},
	"FP32":   {4, readFloat32, writeFloat32},
	"FP64":   {8, readFloat64, writeFloat64},
	"BYTES":  {0, readBytes, writeBytes},
	"FP16":   {2, nil, nil},
	"BF16":   {2, nil, nil},
}

func readBool(s *scanner, dst []byte) ([]byte, error) {
	value, err := s.boolean()
	return appendBool(dst, value), err
}

func appendBool(dst []byte, value bool) []byte {
	if value {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func writeBool(dst, element []byte) ([]byte, error) {
	return strconv.AppendBool(dst, element[0] != 0), nil
}

func readUnsigned(name string, bits int) func(*scanner, []byte) ([]byte, error) {
	return func(s *scanner, dst []byte) ([]byte, error) {
		text, err := s.number("an integer")
		if err != nil {
			return dst, err
		}
		value, err := strconv.ParseUint(string(text), 10, bits)
		if err != nil {
			return dst, integerError(text, fmt.Sprintf("%s (0 to %d)", name, uint64(math.MaxUint64)>>(64-bits)))
		}
		return appendBits(dst, value, bits), nil
	}
}

func readSigned(name string, bits int) func(*scanner, []byte) ([]byte, error) {
	return func(s *scanner, dst []byte) ([]byte, error) {
		text, err := s.number("an integer")
		if err != nil {
			return dst, err
		}
		value, err := strconv.ParseInt(string(text), 10, bits)
		if err != nil {
			return dst, integerError(text, fmt.Sprintf("%s (%d to %d)", name, int64(math.MinInt64)>>(64-bits), int64(math.MaxInt64)>>(64-bits)))
		}
		return appendBits(dst, uint64(value), bits), nil
	}
}

// integerError tells a number that is no integer from an integer that does not fit.
func integerError(text []byte, datatype string) error {
	for _, b := range text {
		if b != '-' && !isDigit(b) {
			return &fieldError{text: fmt.Sprintf("is %s: must be an integer without fraction or exponent", shortened(text))}
		}
	}
	return &fieldError{text: fmt.Sprintf("is %s: out of range for %s", shortened(text), datatype)}
}

// appendBits appends the low bits of value in little-endian order.
func appendBits(dst []byte, value uint64, bits int) []byte {
	switch bits {
	case 8:
		return append(dst, byte(value))
	case 16:
		return binary.LittleEndian.AppendUint16(dst, uint16(value))
	case 32:
		return binary.LittleEndian.AppendUint32(dst, uint32(value))
	default:
		return binary.LittleEndian.AppendUint64(dst, value)
	}
}

func writeUnsigned(dst, element []byte) ([]byte, error) {
	return strconv.AppendUint(dst, unsigned(element), 10), nil
}

func writeSigned(dst, element []byte) ([]byte, error) {
	return strconv.AppendInt(dst, signed(element), 10), nil
}

func signed(element []byte) int64 {
	unused := 64 - 8*len(element)
	return int64(unsigned(element)<<unused) >> unused
}

func unsigned(element []byte) uint64 {
	switch len(element) {
	case 1:
		return uint64(element[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(element))
	case 4:
		return uint64(binary.LittleEndian.Uint32(element))
	default:
		return binary.LittleEndian.Uint64(element)
	}
}

func readFloat32(s *scanner, dst []byte) ([]byte, error) {
	value, err := s.float("FP32", 32)
	return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(value))), err
}

func readFloat64(s *scanner, dst []byte) ([]byte, error) {
	value, err := s.float("FP64", 64)
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(value)), err
}

// float reads a number, rounded to the nearest value that bits can hold.
func (s *scanner) float(datatype string, bits int) (float64, error) {
	if value, ok := s.decimal(bits); ok {
		return value, nil
	}
	text, err := s.number("a number")
	if err != nil {
		return 0, err
	}
	value, err := strconv.ParseFloat(string(text), bits)
	if err != nil {
		return 0, &fieldError{text: fmt.Sprintf("is %s: out of range for %s", shortened(text), datatype)}
	}
	return value, nil
}

func writeFloat32(dst, element []byte) ([]byte, error) {
	return writeFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(element))), 32)
}

func writeFloat64(dst, element []byte) ([]byte, error) {
	return writeFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(element)), 64)
}

func writeFloat(dst []byte, value float64, bits int) ([]byte, error) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return dst, fmt.Errorf("is %v, which JSON cannot say", value)
	}
	if value == 0 && math.Signbit(value) {
		return append(dst, "-0.0"...), nil // -0 is an integer to most readers of JSON, and loses its sign
	}
	return strconv.AppendFloat(dst, value, 'g', -1, bits), nil
}

func readBytes(s *scanner, dst []byte) ([]byte, error) {
	start := len(dst)
	dst, err := s.appendString(append(dst, 0, 0, 0, 0))
	if err != nil {
		return dst, err
	}
	length := len(dst) - start - bytesLength
	if uint64(length) > math.MaxUint32 {
		return dst, &fieldError{text: "is longer than 4 GiB"}
	}
	binary.LittleEndian.PutUint32(dst[start:], uint32(length))
	return dst, nil
}

func writeBytes(dst, element []byte) ([]byte, error) {
	if !utf8.Valid(element) {
		return dst, errors.New("is not UTF-8 text, which JSON strings must be")
	}
	return appendString(dst, element), nil
}

// shortened keeps a number of thousands of digits out of error texts and logs.
func shortened(text []byte) string {
	const longest = 40
	if len(text) <= longest {
		return string(text)
	}
	return string(text[:longest]) + "…"
}
