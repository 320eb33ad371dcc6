package rest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// firstBodyBytes is the buffer for a body whose announced length is not to be believed yet.
const firstBodyBytes = 1 << 20

// lingerTime is how long a caller with too large a body may go on sending before it is cut off.
const lingerTime = time.Second

// readBody reads the request's body, at most limit bytes with and without its content coding, until the deadline.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, deadline time.Time) ([]byte, error) {
	if r.ContentLength > limit {
		linger(w, r)
		return nil, tooLarge(r.ContentLength, limit)
	}
	coding, err := contentCoding(w, r)
	if err != nil {
		return nil, err
	}
	connection := http.NewResponseController(w)
	if err := connection.SetReadDeadline(deadline); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	body, err := read(w, r, coding, limit)
	if err != nil {
		if overflow := new(http.MaxBytesError); errors.As(err, &overflow) {
			linger(w, r)
		}
		return nil, bodyError(r, coding, err, limit)
	}
	// What is read from here on is the caller hanging up, which has no deadline.
	if err := connection.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	return body, nil
}

// read reads the body as it is meant. Most are short and say how long they are: those need no more than their own bytes.
func read(w http.ResponseWriter, r *http.Request, coding string, limit int64) ([]byte, error) {
	if coding == identityCoding && 0 <= r.ContentLength && r.ContentLength <= firstBodyBytes {
		body := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), firstBodyBytes)) + bytes.MinRead)
	err := decode(&body, coding, http.MaxBytesReader(w, r.Body, limit), limit)
	return body.Bytes(), err
}

// decode reads what is coded into body, and fails with an *http.MaxBytesError as soon as that is more than limit bytes.
func decode(body *bytes.Buffer, coding string, coded io.Reader, limit int64) error {
	plain, err := decoded(coding, coded)
	if err != nil {
		return err
	}
	if _, err := body.ReadFrom(io.LimitReader(plain, limit+1)); err != nil {
		return err
	}
	if int64(body.Len()) > limit {
		return &http.MaxBytesError{Limit: limit}
	}
	return nil
}

// linger takes in what the caller is still sending, for a moment: closing a connection with unread bytes resets it, and the
// caller would see the reset instead of the answer. Source: RFC 9112, section 9.6.
func linger(w http.ResponseWriter, r *http.Request) {
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingerTime)); err != nil {
		return // the connection can't be bounded in time: better a reset than a caller that holds us
	}
	//nolint:errcheck // how the body ends no longer matters: it is refused either way
	io.Copy(io.Discard, r.Body)
}

func bodyError(r *http.Request, coding string, err error, limit int64) error {
	var overflow *http.MaxBytesError
	switch {
	case errors.As(err, &overflow):
		return apierr.New(apierr.MessageTooLarge, "the body is larger than limits.maxRequestBytes = %d", limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return apierr.New(apierr.RequestTimeout, "the deadline passed before the body was read: %w", err)
	case r.Context().Err() != nil:
		return apierr.New(apierr.Cancelled, "the caller went away before the body was read: %w", err)
	case coding != identityCoding:
		return apierr.New(apierr.InvalidRequest, "the body is not what its Content-Encoding, %s, says: %w", coding, err)
	}
	return apierr.New(apierr.InvalidRequest, "the body could not be read: %w", err)
}

func tooLarge(size, limit int64) error {
	return apierr.New(apierr.MessageTooLarge, "the request has %d bytes, more than limits.maxRequestBytes = %d", size, limit)
}
