package oip

import "math"

// powers are those of ten that a float64 holds exactly.
var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// exactDigits of a number are an integer that a float64 holds exactly.
const exactDigits = 15

// decimal steps over a number of few digits and no exponent, as those of tensors mostly are, and returns it as the quotient of two exact
// numbers, which is therefore rounded once, as strconv does in three times the time (W. D. Clinger, How to read floating point numbers
// accurately, 1990). Otherwise it stays where it is and returns false, also where the text is wrong.
func (s *scanner) decimal(bits int) (float64, bool) {
	s.space()
	at, negative := s.at, false
	if at < len(s.text) && s.text[at] == '-' {
		at, negative = at+1, true
	}
	var digits uint64
	whole := at
	for ; at < len(s.text) && isDigit(s.text[at]) && at-whole <= exactDigits; at++ {
		digits = 10*digits + uint64(s.text[at]-'0')
	}
	length, fraction := at-whole, 0
	if length == 0 || length > 1 && s.text[whole] == '0' {
		return 0, false
	}
	if at < len(s.text) && s.text[at] == '.' {
		point := at
		for at++; at < len(s.text) && isDigit(s.text[at]) && at-point <= exactDigits; at++ {
			digits = 10*digits + uint64(s.text[at]-'0')
		}
		fraction = at - point - 1
		if fraction == 0 {
			return 0, false
		}
	}
	if length+fraction > exactDigits || at < len(s.text) && (isDigit(s.text[at]) || s.text[at] == 'e' || s.text[at] == 'E') {
		return 0, false
	}
	value := float64(digits) / powers[fraction]
	if bits == 32 && isHalfway(value) {
		return 0, false
	}
	if negative {
		value = -value
	}
	s.at = at
	return value, true
}

// isHalfway says whether a value, which is rounded, lies between two neighbours of FP32 with the same distance to both: to
// which it is rounded next depends on what is lost already.
func isHalfway(value float64) bool {
	const lost = 52 - 23 // bits of the fraction
	return math.Float64bits(value)&(1<<lost-1) == 1<<(lost-1)
}
