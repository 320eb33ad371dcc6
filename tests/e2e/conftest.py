"""What every cluster test stands on: kubectl and helm for one context, and namespaces that end with their test.

The context is `$POLYGLOT_CONTEXT`, or the kubeconfig's current one. `make test-cluster` sets it to `kind-polyglot`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.api import Api, proxied
from tests.e2e.audit import AuditLog
from tests.e2e.clients import ClientPods
from tests.e2e.cluster import Command, bound
from tests.e2e.kwok import FakeNodes
from tests.e2e.kwok import fake_nodes as running_kwok
from tests.e2e.services import DEMO_NAMESPACE, EVERYTHING, Service, add_model, declare

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what disturbs the whole cluster after everything else; otherwise files keep their order."""
    items.sort(key=lambda item: item.get_closest_marker("disruptive") is not None)


@pytest.fixture(scope="session")
def context() -> str:
    """Name of the kubeconfig context that the tests run against."""
    named = os.environ.get("POLYGLOT_CONTEXT")
    return named or bound("kubectl")("config", "current-context").strip()


@pytest.fixture(scope="session")
def kubectl(context: str) -> Command:
    """Run kubectl on the cluster under test."""
    return bound("kubectl", "--context", context)


@pytest.fixture(scope="session")
def helm(context: str) -> Command:
    """Run helm on the cluster under test."""
    return bound("helm", "--kube-context", context)


@pytest.fixture(scope="session")
def get(kubectl: Command) -> Callable[..., dict[str, Any]]:
    """Read one object, or a list of them, as JSON: `get("pods", "-n", namespace)`."""

    def read(*words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(kubectl("get", *words, "-o", "json"))
        return found

    return read


@pytest.fixture(scope="session")
def audit(context: str) -> AuditLog:
    """Read what the operator asked of the API server."""
    return AuditLog(context)


@pytest.fixture(scope="session")
def fake_nodes(context: str, kubectl: Command) -> Iterator[FakeNodes]:
    """Nodes without a machine, on which a hundred pods cost nothing."""
    with running_kwok(context, kubectl) as nodes:
        yield nodes


@pytest.fixture(scope="session")
def api(context: str) -> Iterator[Api]:
    """Talk to the API server without kubectl in between."""
    with proxied(context) as found:
        yield found


def fresh_namespace(kubectl: Command, prefix: str = "e2e") -> str:
    """Create a namespace with a name of its own."""
    name = f"{prefix}-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    return name


@pytest.fixture
def namespace(kubectl: Command) -> Iterator[str]:
    """A fresh namespace for one test, deleted afterwards."""
    name = fresh_namespace(kubectl)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def module_namespace(kubectl: Command) -> Iterator[str]:
    """A fresh namespace shared by the tests of one file, deleted afterwards."""
    name = fresh_namespace(kubectl)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """References of the images that `make images` loaded, by OPERATOR_IMAGE, GATEWAY_IMAGE and so on."""
    lines = (ROOT / ".bin" / "images.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line)


@pytest.fixture(scope="session")
def digits(kubectl: Command) -> Service:
    """The digits example, Ready in the demo's namespace; it alone owns the published NodePorts, so it stays."""
    service = Service(kubectl, DEMO_NAMESPACE, "digits")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": DEMO_NAMESPACE}}
    kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    service.apply("digits/model.yaml", "digits/digits.yaml")
    service.wait_ready()
    return service


@pytest.fixture(scope="module")
def client_pods(kubectl: Command, module_namespace: str, images: dict[str, str]) -> ClientPods:
    """Starts pods that call services from inside the cluster, in the file's own namespace."""
    return ClientPods(kubectl, module_namespace, images["INFERENCE_IMAGE"])


@pytest.fixture(scope="module")
def meshed(kubectl: Command, module_namespace: str) -> Iterator[Service]:
    """A service with every kind of child, shared by the tests that edit its children."""
    add_model(kubectl, module_namespace)
    service = declare(kubectl, module_namespace, "whole", **EVERYTHING)
    service.wait_ready()
    yield service
    kubectl("delete", "polyglotservice", service.name, "-n", service.namespace)
