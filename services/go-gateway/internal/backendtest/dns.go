package backendtest

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// DNS is a real DNS server with one name, whose records a test changes.
type DNS struct {
	address string

	mu        sync.Mutex
	ips       []string
	code      int
	questions map[string]int
}

// StartDNS serves on a free UDP port of 127.0.0.1.
func StartDNS(t *testing.T, ips ...string) *DNS {
	t.Helper()
	socket, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &DNS{address: socket.LocalAddr().String(), ips: ips, questions: map[string]int{}}
	server := &dns.Server{PacketConn: socket, Handler: d}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = server.ActivateAndServe()
	}()
	t.Cleanup(func() {
		_ = server.Shutdown()
		_ = socket.Close()
		<-stopped
	})
	return d
}

// Set changes the A records; none means that the name doesn't exist.
func (d *DNS) Set(ips ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ips, d.code = ips, dns.RcodeSuccess
}

// Fail answers SERVFAIL until the next Set.
func (d *DNS) Fail() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.code = dns.RcodeServerFailure
}

// Names are the names that were asked for.
func (d *DNS) Names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make([]string, 0, len(d.questions))
	for name := range d.questions {
		names = append(names, name)
	}
	return names
}

// Lookup asks this server the way that Go asks the one in resolv.conf.
func (d *DNS) Lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", d.address)
	}}
	return resolver.LookupNetIP(ctx, network, host)
}

// ServeDNS implements dns.Handler.
func (d *DNS) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := request.Question[0]
	d.questions[asked.Name]++
	answer := new(dns.Msg)
	answer.SetReply(request)
	answer.Rcode = d.code
	if d.code == dns.RcodeSuccess && len(d.ips) == 0 {
		answer.Rcode = dns.RcodeNameError
	}
	if asked.Qtype == dns.TypeA && answer.Rcode == dns.RcodeSuccess {
		for _, ip := range d.ips {
			answer.Answer = append(answer.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
				A:   net.ParseIP(ip),
			})
		}
	}
	_ = w.WriteMsg(answer)
}
