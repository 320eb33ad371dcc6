package rest

import (
	"context"
	"net/http"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip"
	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/oip/pb"
)

// traceSettings reads or, where the body holds settings, changes them: those of the model that the path names, or the
// global ones.
func (s *server) traceSettings(ctx context.Context, r *http.Request, body []byte) ([]byte, error) {
	name, _, err := modelOf(r)
	if err != nil {
		return nil, err
	}
	settings, err := oip.DecodeTraceSettings(body)
	if err != nil {
		return nil, err
	}
	response, err := s.Administration.TraceSetting(ctx, &pb.TraceSettingRequest{ModelName: name, Settings: settings})
	return encoded(response.GetSettings(), err, oip.AppendTraceSettings)
}

// logSettings reads or, where the body holds settings, changes those of the inference servers.
func (s *server) logSettings(ctx context.Context, _ *http.Request, body []byte) ([]byte, error) {
	settings, err := oip.DecodeLogSettings(body)
	if err != nil {
		return nil, err
	}
	response, err := s.Administration.LogSettings(ctx, &pb.LogSettingsRequest{Settings: settings})
	return encoded(response.GetSettings(), err, oip.AppendLogSettings)
}
