package oip

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
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
		text += "; JSON has no NaN and no infinity, send such tensors by gRPC"
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

// skip steps over any value, checks its syntax and returns its text.
func (s *scanner) skip() ([]byte, error) {
	s.space()
	start := s.at
	if err := s.pass(); err != nil {
		return nil, err
	}
	return s.text[start:s.at], nil
}

func (s *scanner) pass() error {
	switch next := s.next(); {
	case next == '[':
		return s.list(']', func(int) error { return s.pass() })
	case next == '{':
		return s.list('}', func(int) error {
			if s.next() != '"' {
				return s.unexpected("a field name")
			}
			if err := s.passString(); err != nil {
				return err
			}
			if !s.took(':') {
				return s.unexpected(`":"`)
			}
			return s.pass()
		})
	case next == '"':
		return s.passString()
	case next == '-' || isDigit(next):
		return s.passNumber()
	case s.word("true"), s.word("false"), s.word("null"):
		return nil
	}
	return s.unexpected("a value")
}

// mismatch is the error for a value that is not what the field takes.
func (s *scanner) mismatch(wanted string) error {
	if err := s.pass(); err != nil {
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
	if err := s.passNumber(); err != nil {
		return nil, err
	}
	return s.text[start:s.at], nil
}

func (s *scanner) passNumber() error {
	if s.text[s.at] == '-' {
		s.at++
	}
	if s.at < len(s.text) && s.text[s.at] == '0' {
		s.at++
	} else if !s.passDigits() {
		return s.unexpected("a digit")
	}
	if s.at < len(s.text) && s.text[s.at] == '.' {
		s.at++
		if !s.passDigits() {
			return s.unexpected("a digit")
		}
	}
	if s.at < len(s.text) && (s.text[s.at] == 'e' || s.text[s.at] == 'E') {
		s.at++
		if s.at < len(s.text) && (s.text[s.at] == '+' || s.text[s.at] == '-') {
			s.at++
		}
		if !s.passDigits() {
			return s.unexpected("a digit")
		}
	}
	return nil
}

func (s *scanner) passDigits() bool {
	start := s.at
	for s.at < len(s.text) && isDigit(s.text[s.at]) {
		s.at++
	}
	return s.at > start
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

// string reads a string; it must be valid Unicode.
func (s *scanner) string() (string, error) {
	text, err := s.appendString(nil)
	return string(text), err
}

// appendString reads a string and appends its UTF-8 to dst.
func (s *scanner) appendString(dst []byte) ([]byte, error) {
	if s.next() != '"' {
		return dst, s.mismatch("a string")
	}
	start := s.at + 1
	if err := s.passString(); err != nil {
		return dst, err
	}
	quoted := s.text[start : s.at-1]
	if !utf8.Valid(quoted) {
		return dst, &syntaxError{at: start, text: "the string is not valid UTF-8"}
	}
	for {
		escape := bytes.IndexByte(quoted, '\\')
		if escape < 0 {
			return append(dst, quoted...), nil
		}
		dst = append(dst, quoted[:escape]...)
		character, length := unescape(quoted[escape:])
		if character == utf8.RuneError && length == len(`\u0000`) && !isReplacement(quoted[escape:]) {
			return dst, &syntaxError{at: start, text: "the string has half of a surrogate pair"}
		}
		dst = utf8.AppendRune(dst, character)
		quoted = quoted[escape+length:]
	}
}

// passString steps over a string and checks its escapes.
func (s *scanner) passString() error {
	s.at++
	for s.at < len(s.text) {
		switch b := s.text[s.at]; {
		case b == '"':
			s.at++
			return nil
		case b < ' ':
			return s.unexpected("an escape of this control character")
		case b != '\\':
			s.at++
		default:
			if err := s.passEscape(); err != nil {
				return err
			}
		}
	}
	return s.unexpected("the end of the string")
}

func (s *scanner) passEscape() error {
	s.at++
	if s.at < len(s.text) && bytes.IndexByte([]byte(`"\/bfnrt`), s.text[s.at]) >= 0 {
		s.at++
		return nil
	}
	if s.at == len(s.text) || s.text[s.at] != 'u' {
		return s.unexpected("an escape")
	}
	s.at++
	for range 4 {
		if s.at == len(s.text) || !isHex(s.text[s.at]) {
			return s.unexpected("a hexadecimal digit")
		}
		s.at++
	}
	return nil
}

func isHex(b byte) bool {
	return isDigit(b) || 'a' <= b|0x20 && b|0x20 <= 'f'
}

// unescape is the character of the escape that quoted starts with, and the escape's length; passString has checked it.
func unescape(quoted []byte) (character rune, length int) {
	switch quoted[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		return unescapeUnicode(quoted)
	}
	return rune(quoted[1]), 2
}

// unescapeUnicode reads \uXXXX, or two of them where they are a surrogate pair; half a pair is utf8.RuneError.
func unescapeUnicode(quoted []byte) (character rune, length int) {
	first := hexRune(quoted)
	if !utf16.IsSurrogate(first) {
		return first, 6
	}
	if len(quoted) >= 12 && quoted[6] == '\\' && quoted[7] == 'u' {
		if pair := utf16.DecodeRune(first, hexRune(quoted[6:])); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

// isReplacement tells the character U+FFFD, spelt out, from the mark of half a surrogate pair.
func isReplacement(quoted []byte) bool { return hexRune(quoted) == utf8.RuneError }

func hexRune(escape []byte) rune {
	value, _ := strconv.ParseUint(string(escape[2:6]), 16, 32) // passEscape has checked the digits
	return rune(value)
}
