package oip

// decodeObject reads the body of an administrative route; visit reads the value of each key. Triton's clients send some of
// these bodies empty, which is an object without fields.
// https://github.com/triton-inference-server/server/tree/main/docs/protocol
func decodeObject(body []byte, visit func(s *scanner, key string) error) error {
	s := &scanner{text: body}
	if s.next() == 0 && s.at == len(body) {
		return nil
	}
	err := s.object(func(key string) error { return visit(s, key) })
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return refusal(err)
	}
	return nil
}
