package rest

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// Listener has net/http answer in our form what it refuses by itself, before any handler: it writes a line of plain text to
// the connection, and has no hook for another. HTTP/2, where such a refusal is a frame, is left as it is.
// https://github.com/golang/go/blob/master/src/net/http/server.go, (*conn).serve
type Listener struct{ net.Listener }

// Accept waits for a connection.
func (l Listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return connection{accepted}, nil
}

type connection struct{ net.Conn }

// CloseWrite lets net/http end its side first, so that a caller still reads the answer to what it went on sending.
func (c connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c connection) Write(text []byte) (int, error) {
	refusal := refusalIn(text)
	if refusal == nil {
		return c.Conn.Write(text)
	}
	if _, err := c.Conn.Write(refusal); err != nil {
		return 0, err
	}
	return len(text), nil
}

const (
	statusLine = "HTTP/1.1 "
	// plainHeaders are all that net/http gives its own refusals; an answer of ours has more.
	plainHeaders = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	// longestRefusal keeps large writes, which are parts of tensors, from being looked at.
	longestRefusal = 1 << 10
)

// refusalIn is net/http's refusal in our form; nil where text is none.
func refusalIn(text []byte) []byte {
	if len(text) > longestRefusal || !bytes.HasPrefix(text, []byte(statusLine)) {
		return nil
	}
	head, _, found := bytes.Cut(text, []byte(plainHeaders))
	if !found {
		return nil
	}
	number, reason, _ := strings.Cut(strings.TrimPrefix(string(head), statusLine), " ")
	status, err := strconv.Atoi(number)
	if err != nil {
		return nil
	}
	body := malformed(status, strings.TrimPrefix(strings.TrimPrefix(reason, http.StatusText(status)), ": ")).Body("")
	return fmt.Appendf(nil, "%s%d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		statusLine, status, http.StatusText(status), len(body), body)
}

func malformed(status int, why string) *apierr.Error {
	switch {
	case status == http.StatusRequestHeaderFieldsTooLarge:
		return apierr.New(apierr.HeadersTooLarge, "the request's headers are larger than the gateway reads; send fewer or shorter ones")
	case status != http.StatusBadRequest:
		return apierr.New(apierr.Unsupported, "the request's HTTP is not supported: %s", http.StatusText(status))
	case why == "":
		return apierr.New(apierr.InvalidRequest, "the request is not valid HTTP")
	}
	return apierr.New(apierr.InvalidRequest, "the request is not valid HTTP: %s", why)
}
