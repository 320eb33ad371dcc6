package rest

import (
	"net"
	"sync"
	"time"
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
	return &connection{Conn: accepted}, nil
}

// connection sets a deadline for reading only where something is read: for a call that came whole, net/http and we ask for
// eight, of which three matter.
type connection struct {
	net.Conn

	mu       sync.Mutex
	deadline time.Time // that was asked for
	set      time.Time // that Conn has
	reading  bool
}

// SetReadDeadline also ends a read that is under way.
func (c *connection) SetReadDeadline(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = deadline
	if c.reading {
		return c.setDeadline()
	}
	return nil
}

// SetDeadline is for reading and writing.
func (c *connection) SetDeadline(deadline time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline, c.set = deadline, deadline
	return c.Conn.SetDeadline(deadline)
}

func (c *connection) Read(into []byte) (int, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(into)
	c.mu.Lock()
	c.reading = false
	c.mu.Unlock()
	return n, err
}

func (c *connection) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = true
	return c.setDeadline()
}

func (c *connection) setDeadline() error {
	if c.deadline.Equal(c.set) {
		return nil
	}
	c.set = c.deadline
	return c.Conn.SetReadDeadline(c.deadline)
}

// CloseWrite lets net/http end its side first, so that a caller still reads the answer to what it went on sending.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *connection) Write(text []byte) (int, error) {
	refusal := refusalIn(text)
	if refusal == nil {
		return c.Conn.Write(text)
	}
	if _, err := c.Conn.Write(refusal); err != nil {
		return 0, err
	}
	return len(text), nil
}
