#!/usr/bin/env bash
# Regenerates the code of the gRPC contract next to its users: Python for the inference server, Go for the gateway.
#
# Every tool is pinned, so the same .proto gives the same bytes: protoc comes with grpcio-tools and the typed stubs with
# mypy-protobuf (both in .venv), the Go plugins with the `tool` directives of services/go-gateway/go.mod.
# grpcio-tools stays at 1.81.1: later ones emit code for protobuf 7, which Triton's Python client excludes.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
proto="$root/services/contract/proto"
python="${PYTHON:-$root/.venv/bin/python}"
gateway="$root/services/go-gateway"
files=(grpc_service.proto model_config.proto lane.proto)

if ! "$python" -c 'import grpc_tools, mypy_protobuf' 2>/dev/null; then
  echo "generate.sh: $python lacks grpcio-tools or mypy-protobuf; run 'make venv' first" >&2
  exit 1
fi

generate_python() {
  local package="polyglot_inference/protocol/pb" out="$root/services/python-inference" sources
  sources="$(mktemp -d)"
  trap 'rm -rf "$sources"' RETURN
  # Files and their imports under the package's own path make the generated imports absolute: `from polyglot_inference.protocol.pb import …`.
  mkdir -p "$sources/$package"
  for file in "${files[@]}"; do
    sed "s|^import \"|&$package/|" "$proto/$file" > "$sources/$package/$file"
  done
  PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc \
    -I "$sources" \
    --python_out="$out" --mypy_out="quiet:$out" "${files[@]/#/$package/}"
  # A descriptor pool of our own: a process may also import Triton's client, which declares the same messages in the default one.
  sed -i -e "s|^from google.protobuf import descriptor_pool.*|from ${package//\//.} import POOL as _pool|" \
    -e "s|_descriptor_pool.Default()|_pool|" "$out/$package"/*_pb2.py
  PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc \
    -I "$sources" \
    --grpc_python_out="$out" --mypy_grpc_out="quiet:$out" "$package/grpc_service.proto" "$package/lane.proto"
}

generate_go() {
  local out="$gateway/internal/oip/pb" plugins
  plugins="$(mktemp -d)"
  trap 'rm -rf "$plugins"' RETURN
  (cd "$gateway" && for plugin in protoc-gen-go protoc-gen-go-grpc; do ln -s "$(go tool -n "$plugin")" "$plugins/$plugin"; done)
  mkdir -p "$out"
  PATH="$plugins:$PATH" "$python" -m grpc_tools.protoc \
    -I "$proto" \
    --go_out="$out" --go_opt=paths=source_relative --go-grpc_out="$out" --go-grpc_opt=paths=source_relative \
    "${files[@]}"
}

generate_openapi() {
  "$python" -c 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin), indent=1))' \
    < "$root/services/contract/openapi.yaml" > "$gateway/internal/rest/openapi.json"
}

generate_python
generate_go
generate_openapi
