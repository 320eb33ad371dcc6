package rest

import (
	"net/http"
	"strings"

	"github.com/polyglot-dev/polyglot-operator/services/go-gateway/internal/apierr"
)

// binaryHeader announces Triton's binary tensors behind the JSON.
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
const binaryHeader = "Inference-Header-Content-Length"

// plainBody refuses bodies that are more than JSON text: compressed ones, and those with binary tensors.
func plainBody(next endpoint) endpoint {
	return func(w http.ResponseWriter, r *http.Request) ([]byte, error) {
		if coding := strings.Join(r.Header.Values("Content-Encoding"), ", "); coding != "" && !strings.EqualFold(coding, "identity") {
			w.Header().Set("Accept-Encoding", "identity")
			return nil, apierr.New(apierr.UnsupportedCoding, "Content-Encoding %q is not supported; send the body as it is", coding)
		}
		if r.Header.Get(binaryHeader) != "" {
			return nil, apierr.New(apierr.Unsupported, "the binary tensor extension (%s) is not supported by this gateway; send JSON data or call by gRPC", binaryHeader)
		}
		return next(w, r)
	}
}
