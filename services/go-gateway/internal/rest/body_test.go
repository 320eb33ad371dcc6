package rest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestBodiesAboveTheLimitAreRefused(t *testing.T) {
	const limit = 200
	g := newGateway(t, &pod{}, func(options *Options) { options.MaxRequestBytes = limit })
	padded := strings.Repeat(" ", limit-len(inferBody)) + inferBody
	dense := `{"inputs":[{"name":"x","datatype":"FP64","shape":[40],"data":[` + strings.Repeat("0,", 39) + `0]}]}`
	for name, test := range map[string]struct {
		body    io.Reader
		status  int
		message string
	}{
		"as large as allowed":           {strings.NewReader(padded), http.StatusOK, ""},
		"one byte more":                 {strings.NewReader(" " + padded), http.StatusRequestEntityTooLarge, "the request has 201 bytes, more than limits.maxRequestBytes = 200"},
		"one more of unannounced size":  {io.MultiReader(strings.NewReader(" " + padded)), http.StatusRequestEntityTooLarge, "the body is larger than limits.maxRequestBytes = 200"},
		"small text of a large message": {strings.NewReader(dense), http.StatusRequestEntityTooLarge, "the request has 345 bytes, more than limits.maxRequestBytes = 200"},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+inferPath, test.body)
			if err != nil {
				t.Fatal(err)
			}
			got := g.send(t, request)
			if got.status != test.status {
				t.Fatalf("got %d %s, want %d", got.status, got.body, test.status)
			}
			if test.message == "" {
				return
			}
			if code, message, _ := got.failure(t); code != "MESSAGE_TOO_LARGE" || message != test.message {
				t.Errorf("got %s %q, want MESSAGE_TOO_LARGE %q", code, message, test.message)
			}
		})
	}
}

func TestBodyThatNeverEndsStopsAtTheDeadline(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	body, writer := io.Pipe()
	defer func() { _ = writer.Close() }() // a pipe's end never fails to close
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+inferPath, body)
	if err != nil {
		t.Fatal(err)
	}
	got := g.send(t, request, "X-Request-Timeout: 50ms")
	code, message, _ := got.failure(t)
	if got.status != http.StatusRequestTimeout || code != "REQUEST_TIMEOUT" || !strings.HasPrefix(message, "the deadline passed before the body was read") {
		t.Errorf("got %d %s %q", got.status, code, message)
	}
}

func TestBodyThatBreaksOffIsTheCallersFault(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	for name, test := range map[string]struct {
		request       string
		status        int
		code, message string
	}{
		"a chunk without size": {"Transfer-Encoding: chunked\r\n\r\nnone\r\n", http.StatusBadRequest, "INVALID_REQUEST", "the body could not be read: invalid byte in chunk length"},
		"an end too early":     {"Content-Length: 100\r\n\r\n{", 499, "CANCELLED", "the caller went away before the body was read: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := connection.Close(); err != nil {
					t.Error(err)
				}
			}()
			if _, err := io.WriteString(connection, "POST "+inferPath+" HTTP/1.1\r\nHost: gateway\r\n"+test.request); err != nil {
				t.Fatal(err)
			}
			if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(connection), nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(response.Body)
			if err != nil || response.Body.Close() != nil {
				t.Fatal(err)
			}
			got := answered{status: response.StatusCode, header: response.Header, body: string(text)}
			if code, message, _ := got.failure(t); got.status != test.status || code != test.code || message != test.message {
				t.Errorf("got %d %s %q, want %d %s %q", got.status, code, message, test.status, test.code, test.message)
			}
		})
	}
}

func TestConnectionOutlivesTheDeadlineOfItsCalls(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	for range 2 {
		if got := g.call(t, "POST", inferPath, inferBody, "X-Request-Timeout: "+time.Hour.String()); got.status != http.StatusOK {
			t.Errorf("got %d %s", got.status, got.body)
		}
	}
}

func TestCallerStillSendingTooLargeABodyReadsTheRefusal(t *testing.T) {
	const limit = 1 << 20
	g := newGateway(t, &pod{}, func(options *Options) { options.MaxRequestBytes = limit })
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(g.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }() // the answer was read by then
	const size = 16 * limit                   // more than socket buffers hold: the sender blocks unless the gateway reads
	head := "POST " + inferPath + " HTTP/1.1\r\nHost: gateway\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n"
	if _, err := io.WriteString(connection, head+strings.Repeat("x", size)); err != nil {
		t.Fatalf("cut off while sending: %v", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // the status is all that is asked for
	if response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d, want 413", response.StatusCode)
	}
}
