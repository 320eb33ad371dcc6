package rest

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A coded body is refused, or is what the standard library unpacks; neither takes memory beyond the limit.
func FuzzContentCoding(f *testing.F) {
	for _, text := range []string{"", inferBody, strings.Repeat("0", 1<<14)} {
		for _, coding := range []string{identityCoding, gzipCoding, deflateCoding} {
			var packed bytes.Buffer
			writer := encoderOf(coding, &packed)
			if _, err := io.WriteString(writer, text); err != nil {
				f.Fatal(err)
			}
			if err := writer.Close(); err != nil {
				f.Fatal(err)
			}
			f.Add(coding, packed.Bytes())
			f.Add(coding, append(packed.Bytes(), 'x'))
		}
	}
	const limit = 4 << 10
	f.Fuzz(func(t *testing.T, coding string, packed []byte) {
		if _, known := encoders[coding]; !known {
			coding = identityCoding
		}
		var got bytes.Buffer
		err := decode(&got, coding, bytes.NewReader(packed), limit)
		if got.Len() > limit+1 || got.Cap() > 4*limit+bytes.MinRead {
			t.Fatalf("%d bytes in a buffer of %d, against a limit of %d", got.Len(), got.Cap(), limit)
		}
		want, failed := unpacked(coding, packed, limit)
		var overflow *http.MaxBytesError
		switch {
		case errors.As(err, &overflow):
			if failed == nil && len(want) <= limit {
				t.Fatalf("%d bytes are refused as more than %d", len(want), limit)
			}
		case (err == nil) != (failed == nil):
			t.Fatalf("%s %x: %v, the standard library says %v", coding, packed, err, failed)
		case err == nil && !bytes.Equal(got.Bytes(), want):
			t.Fatalf("%s %x: %q, the standard library reads %q", coding, packed, got.Bytes(), want)
		}
	})
}

func encoderOf(coding string, into io.Writer) io.WriteCloser {
	switch coding {
	case gzipCoding:
		return gzip.NewWriter(into)
	case deflateCoding:
		return zlib.NewWriter(into)
	}
	return struct {
		io.Writer
		io.Closer
	}{into, io.NopCloser(nil)}
}

// unpacked is at most one byte more than limit.
func unpacked(coding string, packed []byte, limit int64) ([]byte, error) {
	source := bytes.NewReader(packed)
	reader, err := io.Reader(source), error(nil)
	switch coding {
	case gzipCoding:
		reader, err = gzip.NewReader(source)
	case deflateCoding:
		reader, err = zlib.NewReader(source)
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(reader, limit+1))
	if err == nil && coding == deflateCoding && int64(len(text)) <= limit && source.Len() > 0 {
		err = errors.New("more follows")
	}
	return text, err
}

// No header makes the gateway choose a coding that it lacks, or one that the caller refuses.
func FuzzAcceptedCoding(f *testing.F) {
	for _, seed := range []string{"", "gzip", "deflate;q=0.5, gzip;q=0", "*", "*;q=0", "identity;q=1, *;q=0.1", "gzip;q=nan", ";;=,,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		coding := acceptedCoding(&http.Request{Header: http.Header{"Accept-Encoding": {header}}})
		if !slices.Contains([]string{identityCoding, gzipCoding, deflateCoding}, coding) {
			t.Fatalf("%q: chose %q", header, coding)
		}
		named := strings.Contains(strings.ToLower(header), coding) || strings.Contains(header, "*")
		if coding != identityCoding && !named {
			t.Fatalf("%q: chose %q, which it doesn't name", header, coding)
		}
	})
}

// Whatever an event holds, a reader of server-sent events gets it as it is, but for the kind of its line ends.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"text_output":"a"}`), []byte("two"))
	f.Add([]byte("a\nb\r\nc\rd"), []byte("\n"))
	f.Add([]byte(""), []byte("\r\n\r\n: ping"))
	f.Add([]byte("event: x\nid: 1\n\ndata: y"), []byte(" a"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		stream := appendEvent(nil, first)
		stream = append(stream, ": ping\n\n"...)
		stream = appendEvent(stream, second)
		want := []string{unified(string(first)), unified(string(second))}
		if got := readEvents(string(stream)); !slices.Equal(got, want) {
			t.Fatalf("%q is read as %q, want %q", stream, got, want)
		}
	})
}

// unified has "\n" for every end of a line.
func unified(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
}

// readEvents is the data of each event of a stream, by the standard's own words:
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
func readEvents(stream string) []string {
	var (
		events []string
		data   []string
	)
	for line := range strings.SplitSeq(unified(stream), "\n") {
		field, value, _ := strings.Cut(line, ":")
		switch {
		case line == "" && data != nil:
			events, data = append(events, strings.Join(data, "\n")), nil
		case field == "data":
			data = append(data, strings.TrimPrefix(value, " "))
		}
	}
	return events
}
