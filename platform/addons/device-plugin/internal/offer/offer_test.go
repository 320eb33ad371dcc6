package offer_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/polyglot-dev/polyglot-operator/platform/addons/device-plugin/internal/offer"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestValidateFollowsTheRulesOfExtendedResources(t *testing.T) {
	for _, c := range []struct {
		name    string
		offer   offer.Offer
		problem string // empty: valid
	}{
		{"the default", offer.Offer{Resource: "nvidia.com/gpu", Count: 2}, ""},
		{"a MIG slice", offer.Offer{Resource: "nvidia.com/mig-1g.5gb", Count: 7}, ""},
		{"no devices", offer.Offer{Resource: "amd.com/gpu", Count: 0}, ""},
		{"the most devices", offer.Offer{Resource: "amd.com/gpu", Count: offer.MaxCount}, ""},
		{"no domain", offer.Offer{Resource: "gpu", Count: 1}, "has no domain"},
		{"an empty name", offer.Offer{Count: 1}, "has no domain"},
		{"a malformed name", offer.Offer{Resource: "nvidia.com/g p u", Count: 1}, "name part must consist of"},
		{"a reserved domain", offer.Offer{Resource: "kubernetes.io/gpu", Count: 1}, "reserved"},
		{"a reserved subdomain", offer.Offer{Resource: "node.kubernetes.io/gpu", Count: 1}, "reserved"},
		{"a negative count", offer.Offer{Resource: "nvidia.com/gpu", Count: -1}, "count -1"},
		{"too many devices", offer.Offer{Resource: "nvidia.com/gpu", Count: offer.MaxCount + 1}, "count 1025"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.offer.Validate()
			if c.problem == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, offer.ErrInvalid) || !strings.Contains(err.Error(), c.problem) {
				t.Fatalf("got %v, want an invalid offer that says %q", err, c.problem)
			}
		})
	}
}

func TestFileYieldsTheOfferThatIsInItNow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	source := offer.File(path)
	for _, count := range []int{2, 0} {
		want := offer.Offer{Resource: "nvidia.com/gpu", Count: count}
		write(t, path, fmt.Sprintf("resource: %s\ncount: %d\n", want.Resource, want.Count))
		got, err := source()
		if err != nil || got != want {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	}
}

func TestFileRefusesWhatItCannotUnderstand(t *testing.T) {
	for name, text := range map[string]string{
		"an empty file":  "",
		"no count":       "resource: nvidia.com/gpu\n",
		"an unknown key": "resource: nvidia.com/gpu\ncount: 1\ncuont: 2\n",
		"a wrong type":   "resource: nvidia.com/gpu\ncount: many\n",
		"no YAML":        "resource: [\n",
		"a bad resource": "resource: gpu\ncount: 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.yaml")
			write(t, path, text)
			_, err := offer.File(path)()
			if !errors.Is(err, offer.ErrInvalid) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want an invalid offer that names %s", err, path)
			}
		})
	}
}

func TestFileReportsAMissingFile(t *testing.T) {
	if _, err := offer.File(filepath.Join(t.TempDir(), "none.yaml"))(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want that the file does not exist", err)
	}
}

func TestDeviceIDsAreStableAndDistinct(t *testing.T) {
	two := offer.Offer{Resource: "nvidia.com/gpu", Count: 2}.DeviceIDs("node-a")
	three := offer.Offer{Resource: "nvidia.com/gpu", Count: 3}.DeviceIDs("node-a")
	if !slices.Equal(two, three[:2]) {
		t.Errorf("a changed count renamed devices: %v, then %v", two, three)
	}
	elsewhere := offer.Offer{Resource: "nvidia.com/gpu", Count: 3}.DeviceIDs("node-b")
	other := offer.Offer{Resource: "amd.com/gpu", Count: 3}.DeviceIDs("node-a")
	all := slices.Concat(three, elsewhere, other)
	form := regexp.MustCompile(`^GPU-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	for _, id := range all {
		if !form.MatchString(id) {
			t.Errorf("%q is not in the form of an NVIDIA UUID", id)
		}
	}
	slices.Sort(all)
	if distinct := slices.Compact(all); len(distinct) != 9 {
		t.Errorf("9 devices have %d ids", len(distinct))
	}
}
