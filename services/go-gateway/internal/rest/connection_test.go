package rest

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// watched counts the deadlines that are set.
type watched struct {
	net.Conn
	set atomic.Int64
}

func (w *watched) SetReadDeadline(deadline time.Time) error {
	w.set.Add(1)
	return w.Conn.SetReadDeadline(deadline)
}

func pipe(t *testing.T) (*connection, *watched, net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() {
		if err := errors.Join(here.Close(), there.Close()); err != nil {
			t.Error(err)
		}
	})
	inner := &watched{Conn: here}
	return &connection{Conn: inner}, inner, there
}

func TestConnectionSetsOnlyTheDeadlinesThatReadsMeet(t *testing.T) {
	c, inner, _ := pipe(t)
	long, past := time.Now().Add(time.Hour), time.Now().Add(-time.Second)
	for _, deadline := range []time.Time{long, {}, long, past} {
		if err := c.SetReadDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a read after its deadline ended with %v", err)
		}
	}
	if set := inner.set.Load(); set != 1 {
		t.Errorf("%d deadlines were set for two reads with the same, want 1", set)
	}
}

func TestConnectionWithoutDeadlineAgainWaits(t *testing.T) {
	c, _, there := pipe(t)
	if err := c.SetDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read after its deadline ended with %v", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := there.Write([]byte("a"))
		sent <- err
	}()
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestConnectionEndsAReadUnderWay(t *testing.T) {
	c, inner, _ := pipe(t)
	if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	for inner.set.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the read ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the read goes on")
	}
}
