# Polyglot operator. `make try` serves a model here, `make demo` on a real cluster, `make test` proves it all; `make help`
# lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ROOT := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))
VENV := $(ROOT)/.venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
BARE :=# BARE=1 points the targets of "Cluster" at the second cluster, `polyglot-bare`
CONTEXT := kind-polyglot$(if $(BARE),-bare)
export PATH := $(ROOT)/.bin:$(VENV)/bin:$(PATH)
export UV_PYTHON_DOWNLOADS := never
export POLYGLOT_CONTEXT := $(CONTEXT)
export ORT_DISABLE_TELEMETRY := 1

PACKAGES := operator platform services/python-inference
GO_MODULES := services/go-gateway platform/addons/device-plugin bench/loadgen
PLATFORM := $(PY) -m polyglot_platform
ENVIRONMENTS := platform/environments
ON := $(if $(BARE),--bare)
REPORTS := $(ROOT)/out/reports

##@ The three commands
FILE := examples/python-model/text-statistics.yaml
PORT := 8100
.PHONY: try demo test
try:  ## Serve FILE on this machine, without a cluster, at 127.0.0.1:PORT; TRY_ONCE=1 sends one request and ends
	$(MAKE) -j2 venv .bin/polyglot-gateway
	$(if $(TRY_ONCE),$(PY) examples/ask.py $(FILE),$(VENV)/bin/polyglot serve $(FILE) --port $(PORT))

demo: cluster images install  ## Serve examples/digits on a kind cluster: real digits through mesh, gateway and Python, one trace read back
	$(PY) examples/demo.py

test: verify lint  ## Run every check: generated files, lint, types, unit, component and cluster tests
	rm -rf $(REPORTS)
	$(MAKE) test-unit test-component test-cluster
	$(PY) tests/levels.py summary $(REPORTS)

##@ Cluster; with BARE=1 a second one, `polyglot-bare`, which has neither Istio nor any other add-on
.PHONY: tools cluster cluster-down images install uninstall
tools: venv  ## Install kind, kubectl, helm, istioctl, golangci-lint and kwok into .bin
	$(PLATFORM) tools

cluster: tools  ## Create or repair the kind cluster `polyglot` with Istio, Jaeger, metrics-server and the device plugin
	$(PLATFORM) cluster $(ON)

cluster-down: venv  ## Delete the kind clusters
	$(PLATFORM) cluster-down $(ON)

images: cluster  ## Build the operator, gateway and inference images and load them into the cluster
	$(PLATFORM) images $(ON)

install: images  ## Install or upgrade the CRD and the operator with Helm
	source .bin/images.env; \
	helm upgrade --install polyglot-crds charts/polyglot-crds --kube-context $(CONTEXT) \
	  --namespace polyglot-system --create-namespace --wait; \
	helm upgrade --install polyglot-operator charts/polyglot-operator --kube-context $(CONTEXT) \
	  --namespace polyglot-system --wait --timeout 3m --set image=$$OPERATOR_IMAGE \
	  --set images.gateway=$$GATEWAY_IMAGE --set images.inference=$$INFERENCE_IMAGE

uninstall:  ## Remove the operator; PolyglotServices, their pods and the CRD stay
	helm uninstall polyglot-operator --kube-context $(CONTEXT) --namespace polyglot-system

##@ Development
.PHONY: venv lock generate golden verify lint fmt
venv: $(VENV)/.ready  ## Make .venv with the `polyglot` command and all development tools

$(VENV)/.ready: bootstrap.lock requirements.lock pyproject.toml $(PACKAGES:%=%/pyproject.toml)
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --require-hashes -r bootstrap.lock
	$(UV) pip sync --quiet --python $(PY) --require-hashes requirements.lock bootstrap.lock
	$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation $(PACKAGES:%=-e ./%)
	touch $@

LOCK := $(UV) pip compile --quiet --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
  --custom-compile-command "make lock"
lock:  ## Resolve all dependencies again and write the lock files
	test -x $(UV) || { python3 -m venv $(VENV); $(VENV)/bin/pip install --quiet --require-hashes -r bootstrap.lock; }
	$(LOCK) --group pyproject.toml:dev $(PACKAGES:%=%/pyproject.toml) -o requirements.lock
	for package in operator services/python-inference; do \
	  $(LOCK) $$package/pyproject.toml -c requirements.lock -o $$package/requirements.lock; \
	done
	for name in triton orientation; do $(LOCK) --no-deps --group pyproject.toml:$$name -o $(ENVIRONMENTS)/$$name.lock; done
	for name in pytriton mlserver kserve litserve bentoml ray fastapi grpc-aio; do \
	  $(LOCK) --group pyproject.toml:$$name -o $(ENVIRONMENTS)/$$name.lock; \
	done

.PHONY: .bin/polyglot-gateway
.bin/polyglot-gateway:
	cd services/go-gateway && CGO_ENABLED=0 go build -trimpath -o $(ROOT)/$@ ./cmd/gateway

generate: venv  ## Regenerate CRD, reference docs and protobuf code from their sources
	$(PY) -m polyglot_operator.api.generate
	$(PY) docs/reference/generate.py
	services/contract/generate.sh

golden: venv  ## Rewrite the builders' golden files after a wanted change
	pytest operator/tests/build --update-golden

verify: generate  ## Fail when a generated file differs from its source
	$(PY) examples/digits/train.py --check
	@drift=$$(git status --porcelain -- crds charts docs/reference services); \
	if [[ -n $$drift ]]; then echo "generated files differ; run 'make generate' and commit:"; echo "$$drift"; git diff --stat; exit 1; fi

lint: tools  ## Check formatting, style, types and layers of all Python and Go code
	ruff format --check .
	ruff check .
	set -e; for package in $(PACKAGES); do echo "mypy $$package"; (cd $$package && mypy .); done; mypy tests examples bench docs
	cd operator && lint-imports
	codespell
	for module in $(GO_MODULES); do (cd $$module && golangci-lint run ./...); done
	helm lint --strict charts/*

fmt: tools  ## Format all Python and Go code
	ruff format .
	ruff check --fix .
	for module in $(GO_MODULES); do (cd $$module && golangci-lint fmt ./...); done

##@ Tests, by what they need
.PHONY: test-unit test-component test-cluster
test-unit: venv  ## Pure tests of every package and module; seconds
	for package in $(PACKAGES) bench; do pytest $$package/tests --junitxml=$(REPORTS)/unit-$${package##*/}.xml; done
	pytest examples --junitxml=$(REPORTS)/unit-examples.xml
	for module in $(GO_MODULES); do $(PY) tests/levels.py go $(REPORTS)/unit-$${module##*/}.json $$module; done

test-component: venv  ## The real gateway and the real inference server over a socket
	pytest tests/component --junitxml=$(REPORTS)/component-all.xml

.PHONY: conformance
conformance: venv  ## Triton's and KServe's clients against gateway, server, a real Triton, MLServer and KServe; writes the table
	$(PY) -m tests.conformance.run

test-cluster: install  ## Everything on the kind cluster
	pytest tests/e2e --junitxml=$(REPORTS)/cluster-all.xml

FUZZ_SECONDS := 60
.PHONY: fuzz
fuzz: venv  ## Run every fuzz target of the Go modules and every fuzz suite in Python for FUZZ_SECONDS (60), one after the other
	set -e; for module in $(GO_MODULES); do (cd $$module; for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | sed -n '/^Fuzz/p'); do \
	    echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_SECONDS)s $$package; \
	  done; done); done
	FUZZ_SECONDS=$(FUZZ_SECONDS) pytest services/python-inference/tests/fuzz --hypothesis-profile=fuzz

##@ Benchmarks
.PHONY: bench-first-light bench-rivals bench-tools
bench-first-light: install  ## Throughput, latency and CPU per request of examples/digits, with and without mesh
	$(PY) -m bench.first_light.run

bench-rivals: bench-tools  ## Speed beside nine other model servers, as local processes; QUICK=1, PEERS="NAME …", ROUNDS=N, TURNS=N
	$(PY) -m bench.rivals.run $(if $(QUICK),--quick) $(if $(PEERS),--peers $(PEERS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(TURNS),--turns $(TURNS))

bench-tools: venv  ## Install the load generator h2load
	$(PLATFORM) bench-tools

.PHONY: help
help:  ## List all targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
