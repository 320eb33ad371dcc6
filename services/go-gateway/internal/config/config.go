// Package config reads the gateway's settings: one strict YAML file, defaults for everything but the backend's name.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is the whole file. README.md documents every key from here.
type Config struct {
	Listen    Listen    `yaml:"listen"`
	Backend   Backend   `yaml:"backend"`
	Limits    Limits    `yaml:"limits"`
	Streaming Streaming `yaml:"streaming"`
	Drain     Drain     `yaml:"drain"`
	Log       Log       `yaml:"log"`
	Models    []Model   `yaml:"models"`

	Administration Administration `yaml:"administration"`
	SharedMemory   SharedMemory   `yaml:"sharedMemory"`
}

// Listen holds a host:port per listener; port 0 takes a free one.
type Listen struct {
	REST  string `yaml:"rest"`
	GRPC  string `yaml:"grpc"`
	Admin string `yaml:"admin"`
}

// Backend names the inference servers: either the pods behind a headless Service's DNS name or an IP address, each with one
// worker process per port, or the Unix sockets of worker processes on this machine.
type Backend struct {
	Host            string        `yaml:"host"`
	Ports           []int         `yaml:"ports"`
	ResolveInterval time.Duration `yaml:"resolveInterval"`
	Sockets         []string      `yaml:"sockets"`
}

// Limits bounds what one call may cost, and how long one connection may live.
type Limits struct {
	MaxRequestBytes  int64         `yaml:"maxRequestBytes"`
	DefaultTimeout   time.Duration `yaml:"defaultTimeout"`
	MaxConnectionAge time.Duration `yaml:"maxConnectionAge"`
}

// Streaming bounds the streams of generate_stream, and the heartbeats in them.
type Streaming struct {
	FirstResponseTimeout time.Duration `yaml:"firstResponseTimeout"`
	ResponseTimeout      time.Duration `yaml:"responseTimeout"`
	TotalTimeout         time.Duration `yaml:"totalTimeout"`
	WriteTimeout         time.Duration `yaml:"writeTimeout"`
	HeartbeatInterval    time.Duration `yaml:"heartbeatInterval"`
}

// Drain bounds how long running calls may take after SIGTERM.
type Drain struct {
	Timeout time.Duration `yaml:"timeout"`
}

// Log sets the least level that is written.
type Log struct {
	Level slog.Level `yaml:"level"`
}

// Model is a served model that the gateway treats specially; those not named pass through as they come.
type Model struct {
	Name     string    `yaml:"name"`
	Batching *Batching `yaml:"batching"` // nil: the model's requests are never joined
}

// Batching bounds the batches that requests for a model are joined to.
type Batching struct {
	MaxSize  int           `yaml:"maxSize"`
	MaxDelay time.Duration `yaml:"maxDelay"`
}

// SharedMemory says whether callers may hand tensors over in memory that they share with the inference servers.
type SharedMemory struct {
	Enabled bool `yaml:"enabled"`
}

const (
	defaultPort    = 9000
	mostPorts      = 8
	mostModels     = 1024
	largestBatch   = 1024
	longestDelay   = time.Second
	longestSunPath = 107 // bytes of a Unix socket's path: sun_path holds 108 with the final zero byte
)

// maxMessageBytes is the most that gRPC can announce for one message.
const maxMessageBytes = 1<<31 - 1

// Default is what holds where a file says nothing; Parse adds the default port where a host is named.
func Default() Config {
	return Config{
		Listen:  Listen{REST: "0.0.0.0:8000", GRPC: "0.0.0.0:8001", Admin: "0.0.0.0:8002"},
		Backend: Backend{ResolveInterval: time.Second},
		Limits:  Limits{MaxRequestBytes: 64 << 20, DefaultTimeout: time.Minute, MaxConnectionAge: time.Minute},
		Streaming: Streaming{
			FirstResponseTimeout: time.Minute,
			ResponseTimeout:      time.Minute,
			TotalTimeout:         time.Hour,
			WriteTimeout:         10 * time.Second,
			HeartbeatInterval:    15 * time.Second,
		},
		Drain: Drain{Timeout: 25 * time.Second},
		Log:   Log{Level: slog.LevelInfo},

		Administration: Administration{Mode: ReadOnly},
	}
}

// Load reads and checks the file at path.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the path is the operator's own --config
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w; pass an existing file with --config", err)
	}
	config, err := Parse(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return config, nil
}

// Parse reads and checks the text of a file; the error names every key that is wrong and what it may hold.
func Parse(text []byte) (Config, error) {
	config := Default()
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, readable(err)
	}
	if err := decoder.Decode(new(Config)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("holds more than one YAML document; keep the first")
	}
	if config.Backend.Host != "" && config.Backend.Ports == nil {
		config.Backend.Ports = []int{defaultPort}
	}
	if err := config.validate(); err != nil {
		return Config{}, err
	}
	return config, nil
}

var unknownKey = regexp.MustCompile(`field (\S+) not found in type \S+`)

// readable says "unknown key" where the YAML library speaks of Go types.
func readable(err error) error {
	typed, ok := errors.AsType[*yaml.TypeError](err)
	if !ok {
		return err
	}
	problems := make([]error, len(typed.Errors))
	for i, problem := range typed.Errors {
		problems[i] = errors.New(unknownKey.ReplaceAllString(problem, `unknown key "$1"; remove it or correct its spelling`))
	}
	return errors.Join(problems...)
}

func (c Config) validate() error {
	return errors.Join(
		c.Listen.validate(),
		c.Backend.validate(),
		bounded("limits.maxRequestBytes", c.Limits.MaxRequestBytes, 1, maxMessageBytes),
		bounded("limits.defaultTimeout", c.Limits.DefaultTimeout, time.Millisecond, 24*time.Hour),
		bounded("limits.maxConnectionAge", c.Limits.MaxConnectionAge, time.Second, 24*time.Hour),
		c.Streaming.validate(),
		bounded("drain.timeout", c.Drain.Timeout, 0, time.Hour),
		validateModels(c.Models),
		c.Administration.validate(),
		c.validateSharedMemory(),
	)
}

func (c Config) validateSharedMemory() error {
	if c.SharedMemory.Enabled && len(c.Backend.Sockets) == 0 {
		return errors.New("sharedMemory.enabled: needs backend.sockets: callers, gateway and inference servers must be on one machine")
	}
	return nil
}

func (s Streaming) validate() error {
	return errors.Join(
		bounded("streaming.firstResponseTimeout", s.FirstResponseTimeout, time.Millisecond, 24*time.Hour),
		bounded("streaming.responseTimeout", s.ResponseTimeout, time.Millisecond, 24*time.Hour),
		bounded("streaming.totalTimeout", s.TotalTimeout, time.Millisecond, 24*time.Hour),
		bounded("streaming.writeTimeout", s.WriteTimeout, 10*time.Millisecond, time.Hour),
		bounded("streaming.heartbeatInterval", s.HeartbeatInterval, 10*time.Millisecond, time.Hour),
	)
}

func (l Listen) validate() error {
	return errors.Join(
		listenable("listen.rest", l.REST),
		listenable("listen.grpc", l.GRPC),
		listenable("listen.admin", l.Admin),
	)
}

func (b Backend) validate() error {
	interval := bounded("backend.resolveInterval", b.ResolveInterval, 50*time.Millisecond, time.Minute)
	switch {
	case b.Sockets == nil:
		return errors.Join(resolvable("backend.host", b.Host), validatePorts(b.Ports), interval)
	case b.Host != "" || b.Ports != nil:
		return errors.New("backend.sockets: stands for host and ports; set either sockets, or host and ports")
	default:
		return errors.Join(validateSockets(b.Sockets), interval)
	}
}

func validatePorts(ports []int) error {
	problem := listed("backend.ports", ports, mostPorts)
	for index, port := range ports {
		problem = errors.Join(problem, bounded(fmt.Sprintf("backend.ports[%d]", index), port, 1, 65535))
	}
	return problem
}

func validateSockets(sockets []string) error {
	problem := listed("backend.sockets", sockets, mostPorts)
	for index, socket := range sockets {
		if !filepath.IsAbs(socket) || len(socket) > longestSunPath {
			problem = errors.Join(problem, fmt.Errorf("backend.sockets[%d]: %q is not the absolute path of a socket, at most %d bytes long", index, socket, longestSunPath))
		}
	}
	return problem
}

// listed checks the length of a list without repetitions.
func listed[T int | string](key string, list []T, most int) error {
	if len(list) == 0 || len(list) > most {
		return fmt.Errorf("%s: has %d entries; list 1 to %d, one for each worker process", key, len(list), most)
	}
	for index, entry := range list {
		if slices.Contains(list[:index], entry) {
			return fmt.Errorf("%s[%d]: %v is listed before; list each once", key, index, entry)
		}
	}
	return nil
}

func validateModels(models []Model) error {
	problems := []error{bounded("models: the number of entries", len(models), 0, mostModels)}
	names := map[string]bool{}
	for index, model := range models {
		key := fmt.Sprintf("models[%d]", index)
		switch {
		case model.Name == "":
			problems = append(problems, fmt.Errorf("%s.name: required: the name that callers use for the model", key))
		case names[model.Name]:
			problems = append(problems, fmt.Errorf("%s.name: %q is listed before; list each model once", key, model.Name))
		}
		names[model.Name] = true
		if model.Batching != nil {
			problems = append(problems,
				bounded(key+".batching.maxSize", model.Batching.MaxSize, 2, largestBatch),
				bounded(key+".batching.maxDelay", model.Batching.MaxDelay, 0, longestDelay))
		}
	}
	return errors.Join(problems...)
}

func listenable(key, address string) error {
	if _, err := net.ResolveTCPAddr("tcp", address); err != nil {
		return fmt.Errorf("%s: %q is not host:port, for example 0.0.0.0:8000: %w", key, address, err)
	}
	return nil
}

var dnsName = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9])?)*\.?$`)

func resolvable(key, host string) error {
	switch {
	case host == "":
		return fmt.Errorf("%s: required: the DNS name of the headless Service, or an IP address; or list sockets in backend.sockets", key)
	case net.ParseIP(host) != nil:
		return nil
	case len(host) > 253 || !dnsName.MatchString(host):
		return fmt.Errorf("%s: %q is neither a DNS name nor an IP address; ports have a key of their own, backend.ports", key, host)
	default:
		return nil
	}
}

func bounded[T int | int64 | time.Duration](key string, value, least, most T) error {
	if value < least || value > most {
		return fmt.Errorf("%s: %v is out of bounds; set it from %v to %v", key, value, least, most)
	}
	return nil
}

// String is host:port or the socket of every worker process, for logs.
func (b Backend) String() string {
	list := slices.Clone(b.Sockets)
	for _, port := range b.Ports {
		list = append(list, net.JoinHostPort(b.Host, strconv.Itoa(port)))
	}
	return strings.Join(list, ", ")
}
