package oip

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds how deep arrays and objects nest, and so the recursion: envelopes use 4 levels, tensors one per dimension.
const maxDepth = 64

// scanner reads JSON text (RFC 8259) in place, without building values that nobody asked for.
//
// Its methods read one value each, from the first byte that is not space. They fail with a *syntaxError where the text is
// no JSON, and with a *fieldError where it is JSON of another type than expected.
type scanner struct {
	text  []byte
	at    int
	depth int
}

// syntaxError says that the text is not JSON.
type syntaxError struct {
	at   int
	text string
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("the body is not valid JSON: byte %d: %s", e.at, e.text)
}

// fieldError says that one field holds something it must not.
type fieldError struct {
	path string
	text string
}

func (e *fieldError) Error() string {
	if e.path == "" {
		return "the body " + e.text
	}
	return e.path + " " + e.text
}

// within puts the name of the enclosing field before the path of a fieldError.
func within(step string, err error) error {
	if err == nil {
		return nil
	}
	var field *fieldError
	if !errors.As(err, &field) {
		return err
	}
	separator := "."
	if field.path == "" || field.path[0] == '[' {
		separator = ""
	}
	return &fieldError{path: step + separator + field.path, text: field.text}
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\n', '\t', '\r':
			s.at++
		default:
			return
		}
	}
}

// next is the first byte that is not space, 0 at the end.
func (s *scanner) next() byte {
	s.space()
	if s.at == len(s.text) {
		return 0
	}
	return s.text[s.at]
}

// took steps over the byte if it is the next one that is not space.
func (s *scanner) took(expected byte) bool {
	if s.next() != expected || expected == 0 {
		return false
	}
	s.at++
	return true
}

// end checks that nothing follows.
func (s *scanner) end() error {
	if s.next(); s.at < len(s.text) {
		return s.unexpected("the end")
	}
	return nil
}

func (s *scanner) unexpected(wanted string) error {
	if s.at >= len(s.text) {
		return &syntaxError{at: s.at, text: "the text ends where " + wanted + " should be"}
	}
	found, _ := utf8.DecodeRune(s.text[s.at:])
	text := fmt.Sprintf("found %q where %s should be", found, wanted)
	rest := bytes.TrimPrefix(s.text[s.at:], []byte("-"))
	if bytes.HasPrefix(rest, []byte("NaN")) || bytes.HasPrefix(rest, []byte("Inf")) {
		text += "; JSON has no NaN and no infinity, send such tensors as binary data or by gRPC"
	}
	return &syntaxError{at: s.at, text: text}
}

// object reads an object; visit reads the value of each key. A key given twice is refused.
func (s *scanner) object(visit func(key string) error) error {
	if s.next() != '{' {
		return s.mismatch("an object")
	}
	seen := make(map[string]struct{}, 8)
	return s.list('}', func(int) error {
		if s.next() != '"' {
			return s.unexpected("a field name")
		}
		key, err := s.string()
		if err != nil {
			return err
		}
		if !s.took(':') {
			return s.unexpected(`":"`)
		}
		if _, twice := seen[key]; twice {
			return &fieldError{path: key, text: "is given twice"}
		}
		seen[key] = struct{}{}
		return within(key, visit(key))
	})
}

// array reads an array; visit reads the value at each index.
func (s *scanner) array(visit func(index int) error) error {
	if s.next() != '[' {
		return s.mismatch("an array")
	}
	return s.list(']', func(index int) error {
		err := visit(index)
		if err != nil {
			return within("["+strconv.Itoa(index)+"]", err)
		}
		return nil
	})
}

// list reads comma-separated items up to the closing bracket, from the opening one.
func (s *scanner) list(closing byte, item func(index int) error) error {
	if s.depth == maxDepth {
		return &syntaxError{at: s.at, text: fmt.Sprintf("arrays and objects nest deeper than %d", maxDepth)}
	}
	s.depth++
	s.at++
	defer func() { s.depth-- }()
	if s.took(closing) {
		return nil
	}
	for index := 0; ; index++ {
		if err := item(index); err != nil {
			return err
		}
		if s.took(closing) {
			return nil
		}
		if !s.took(',') {
			return s.unexpected(fmt.Sprintf(`"," or "%c"`, closing))
		}
	}
}

// skip steps over any value and checks its syntax.
func (s *scanner) skip() error {
	switch next := s.next(); {
	case next == '[':
		return s.list(']', func(int) error { return s.skip() })
	case next == '{':
		return s.list('}', func(int) error {
			if s.next() != '"' {
				return s.unexpected("a field name")
			}
			if err := s.skipString(); err != nil {
				return err
			}
			if !s.took(':') {
				return s.unexpected(`":"`)
			}
			return s.skip()
		})
	case next == '"':
		return s.skipString()
	case next == '-' || isDigit(next):
		return s.skipNumber()
	case s.word("true"), s.word("false"), s.word("null"):
		return nil
	}
	return s.unexpected("a value")
}

// mismatch is the error for a value that is not what the field takes.
func (s *scanner) mismatch(wanted string) error {
	if err := s.skip(); err != nil {
		return err
	}
	return &fieldError{text: "must be " + wanted}
}

// word steps over a literal name if it is next.
func (s *scanner) word(name string) bool {
	if !bytes.HasPrefix(s.text[s.at:], []byte(name)) {
		return false
	}
	s.at += len(name)
	return true
}

// boolean reads true or false.
func (s *scanner) boolean() (bool, error) {
	s.space()
	switch {
	case s.word("true"):
		return true, nil
	case s.word("false"):
		return false, nil
	}
	return false, s.mismatch("true or false")
}

// number reads a number and returns its text.
func (s *scanner) number(wanted string) ([]byte, error) {
	if next := s.next(); next != '-' && !isDigit(next) {
		return nil, s.mismatch(wanted)
	}
	start := s.at
	if err := s.skipNumber(); err != nil {
		return nil, err
	}
	return s.text[start:s.at], nil
}

func (s *scanner) skipNumber() error {
	if s.text[s.at] == '-' {
		s.at++
	}
	if s.at < len(s.text) && s.text[s.at] == '0' {
		s.at++
	} else if !s.skipDigits() {
		return s.unexpected("a digit")
	}
	if s.at < len(s.text) && s.text[s.at] == '.' {
		s.at++
		if !s.skipDigits() {
			return s.unexpected("a digit")
		}
	}
	if s.at < len(s.text) && (s.text[s.at] == 'e' || s.text[s.at] == 'E') {
		s.at++
		if s.at < len(s.text) && (s.text[s.at] == '+' || s.text[s.at] == '-') {
			s.at++
		}
		if !s.skipDigits() {
			return s.unexpected("a digit")
		}
	}
	return nil
}

func (s *scanner) skipDigits() bool {
	start := s.at
	for s.at < len(s.text) && isDigit(s.text[s.at]) {
		s.at++
	}
	return s.at > start
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }
