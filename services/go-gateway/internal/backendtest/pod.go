// Package backendtest holds the real parts that the gateway's tests run against: inference pods (gRPC servers on loopback
// addresses) and the DNS server that lists them.
package backendtest

import (
	"context"
	"errors"
	"io"
	"net"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// maxMessageBytes lets tests send what the gateway, not the pod, should refuse.
const maxMessageBytes = 1 << 30

// Pod is an inference pod: a real gRPC server whose answers a test decides.
type Pod struct {
	pb.UnimplementedGRPCInferenceServiceServer
	IP   string // or the path of its Unix socket, and no port
	Port int

	// Infer answers ModelInfer; nil echoes the request's id and names the pod in model_name.
	Infer func(context.Context, *pb.ModelInferRequest) (*pb.ModelInferResponse, error)
	// Stream answers ModelStreamInfer; nil echoes each request.
	Stream func(pb.GRPCInferenceService_ModelStreamInferServer) error
	// Administer answers the RPCs that the pod itself does not, by their names without the service's; nil: UNIMPLEMENTED.
	Administer func(rpc string, request any) (any, error)
	// Ready is what ServerReady answers.
	Ready bool
	// Lane answers Carry; nil: UNIMPLEMENTED, as by a server that has no lanes. See Carry.
	Lane func(pb.Lane_CarryServer) error

	server *grpc.Server
	calls  atomic.Int64
	seen   chan metadata.MD
}

// Start runs a pod on each address of the loopback network, all on one port, as the pods of one Service are. Set Infer in
// `prepare` (nil: leave as is), which runs before the pod takes calls.
func Start(t *testing.T, prepare func(*Pod), ips ...string) []*Pod {
	t.Helper()
	for range 20 {
		if listeners, port := listen(t, ips); listeners != nil {
			return serve(t, prepare, ips, listeners, port)
		}
	}
	t.Fatalf("no port is free on all of %v", ips)
	return nil
}

// Restart runs a pod again at the address of one that was stopped.
func Restart(t *testing.T, pod *Pod) *Pod {
	t.Helper()
	listener, err := listenAt(t.Context(), pod.IP, pod.Port)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(p *Pod) { p.Infer = pod.Infer }, []string{pod.IP}, []net.Listener{listener}, pod.Port)[0]
}

// StartOnSocket runs a pod's worker process on a Unix socket.
func StartOnSocket(t *testing.T, prepare func(*Pod), path string) *Pod {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, prepare, []string{path}, []net.Listener{listener}, 0)[0]
}

func listenAt(ctx context.Context, ip string, port int) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
}

// listen takes a free port on the first address and the same on the others; nil where another has taken it.
func listen(t *testing.T, ips []string) ([]net.Listener, int) {
	t.Helper()
	port := 0
	listeners := make([]net.Listener, 0, len(ips))
	for _, ip := range ips {
		listener, err := listenAt(t.Context(), ip, port)
		if errors.Is(err, syscall.EADDRINUSE) {
			for _, taken := range listeners {
				_ = taken.Close()
			}
			return nil, 0
		}
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, listener)
		port = listener.Addr().(*net.TCPAddr).Port
	}
	return listeners, port
}

func serve(t *testing.T, prepare func(*Pod), ips []string, listeners []net.Listener, port int) []*Pod {
	t.Helper()
	pods := make([]*Pod, len(ips))
	for i, ip := range ips {
		pod := &Pod{IP: ip, Port: port, Ready: true, seen: make(chan metadata.MD, 1)}
		if prepare != nil {
			prepare(pod)
		}
		pod.server = grpc.NewServer(
			grpc.MaxRecvMsgSize(maxMessageBytes), grpc.MaxSendMsgSize(maxMessageBytes),
			grpc.UnaryInterceptor(pod.observe), grpc.WaitForHandlers(true),
		)
		pb.RegisterGRPCInferenceServiceServer(pod.server, pod)
		if pod.Lane != nil {
			pb.RegisterLaneServer(pod.server, laneServer{pod: pod})
		}
		go func() { _ = pod.server.Serve(listeners[i]) }()
		t.Cleanup(pod.Stop)
		pods[i] = pod
	}
	return pods
}

func (p *Pod) observe(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	p.calls.Add(1)
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		select {
		case p.seen <- md:
		default:
		}
	}
	response, err := handle(ctx, request)
	if status.Code(err) == codes.Unimplemented && p.Administer != nil {
		return p.Administer(path.Base(info.FullMethod), request)
	}
	return response, err
}

// Address is the pod's ip:port, or unix:path.
func (p *Pod) Address() string {
	if p.Port == 0 {
		return "unix:" + p.IP
	}
	return net.JoinHostPort(p.IP, strconv.Itoa(p.Port))
}

// Calls counts the unary calls that reached the pod.
func (p *Pod) Calls() int64 { return p.calls.Load() }

// Metadata is what the first call since the last Metadata carried.
func (p *Pod) Metadata() metadata.MD { return <-p.seen }

// Stop ends the pod at once: its calls fail, its address refuses connections.
func (p *Pod) Stop() { p.server.Stop() }

// Drain lets running calls finish and takes no new ones.
func (p *Pod) Drain() { p.server.GracefulStop() }

// ModelInfer answers as Infer says.
func (p *Pod) ModelInfer(ctx context.Context, request *pb.ModelInferRequest) (*pb.ModelInferResponse, error) {
	if p.Infer != nil {
		return p.Infer(ctx, request)
	}
	return p.Echo(request), nil
}

// Echo is the answer of a pod without an Infer of its own: the inputs as outputs, from the model named like the pod.
func (p *Pod) Echo(request *pb.ModelInferRequest) *pb.ModelInferResponse {
	response := &pb.ModelInferResponse{Id: request.GetId(), ModelName: p.IP, RawOutputContents: request.GetRawInputContents()}
	for _, input := range request.GetInputs() {
		response.Outputs = append(response.Outputs, &pb.ModelInferResponse_InferOutputTensor{
			Name: input.GetName(), Datatype: input.GetDatatype(), Shape: input.GetShape(),
		})
	}
	return response
}

// ModelStreamInfer answers as Stream says, or echoes each request; the model "broken" fails within the stream, as Triton does.
func (p *Pod) ModelStreamInfer(stream pb.GRPCInferenceService_ModelStreamInferServer) error {
	if p.Stream != nil {
		return p.Stream(stream)
	}
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer := &pb.ModelStreamInferResponse{InferResponse: p.Echo(request)}
		if strings.Contains(request.GetModelName(), "broken") {
			answer = &pb.ModelStreamInferResponse{ErrorMessage: "the model is broken"}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// ServerReady answers Ready.
func (p *Pod) ServerReady(context.Context, *pb.ServerReadyRequest) (*pb.ServerReadyResponse, error) {
	return &pb.ServerReadyResponse{Ready: p.Ready}, nil
}

// ServerMetadata names the pod.
func (p *Pod) ServerMetadata(context.Context, *pb.ServerMetadataRequest) (*pb.ServerMetadataResponse, error) {
	return &pb.ServerMetadataResponse{Name: p.IP}, nil
}
