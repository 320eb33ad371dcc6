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
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is the whole file. README.md documents every key from here.
type Config struct {
	Listen  Listen  `yaml:"listen"`
	Backend Backend `yaml:"backend"`
	Limits  Limits  `yaml:"limits"`
	Drain   Drain   `yaml:"drain"`
	Log     Log     `yaml:"log"`
}

// Listen holds a host:port per listener; port 0 takes a free one.
type Listen struct {
	REST  string `yaml:"rest"`
	GRPC  string `yaml:"grpc"`
	Admin string `yaml:"admin"`
}

// Backend names the inference pods: a headless Service's DNS name, or an IP address.
type Backend struct {
	Host            string        `yaml:"host"`
	Port            int           `yaml:"port"`
	ResolveInterval time.Duration `yaml:"resolveInterval"`
}

// Limits bounds what one call may cost.
type Limits struct {
	MaxRequestBytes int64         `yaml:"maxRequestBytes"`
	DefaultTimeout  time.Duration `yaml:"defaultTimeout"`
}

// Drain bounds how long running calls may take after SIGTERM.
type Drain struct {
	Timeout time.Duration `yaml:"timeout"`
}

// Log sets the least level that is written.
type Log struct {
	Level slog.Level `yaml:"level"`
}

// maxMessageBytes is the most that gRPC can announce for one message.
const maxMessageBytes = 1<<31 - 1

// Default is what a file that sets only backend.host yields.
func Default() Config {
	return Config{
		Listen:  Listen{REST: "0.0.0.0:8000", GRPC: "0.0.0.0:8001", Admin: "0.0.0.0:8002"},
		Backend: Backend{Port: 9000, ResolveInterval: time.Second},
		Limits:  Limits{MaxRequestBytes: 64 << 20, DefaultTimeout: time.Minute},
		Drain:   Drain{Timeout: 25 * time.Second},
		Log:     Log{Level: slog.LevelInfo},
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
		bounded("drain.timeout", c.Drain.Timeout, 0, time.Hour),
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
	return errors.Join(
		resolvable("backend.host", b.Host),
		bounded("backend.port", b.Port, 1, 65535),
		bounded("backend.resolveInterval", b.ResolveInterval, 50*time.Millisecond, time.Minute),
	)
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
		return fmt.Errorf("%s: required: the DNS name of the headless Service, or an IP address", key)
	case net.ParseIP(host) != nil:
		return nil
	case len(host) > 253 || !dnsName.MatchString(host):
		return fmt.Errorf("%s: %q is neither a DNS name nor an IP address; the port has a key of its own, backend.port", key, host)
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

// Authority is the Service's host:port: what every call carries as `:authority`, whichever pod it goes to.
func (b Backend) Authority() string {
	return net.JoinHostPort(strings.TrimSuffix(b.Host, "."), strconv.Itoa(b.Port))
}
