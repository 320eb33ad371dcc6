package rest

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

const (
	statusLine = "HTTP/1.1 "
	// plainHeaders are all that net/http gives its own refusals; an answer of ours has more.
	plainHeaders = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	// longestRefusal keeps large writes, which are parts of tensors, from being looked at.
	longestRefusal = 1 << 10
)

// refusalIn is net/http's refusal in our form; nil where text is none.
func refusalIn(text []byte) []byte {
	if len(text) > longestRefusal || !bytes.HasPrefix(text, []byte(statusLine)) || bytes.HasPrefix(text[len(statusLine):], []byte("2")) {
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
