package config_test

import (
	"net"
	"testing"
	"time"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/config"
)

// Any file is refused with a text, or yields settings that the gateway can start with.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"backend: {host: a}", "backend: {sockets: [/a.sock]}\nsharedMemory: {enabled: true}", "backend: {host: a, ports: [1, 2]}\nlimits: {maxRequestBytes: 1}",
		"a: &a [*a, *a]", "backend: {host: a}\nmodels: [{name: m, batching: {maxSize: 2, maxDelay: 1ms}}]", "---\n---\n", "{", "\x00",
		"backend: {host: a}\nstreaming: {totalTimeout: 2h}\ndrain: {timeout: 1s}\nlog: {level: warn}\nlisten: {rest: \":0\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := config.Parse(text)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("refused without a word")
			}
			return
		}
		for _, address := range []string{got.Listen.REST, got.Listen.GRPC, got.Listen.Admin} {
			if _, _, err := net.SplitHostPort(address); err != nil {
				t.Errorf("nothing can listen on %q: %v", address, err)
			}
		}
		if addresses := len(got.Backend.Ports) + len(got.Backend.Sockets); addresses < 1 || addresses > 8 || (got.Backend.Host == "") != (len(got.Backend.Ports) == 0) {
			t.Errorf("no backend can be called: %+v", got.Backend)
		}
		for name, duration := range map[string]time.Duration{
			"defaultTimeout": got.Limits.DefaultTimeout, "heartbeatInterval": got.Streaming.HeartbeatInterval,
			"writeTimeout": got.Streaming.WriteTimeout, "totalTimeout": got.Streaming.TotalTimeout, "responseTimeout": got.Streaming.ResponseTimeout,
		} {
			if duration <= 0 || duration > 24*time.Hour {
				t.Errorf("%s is %v", name, duration)
			}
		}
		if got.Limits.MaxRequestBytes < 1 || got.Drain.Timeout < 0 {
			t.Errorf("accepted %+v", got)
		}
	})
}
