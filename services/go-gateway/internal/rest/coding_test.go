package rest

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// coded is a text in a content coding.
func coded(t *testing.T, coding, text string) string {
	t.Helper()
	var into bytes.Buffer
	writer := io.WriteCloser(gzip.NewWriter(&into))
	if coding == deflateCoding {
		writer = zlib.NewWriter(&into)
	}
	if _, err := io.WriteString(writer, text); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return into.String()
}

// plain is a text out of its content coding.
func plain(t *testing.T, coding, text string) string {
	t.Helper()
	reader, err := decoded(coding, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestCompressedBodiesAreRead(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	const want = `{"model_name":"digits","model_version":"1","id":"7","outputs":[{"name":"y","datatype":"FP32","shape":[2],"data":[0.5,1]}]}`
	for name, test := range map[string]struct {
		coding, body, want string
		headers            []string
	}{
		"gzip":           {gzipCoding, inferBody, want, []string{"Content-Encoding: gzip"}},
		"deflate":        {deflateCoding, inferBody, want, []string{"Content-Encoding: Deflate"}},
		"two members":    {gzipCoding, inferBody[:20], want, []string{"Content-Encoding: identity, gzip"}},
		"binary tensors": {gzipCoding, binaryJSON + binaryTensor, binaryOutputs + binaryTensor, []string{"Content-Encoding: gzip", headerLength(binaryJSON)}},
	} {
		t.Run(name, func(t *testing.T) {
			body := coded(t, test.coding, test.body)
			if len(test.body) == 20 {
				body += coded(t, test.coding, inferBody[20:])
			}
			if got := g.call(t, "POST", inferPath, body, test.headers...); got.status != http.StatusOK || got.body != test.want {
				t.Errorf("got %d %q, want 200 %q", got.status, got.body, test.want)
			}
		})
	}
}

func TestBodiesThatCannotBeDecodedAreRefused(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	whole := coded(t, gzipCoding, inferBody)
	for name, test := range map[string]struct {
		body, coding, code string
		status             int
	}{
		"plain text called gzip":    {inferBody, "gzip", "INVALID_REQUEST", http.StatusBadRequest},
		"plain text called deflate": {inferBody, "deflate", "INVALID_REQUEST", http.StatusBadRequest},
		"gzip cut short":            {whole[:len(whole)-12], "gzip", "INVALID_REQUEST", http.StatusBadRequest},
		"gzip with a wrong sum":     {whole[:len(whole)-8] + "12345678", "gzip", "INVALID_REQUEST", http.StatusBadRequest},
		"gzip with more behind":     {whole + "more", "gzip", "INVALID_REQUEST", http.StatusBadRequest},
		"deflate with more behind":  {coded(t, deflateCoding, inferBody) + "more", "deflate", "INVALID_REQUEST", http.StatusBadRequest},
		"nothing called gzip":       {"", "gzip", "INVALID_REQUEST", http.StatusBadRequest},
		"another coding":            {inferBody, "br", "UNSUPPORTED_CODING", http.StatusUnsupportedMediaType},
		"coded twice":               {inferBody, "gzip, deflate", "UNSUPPORTED_CODING", http.StatusUnsupportedMediaType},
	} {
		t.Run(name, func(t *testing.T) {
			got := g.call(t, "POST", inferPath, test.body, "Content-Encoding: "+test.coding)
			if code, message, _ := got.failure(t); got.status != test.status || code != test.code || !strings.Contains(message, test.coding) {
				t.Errorf("got %d %s %q, want %d %s", got.status, code, message, test.status, test.code)
			}
			if accepted := got.header.Get("Accept-Encoding"); (test.status == http.StatusUnsupportedMediaType) != (accepted == "gzip, deflate, identity") {
				t.Errorf("Accept-Encoding is %q", accepted)
			}
		})
	}
}

// Kilobytes that unpack to megabytes must cost no more than the limit on bodies asks for.
func TestBombIsRefusedBeforeItUnfolds(t *testing.T) {
	const limit = 64 << 10
	g := newGateway(t, &pod{}, func(options *Options) { options.MaxRequestBytes = limit })
	for _, coding := range []string{gzipCoding, deflateCoding} {
		t.Run(coding, func(t *testing.T) {
			var bomb bytes.Buffer
			writer := io.WriteCloser(gzip.NewWriter(&bomb))
			if coding == deflateCoding {
				writer = zlib.NewWriter(&bomb)
			}
			if _, err := io.CopyN(writer, zeros{}, 8<<20); err != nil {
				t.Fatal(err)
			}
			if err := writer.Close(); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got := g.call(t, "POST", inferPath, bomb.String(), "Content-Encoding: "+coding)
			runtime.ReadMemStats(&after)
			if code, _, _ := got.failure(t); got.status != http.StatusRequestEntityTooLarge || code != "MESSAGE_TOO_LARGE" {
				t.Errorf("got %d %s", got.status, code)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 2<<20 {
				t.Errorf("a bomb against a limit of %d bytes made the gateway allocate %d", limit, grown)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) {
	clear(into)
	return len(into), nil
}

func TestAnswersAreCompressedWhereThatIsAcceptedAndPays(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	g.Client().Transport.(*http.Transport).DisableCompression = true // which hides what arrives
	large := `{"inputs":[{"name":"x","datatype":"UINT8","shape":[2000],"data":[0` + strings.Repeat(",0", 1999) + `]}]}`
	for name, test := range map[string]struct{ body, accepted, want string }{
		"gzip":               {large, "gzip", "gzip"},
		"deflate":            {large, "deflate", "deflate"},
		"both":               {large, "deflate, gzip", "gzip"},
		"the better of both": {large, "gzip;q=0.5, Deflate;q=0.9", "deflate"},
		"anything":           {large, "*", "gzip"},
		"anything but gzip":  {large, "*, gzip;q=0", "deflate"},
		"plain liked best":   {large, "gzip;q=0.5, identity", ""},
		"plain liked less":   {large, "gzip, identity;q=0.5", "gzip"},
		"none":               {large, "gzip;q=0, deflate;q=0.0", ""},
		"unknown ones":       {large, "br, zstd", ""},
		"a weight of nought": {large, "gzip;q=none", ""},
		"nothing":            {large, "", ""},
		"a small answer":     {inferBody, "gzip", ""},
	} {
		t.Run(name, func(t *testing.T) {
			expected := g.call(t, "POST", inferPath, test.body)
			got := g.call(t, "POST", inferPath, test.body, "Accept-Encoding: "+test.accepted)
			if got.status != http.StatusOK || got.header.Get("Content-Encoding") != test.want || got.header.Get("Vary") != "Accept-Encoding" {
				t.Fatalf("got %d %v", got.status, got.header)
			}
			if text := plain(t, test.want, got.body); text != expected.body {
				t.Errorf("got %q, want %q", text, expected.body)
			}
		})
	}
}

func TestLengthOfTheJSONCountsUncompressedBytes(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	const text = `{"inputs":[{"name":"x","datatype":"UINT8","shape":[4000],"parameters":{"binary_data_size":4000}}],"parameters":{"binary_data_output":true}}`
	tensor := strings.Repeat("\xff", 4000)
	got := g.call(t, "POST", inferPath, text+tensor, headerLength(text), "Accept-Encoding: gzip")
	const want = `{"model_name":"digits","model_version":"1","outputs":[{"name":"y","datatype":"UINT8","shape":[4000],"parameters":{"binary_data_size":4000}}]}`
	if length := headerLength(want); "Inference-Header-Content-Length: "+got.header.Get("Inference-Header-Content-Length") != length || got.header.Get("Content-Encoding") != "gzip" {
		t.Errorf("got %v, want %s", got.header, length)
	}
	if text := plain(t, gzipCoding, got.body); text != want+tensor {
		t.Errorf("got %q", text)
	}
}
