package app

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"

	pluginapi "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"github.com/polyglot-dev/polyglot-operator/platform/addons/device-plugin/internal/offer"
)

const (
	countVariable = "NVIDIA_GPU_COUNT"
	nodeVariable  = "NODE_NAME"
	defaultCount  = 2
)

// errHelp means that the usage was asked for and printed.
var errHelp = flag.ErrHelp

type settings struct {
	source        offer.Source
	node          string
	pluginDir     string
	healthAddress string
	logLevel      slog.Level
}

func parseSettings(args []string, stderr io.Writer) (settings, error) {
	flags := flag.NewFlagSet("device-plugin", flag.ContinueOnError)
	flags.SetOutput(stderr)
	resource := flags.String("resource", "nvidia.com/gpu", "extended resource to advertise")
	count := flags.Int("count", defaultCount, "number of devices; the variable "+countVariable+" sets the default")
	config := flags.String("config", "", "YAML file {resource, count}, read again every second; instead of --resource and --count")
	s := settings{}
	flags.StringVar(&s.node, "node", os.Getenv(nodeVariable), "node name, part of the device ids; default from "+nodeVariable)
	flags.StringVar(&s.pluginDir, "plugin-dir", pluginapi.DevicePluginPath, "the kubelet's device plugin folder")
	flags.StringVar(&s.healthAddress, "health-address", ":8080", "address of /healthz and /readyz")
	flags.TextVar(&s.logLevel, "log-level", slog.LevelInfo, "DEBUG, INFO, WARN or ERROR")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	if flags.NArg() > 0 {
		return settings{}, fmt.Errorf("unexpected argument %q: every setting is a flag; see --help", flags.Arg(0))
	}
	if err := requireFolder(s.pluginDir); err != nil {
		return settings{}, err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if given["config"] {
		if given["resource"] || given["count"] {
			return settings{}, errors.New("--config excludes --resource and --count: write them in the file")
		}
		s.source = offer.File(*config)
		return s, nil
	}
	if !given["count"] {
		var err error
		if *count, err = countFromEnvironment(); err != nil {
			return settings{}, err
		}
	}
	s.source = offer.Fixed(offer.Offer{Resource: *resource, Count: *count})
	return s, nil
}

func countFromEnvironment() (int, error) {
	text, set := os.LookupEnv(countVariable)
	if !set {
		return defaultCount, nil
	}
	count, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s=%q is not a whole number", countVariable, text)
	}
	return count, nil
}

func requireFolder(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("--plugin-dir: %w; mount the kubelet's folder there", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("--plugin-dir: %s is not a folder", path)
	}
	return nil
}
