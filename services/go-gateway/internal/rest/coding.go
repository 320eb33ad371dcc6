package rest

import (
	"bufio"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// Content codings, as RFC 9110, section 8.4.1, names them: deflate is zlib's format.
const (
	identityCoding = "identity"
	gzipCoding     = "gzip"
	deflateCoding  = "deflate"
)

// leastCompressed is the size from which an answer is compressed: below it, compression costs more than it saves.
const leastCompressed = 1 << 10

// varies is the header Vary of an answer that could have another coding. It is shared: nobody may change it.
var varies = []string{"Accept-Encoding"}

// contentCoding is the coding of the request's body.
func contentCoding(w http.ResponseWriter, r *http.Request) (string, error) {
	coding := identityCoding
	if r.Header["Content-Encoding"] == nil {
		return coding, nil
	}
	all := strings.Join(r.Header.Values("Content-Encoding"), ", ")
	for _, name := range strings.FieldsFunc(strings.ToLower(all), func(c rune) bool { return c == ',' || c == ' ' }) {
		known := name == gzipCoding || name == deflateCoding || name == identityCoding
		if !known || coding != identityCoding {
			w.Header().Set("Accept-Encoding", "gzip, deflate, identity")
			return "", apierr.New(apierr.UnsupportedCoding, "Content-Encoding %q is not supported; compress the body once, by gzip or deflate, or send it as it is", all)
		}
		coding = name
	}
	return coding, nil
}

// decoded reads body without its coding. The reader fails on what is not of that coding, also on what follows its end.
func decoded(coding string, body io.Reader) (io.Reader, error) {
	switch coding {
	case gzipCoding:
		return gzip.NewReader(body)
	case deflateCoding:
		source := bufio.NewReader(body)
		plain, err := zlib.NewReader(source)
		return &wholeReader{plain, source}, err
	}
	return body, nil
}

// wholeReader fails where plain ends before its source does.
type wholeReader struct {
	plain  io.Reader
	source *bufio.Reader
}

func (r *wholeReader) Read(into []byte) (int, error) {
	n, err := r.plain.Read(into)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	switch _, more := r.source.Peek(1); {
	case more == nil:
		return n, errors.New("bytes follow the end of the compressed data")
	case !errors.Is(more, io.EOF):
		return n, more
	}
	return n, io.EOF
}

// acceptedCoding is the coding in which the caller most likes to have an answer, gzip where several are equal. Identity is
// the last choice, unless the caller weighs it. Source: RFC 9110, section 12.5.3.
func acceptedCoding(r *http.Request) string {
	all := r.Header.Values("Accept-Encoding")
	if len(all) == 0 {
		return identityCoding
	}
	weights := map[string]float64{}
	for item := range strings.SplitSeq(strings.ToLower(strings.Join(all, ",")), ",") {
		name, parameters, _ := strings.Cut(item, ";")
		weights[strings.TrimSpace(name)] = weight(parameters)
	}
	best, most := identityCoding, weights[identityCoding]
	for _, coding := range []string{deflateCoding, gzipCoding} {
		own, named := weights[coding]
		if !named {
			own = weights["*"]
		}
		if own > 0 && own >= most {
			best, most = coding, own
		}
	}
	return best
}

// weight reads the parameter q; one that is no weight counts as a refusal.
func weight(parameters string) float64 {
	name, value, found := strings.Cut(strings.TrimSpace(parameters), "=")
	if !found {
		return 1
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || strings.TrimSpace(name) != "q" || q < 0 || q > 1 {
		return 0
	}
	return q
}

// encoder compresses to a writer that may change.
type encoder interface {
	io.WriteCloser
	Reset(io.Writer)
}

// encoders hold buffers of hundreds of kilobytes, so they are kept for the next answer.
var encoders = map[string]*sync.Pool{
	gzipCoding: {New: func() any {
		writer, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is one of the package's own
		return writer
	}},
	deflateCoding: {New: func() any {
		writer, _ := zlib.NewWriterLevel(nil, zlib.BestSpeed) // as above
		return writer
	}},
}

// answerAccepted is answer in the coding that the caller accepts. Lengths in other headers count uncompressed bytes.
func answerAccepted(w http.ResponseWriter, r *http.Request, contentType string, text []byte, tensors ...[]byte) error {
	w.Header()["Vary"] = varies
	coding := acceptedCoding(r)
	if size(text, tensors) < leastCompressed || coding == identityCoding {
		return answer(w, contentType, text, tensors...)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Encoding", coding)
	pool := encoders[coding]
	compressor := pool.Get().(encoder)
	defer pool.Put(compressor)
	compressor.Reset(w)
	return sent(errors.Join(writeAll(compressor, text, tensors), compressor.Close()))
}
