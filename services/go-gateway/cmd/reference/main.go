// Command reference prints the gateway's metrics and error codes as JSON, from which docs/reference is generated.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"google.golang.org/grpc/codes"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/telemetry"
)

// failure is one row of the table of error codes; grpc is the status by number, retryAfter a count of seconds.
type failure struct {
	Code       string     `json:"code"`
	HTTP       int        `json:"http"`
	GRPC       codes.Code `json:"grpc"`
	RetryAfter float64    `json:"retryAfter"`
	Meaning    string     `json:"meaning"`
}

type reference struct {
	Metrics []telemetry.Description `json:"metrics"`
	Errors  []failure               `json:"errors"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run() error {
	metrics, err := telemetry.Describe()
	if err != nil {
		return err
	}
	all := reference{Metrics: metrics}
	for _, definition := range apierr.Definitions {
		all.Errors = append(all.Errors, failure{
			Code: definition.Code, HTTP: definition.HTTP, GRPC: definition.GRPC,
			RetryAfter: definition.RetryAfter.Seconds(), Meaning: definition.Meaning,
		})
	}
	return json.NewEncoder(os.Stdout).Encode(all)
}
