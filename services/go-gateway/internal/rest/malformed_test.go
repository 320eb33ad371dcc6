package rest

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestHTTPThatNoHandlerSeesIsRefusedInTheSameForm(t *testing.T) {
	g := newGateway(t, &pod{}, nil)
	server := httptest.NewUnstartedServer(g.Config.Handler)
	server.Listener = Listener{server.Listener}
	server.Config.MaxHeaderBytes = 1 << 10
	server.Config.DisableGeneralOptionsHandler = true
	server.Start()
	t.Cleanup(server.Close)
	const host = "Host: gateway\r\n"
	for name, test := range map[string]struct {
		request       string
		status        int
		code, message string
	}{
		"no HTTP at all":      {"hello\r\n\r\n", 400, "INVALID_REQUEST", "the request is not valid HTTP"},
		"no host":             {"GET /v2 HTTP/1.1\r\n\r\n", 400, "INVALID_REQUEST", "the request is not valid HTTP: missing required Host header"},
		"a broken header":     {"GET /v2 HTTP/1.1\r\n" + host + "no colon\r\n\r\n", 400, "INVALID_REQUEST", "the request is not valid HTTP"},
		"a broken escape":     {"GET /v2/%zz HTTP/1.1\r\n" + host + "\r\n", 400, "INVALID_REQUEST", "the request is not valid HTTP"},
		"headers too large":   {"GET /v2 HTTP/1.1\r\n" + host + "X-A: " + strings.Repeat("a", 8<<10) + "\r\n\r\n", 431, "HEADERS_TOO_LARGE", "the request's headers are larger than the gateway reads; send fewer or shorter ones"},
		"an unknown coding":   {"POST /v2 HTTP/1.1\r\n" + host + "Transfer-Encoding: brotli\r\n\r\n", 501, "UNSUPPORTED", "the request's HTTP is not supported: Not Implemented"},
		"options of all":      {"OPTIONS * HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", 404, "ROUTE_NOT_FOUND", "no such path: *; the paths are those of the Open Inference Protocol v2, such as /v2/models/MODEL/infer"},
		"what a handler sees": {"GET /v3 HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", 404, "ROUTE_NOT_FOUND", "no such path: /v3; the paths are those of the Open Inference Protocol v2, such as /v2/models/MODEL/infer"},
	} {
		t.Run(name, func(t *testing.T) {
			connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = connection.Close() }() // the answer has been read
			if err := connection.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := connection.Write([]byte(test.request)); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(connection), nil)
			if err != nil {
				t.Fatal(err)
			}
			var fields map[string]string
			err = json.NewDecoder(response.Body).Decode(&fields)
			if closed := response.Body.Close(); err != nil || closed != nil {
				t.Fatal(err, closed)
			}
			if response.StatusCode != test.status || response.Header.Get("Content-Type") != "application/json" ||
				fields["code"] != test.code || fields["error"] != test.message || len(fields) != 3 {
				t.Errorf("got %d %s %v", response.StatusCode, response.Header.Get("Content-Type"), fields)
			}
		})
	}
}
