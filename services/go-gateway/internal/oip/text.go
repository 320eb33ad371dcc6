package oip

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendString appends UTF-8 text as a JSON string.
func appendString(dst, text []byte) []byte {
	dst = append(dst, '"')
	plain := 0
	for index, b := range text {
		if b >= ' ' && b != '"' && b != '\\' {
			continue
		}
		dst = append(dst, text[plain:index]...)
		plain = index + 1
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&0xf])
		}
	}
	return append(append(dst, text[plain:]...), '"')
}

// appendField appends what comes before a value, and the value as a string.
func appendField(dst []byte, before, value string) []byte {
	return appendString(append(dst, before...), []byte(value))
}

// appendOptional is appendField where there is a value, else nothing.
func appendOptional(dst []byte, before, value string) []byte {
	if value == "" {
		return dst
	}
	return appendField(dst, before, value)
}

// string reads a string; it must be valid Unicode.
func (s *scanner) string() (string, error) {
	quoted, err := s.quoted()
	if err != nil {
		return "", err
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted), nil
	}
	text, err := s.unquote(nil, quoted)
	return string(text), err
}

// appendString reads a string and appends its UTF-8 to dst.
func (s *scanner) appendString(dst []byte) ([]byte, error) {
	quoted, err := s.quoted()
	if err != nil {
		return dst, err
	}
	return s.unquote(dst, quoted)
}

// quoted steps over a string and returns what its quotes enclose.
func (s *scanner) quoted() ([]byte, error) {
	if s.next() != '"' {
		return nil, s.mismatch("a string")
	}
	start := s.at + 1
	if err := s.skipString(); err != nil {
		return nil, err
	}
	quoted := s.text[start : s.at-1]
	if !utf8.Valid(quoted) {
		return nil, &syntaxError{at: start, text: "the string is not valid UTF-8"}
	}
	return quoted, nil
}

// unquote appends the UTF-8 of the string that the scanner has just stepped over.
func (s *scanner) unquote(dst, quoted []byte) ([]byte, error) {
	start := s.at - 1 - len(quoted)
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

// skipString steps over a string and checks its escapes.
func (s *scanner) skipString() error {
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
			if err := s.skipEscape(); err != nil {
				return err
			}
		}
	}
	return s.unexpected("the end of the string")
}

func (s *scanner) skipEscape() error {
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

// unescape is the character of the escape that quoted starts with, and the escape's length; skipString has checked it.
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
	value, _ := strconv.ParseUint(string(escape[2:6]), 16, 32) // skipEscape has checked the digits
	return rune(value)
}
