package target

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestOnlyLoopbackIsATarget(t *testing.T) {
	for target, allowed := range map[string]bool{
		"127.0.0.1:8000":          true,
		"127.8.9.10:8000":         true,
		"[::1]:8000":              true,
		"[::ffff:127.0.0.1]:8000": true,
		"localhost:8000":          true,
		"0.0.0.0:8000":            false,
		"[::]:8000":               false,
		"10.96.0.1:8000":          false,
		"192.0.2.1:8000":          false,
		"128.0.0.1:8000":          false,
		"example.org:8000":        false,
		"localhost.example:8000":  false,
		"127.0.0.1.example:8000":  false,
		"user@192.0.2.1:8000":     false,
		":8000":                   false,
	} {
		body := []byte("{}")
		_, _, rest := REST(target, "/", body)
		_, _, grpc := GRPC(target, "/service/Method", body)
		for protocol, err := range map[string]error{"rest": rest, "grpc": grpc} {
			if allowed && err != nil || !allowed && !errors.Is(err, ErrNotLoopback) {
				t.Errorf("%s %s: allowed is %t, got %v", protocol, target, allowed, err)
			}
		}
	}
}

func TestATargetNeedsItsPort(t *testing.T) {
	if err := CheckLoopback("127.0.0.1"); err == nil || !strings.Contains(err.Error(), "127.0.0.1:8000") {
		t.Errorf("got %v, want an error with an example", err)
	}
}

func TestTheResolvedAddressIsCheckedToo(t *testing.T) {
	for address, allowed := range map[string]bool{"127.0.0.1:80": true, "[::1]:80": true, "192.0.2.1:80": false, "nowhere": false} {
		if err := checkResolved(address); (err == nil) != allowed {
			t.Errorf("%s: allowed is %t, got %v", address, allowed, err)
		}
	}
	if _, err := dialLoopback(t.Context(), "tcp", "192.0.2.1:80"); !errors.Is(err, ErrNotLoopback) {
		t.Errorf("dialled: %v", err)
	}
}

func TestRESTPostsTheBodyOverOneConnection(t *testing.T) {
	var connections atomic.Int64
	bodies := make(chan string, 3)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v2/infer" || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "unexpected request", http.StatusBadRequest)
		}
		bodies <- string(body)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	call, release, err := REST(server.Listener.Addr().String(), "/v2/infer", []byte(`{"inputs":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := call(t.Context()); err != nil {
			t.Fatal(err)
		}
		if body := <-bodies; body != `{"inputs":[]}` {
			t.Errorf("sent %q", body)
		}
	}
	if err := release(); err != nil || connections.Load() != 1 {
		t.Errorf("3 calls took %d connections; release: %v", connections.Load(), err)
	}
}

func TestRESTCountsEveryAnswerButOKAsAnError(t *testing.T) {
	for _, code := range []int{http.StatusFound, http.StatusBadRequest, http.StatusServiceUnavailable} {
		var calls atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			w.Header().Set("Location", "/elsewhere")
			http.Error(w, "the reason", code)
		}))
		call, release, err := REST(server.Listener.Addr().String(), "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		err = call(t.Context())
		if err == nil || !strings.Contains(err.Error(), "the reason") || calls.Load() != 1 {
			t.Errorf("HTTP %d: got %v after %d calls", code, err, calls.Load())
		}
		if err := release(); err != nil {
			t.Error(err)
		}
		server.Close()
	}
}

// serveGRPC answers every method with what answer makes of the request's bytes.
func serveGRPC(t *testing.T, answer func(method string, request []byte) ([]byte, error)) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(
		func(_ any, stream grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(stream)
			if types := metadata.ValueFromIncomingContext(stream.Context(), "content-type"); len(types) != 1 || types[0] != "application/grpc+proto" {
				return status.Errorf(codes.InvalidArgument, "content-type %v", types)
			}
			var request []byte
			if err := stream.RecvMsg(&request); err != nil {
				return err
			}
			response, err := answer(method, request)
			if err != nil {
				return err
			}
			return stream.SendMsg(&response)
		}))
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := server.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		server.Stop()
		wait.Wait()
	})
	return listener.Addr().String()
}

func TestGRPCSendsTheSerialisedMessage(t *testing.T) {
	const method = "/inference.GRPCInferenceService/ModelInfer"
	message := []byte{0x0a, 0x06, 'd', 'i', 'g', 'i', 't', 's'}
	address := serveGRPC(t, func(got string, request []byte) ([]byte, error) {
		if got != method || string(request) != string(message) {
			return nil, status.Errorf(codes.InvalidArgument, "%s got %x", got, request)
		}
		return []byte{}, nil
	})
	call, release, err := GRPC(address, method, message)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := call(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestGRPCReportsTheStatusOfAFailedCall(t *testing.T) {
	address := serveGRPC(t, func(string, []byte) ([]byte, error) { return nil, status.Error(codes.NotFound, "no model") })
	call, release, err := GRPC(address, "/service/Method", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := call(context.Background()); status.Code(err) != codes.NotFound {
		t.Errorf("got %v, want NOT_FOUND", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestTheCodecRefusesWhatIsNotBytes(t *testing.T) {
	if _, err := (rawCodec{}).Marshal("text"); err == nil {
		t.Error("marshalled a string")
	}
	if err := (rawCodec{}).Unmarshal(nil, "text"); err == nil {
		t.Error("unmarshalled into a string")
	}
}
