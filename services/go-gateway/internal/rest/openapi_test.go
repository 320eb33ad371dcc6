package rest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestDescriptionHasEveryRouteAndNoOther(t *testing.T) {
	var document struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(description, &document); err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	for path, item := range document.Paths {
		for method := range item {
			if method != "parameters" {
				described[strings.ToUpper(method)+" "+path] = true
			}
		}
	}
	served := map[string]bool{}
	for _, route := range (&server{}).routes() {
		served[route.method+" "+strings.TrimSuffix(route.path, "{$}")] = true
	}
	for _, route := range slices.Sorted(maps.Keys(served)) {
		if !described[route] {
			t.Errorf("services/contract/openapi.yaml lacks %s", route)
		}
	}
	for _, route := range slices.Sorted(maps.Keys(described)) {
		if !served[route] {
			t.Errorf("services/contract/openapi.yaml has %s, which is no route", route)
		}
	}
}

func TestDescriptionIsServed(t *testing.T) {
	got := newGateway(t, &pod{}, nil).call(t, http.MethodGet, "/openapi.json", "")
	if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" || got.body != string(description) {
		t.Errorf("got %d %s with %d bytes, want 200 application/json with %d", got.status, got.header.Get("Content-Type"), len(got.body), len(description))
	}
}
