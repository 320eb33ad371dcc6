package oip

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
