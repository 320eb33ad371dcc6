package target

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// Call makes one request over its own connection and reads the whole answer; any answer but success is an error.
type Call func(ctx context.Context) error

// REST posts the JSON body to path over one kept-alive connection.
func REST(hostPort, path string, body []byte) (Call, func() error, error) {
	if err := CheckLoopback(hostPort); err != nil {
		return nil, nil, err
	}
	transport := &http.Transport{DialContext: dialLoopback, MaxConnsPerHost: 1} // Proxy stays nil: no detours
	call := func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+hostPort+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := transport.RoundTrip(request) // no client: a redirect is an answer, not a new target
		if err != nil {
			return err
		}
		text, err := io.ReadAll(response.Body)
		if closeErr := response.Body.Close(); err == nil {
			err = closeErr
		}
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("HTTP %d: %s", response.StatusCode, text)
		}
		return err
	}
	release := func() error {
		transport.CloseIdleConnections()
		return nil
	}
	return call, release, nil
}
