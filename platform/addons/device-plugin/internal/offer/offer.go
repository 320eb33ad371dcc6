// Package offer says which devices the node offers: how many, of which resource, under which ids.
package offer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// MaxCount bounds the number of devices; the largest real node holds 16.
const MaxCount = 1024

// ErrInvalid marks an offer that the kubelet or this plugin would refuse.
var ErrInvalid = errors.New("invalid offer")

// Offer is a number of devices of one extended resource.
type Offer struct {
	Resource string `json:"resource"`
	Count    int    `json:"count"`
}

// Source yields the offer that holds at this moment.
type Source func() (Offer, error)

// Fixed is the source whose offer never changes.
func Fixed(o Offer) Source {
	return func() (Offer, error) { return o, o.Validate() }
}

// File is the source that reads a YAML file each time, so that an edited ConfigMap takes effect without a restart.
func File(path string) Source {
	return func() (Offer, error) {
		text, err := os.ReadFile(path) //nolint:gosec // the path is the administrator's own flag
		if err != nil {
			return Offer{}, fmt.Errorf("read the offer: %w", err)
		}
		o, err := parse(text)
		if err != nil {
			return Offer{}, fmt.Errorf("%s: %w", path, err)
		}
		return o, nil
	}
}

func parse(text []byte) (Offer, error) {
	// A missing count must not read as zero: that would take every device from the node.
	var file struct {
		Resource string `json:"resource"`
		Count    *int   `json:"count"`
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		return Offer{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if file.Count == nil {
		return Offer{}, fmt.Errorf("%w: count is missing; write for example: count: 2", ErrInvalid)
	}
	o := Offer{Resource: file.Resource, Count: *file.Count}
	return o, o.Validate()
}

// Validate reports what is wrong with the offer, as an [ErrInvalid].
//
// The rules are those of extended resource names:
// https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#extended-resources
func (o Offer) Validate() error {
	domain, _, qualified := strings.Cut(o.Resource, "/")
	problems := validation.IsQualifiedName(o.Resource)
	switch {
	case !qualified:
		return fmt.Errorf("%w: resource %q has no domain; write for example nvidia.com/gpu", ErrInvalid, o.Resource)
	case len(problems) > 0:
		return fmt.Errorf("%w: resource %q: %s", ErrInvalid, o.Resource, strings.Join(problems, "; "))
	case domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io"):
		return fmt.Errorf("%w: resource %q: the domain kubernetes.io is reserved; use the vendor's", ErrInvalid, o.Resource)
	case o.Count < 0 || o.Count > MaxCount:
		return fmt.Errorf("%w: count %d is not within 0 and %d", ErrInvalid, o.Count, MaxCount)
	}
	return nil
}

// DeviceIDs names the offered devices of a node, in the form of NVIDIA's UUIDs.
//
// The same node, resource and position always give the same id: a device keeps its id over restarts and changes of the
// count, and two nodes never share one.
func (o Offer) DeviceIDs(node string) []string {
	ids := make([]string, o.Count)
	for i := range ids {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", node, o.Resource, i))
		ids[i] = fmt.Sprintf("GPU-%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	}
	return ids
}
