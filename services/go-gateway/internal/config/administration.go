package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/access"
)

// Administration says what callers may do beyond inference.
type Administration struct {
	Mode       Mode          `yaml:"mode"`
	Restricted []Restriction `yaml:"restricted"`
}

// Mode says whether callers may change the inference servers: load and unload models, change trace and log settings.
type Mode string

// The modes.
const (
	ReadOnly Mode = "ReadOnly"
	Full     Mode = "Full"
)

// Restriction admits to APIs only who sends a header with a value.
type Restriction struct {
	APIs   []access.API `yaml:"apis"`
	Header string       `yaml:"header"`
	Value  string       `yaml:"value"`
}

// Policy is what the settings say, by API.
func (a Administration) Policy() access.Policy {
	policy := access.Policy{ReadOnly: a.Mode == ReadOnly, Restrictions: map[access.API]access.Restriction{}}
	for _, restriction := range a.Restricted {
		for _, api := range restriction.APIs {
			policy.Restrictions[api] = access.Restriction{Header: restriction.Header, Value: restriction.Value}
		}
	}
	return policy
}

func (a Administration) validate() error {
	var problems []error
	if a.Mode != ReadOnly && a.Mode != Full {
		problems = append(problems, fmt.Errorf("administration.mode: %q is neither %s nor %s", a.Mode, ReadOnly, Full))
	}
	restricted := map[access.API]bool{}
	for index, restriction := range a.Restricted {
		key := fmt.Sprintf("administration.restricted[%d]", index)
		problems = append(problems, restriction.validate(key))
		for _, api := range restriction.APIs {
			if restricted[api] {
				problems = append(problems, fmt.Errorf("%s.apis: %q is restricted twice; name it once", key, api))
			}
			restricted[api] = true
		}
	}
	return errors.Join(problems...)
}

// headerName is a header's name that is also a key of gRPC's metadata.
var headerName = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)

func (r Restriction) validate(key string) error {
	var problems []error
	if len(r.APIs) == 0 {
		problems = append(problems, fmt.Errorf("%s.apis: required: one or more of %v", key, access.APIs))
	}
	for _, api := range r.APIs {
		if !slices.Contains(access.APIs, api) {
			problems = append(problems, fmt.Errorf("%s.apis: %q is none of %v", key, api, access.APIs))
		}
	}
	if !headerName.MatchString(r.Header) {
		problems = append(problems, fmt.Errorf("%s.header: %q is not a header's name, such as x-admin", key, r.Header))
	}
	if r.Value == "" {
		problems = append(problems, fmt.Errorf("%s.value: required: what the header must hold", key))
	}
	return errors.Join(problems...)
}
