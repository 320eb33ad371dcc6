package telemetry

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var registeredName = regexp.MustCompile(`fqName: "(` + namespace + `_\w+)"`)

func TestDescribe_lists_every_registered_metric(t *testing.T) {
	registered := make(chan *prometheus.Desc)
	go func() {
		defer close(registered)
		oneOfEverything().registry.Describe(registered)
	}()
	var want []string
	for description := range registered {
		if found := registeredName.FindStringSubmatch(description.String()); found != nil {
			want = append(want, found[1])
		}
	}
	slices.Sort(want)

	list, err := Describe()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, description := range list {
		got = append(got, description.Name)
		if description.Help == "" || description.Type == "" || strings.Contains(description.Type, "untyped") {
			t.Errorf("%s lacks a type or a help text: %+v", description.Name, description)
		}
	}
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("described are %v, registered %v: let one of everything happen in oneOfEverything", got, want)
	}
}

func TestDescribe_names_type_and_labels(t *testing.T) {
	list, err := Describe()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Description{
		"polyglot_gateway_requests_total":           {Type: "counter", Labels: []string{"code", "method", "protocol", "route", "status"}},
		"polyglot_gateway_request_duration_seconds": {Type: "histogram", Labels: []string{"method", "protocol", "route"}},
		"polyglot_gateway_backend_state":            {Type: "gauge", Labels: []string{"backend", "state"}},
		"polyglot_gateway_build_info":               {Type: "gauge", Labels: []string{"version"}},
	} {
		found := slices.IndexFunc(list, func(d Description) bool { return d.Name == name })
		if found < 0 || list[found].Type != want.Type || !slices.Equal(list[found].Labels, want.Labels) {
			t.Errorf("%s: want %+v in %+v", name, want, list)
		}
	}
}
