"""What every cluster test stands on: kubectl and helm for one context, and namespaces that end with their test.

The context is `$POLYGLOT_CONTEXT`, or the kubeconfig's current one. `make test-cluster` sets it to `kind-polyglot`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.api import Api, proxied
from tests.e2e.audit import AuditLog
from tests.e2e.clients import ClientPods
from tests.e2e.cluster import Command, bound, node_of
from tests.e2e.kwok import FakeNodes
from tests.e2e.kwok import fake_nodes as running_kwok
from tests.e2e.load import Load
from tests.e2e.modes import ClusterMode, Mode, namespaced
from tests.e2e.operator_pod import OperatorPod
from tests.e2e.services import DEMO_NAMESPACE, EVERYTHING, Service, add_model, declare

ROOT = Path(__file__).resolve().parents[2]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run core tests in both modes of the operator."""
    if metafunc.definition.get_closest_marker("core") and "mode" in metafunc.fixturenames:
        modes = [pytest.param(None, id="cluster"), pytest.param("namespaced", marks=pytest.mark.disruptive)]
        metafunc.parametrize("mode", modes, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what disturbs the whole cluster after everything else, and the namespaced mode in one go at the very end.

    What opens a long quiet time is first, what judges it comes before any disturbance. Else files keep their order.
    """
    items.sort(key=_lateness)


def _lateness(item: pytest.Item) -> int:
    chosen = getattr(item, "callspec", None)
    if chosen is not None and chosen.params.get("mode") == "namespaced":
        return 4
    marked = (number for number, mark in _LATENESS.items() if item.get_closest_marker(mark))
    return next(marked, 1)


_LATENESS = {0: "opening", 2: "closing", 3: "disruptive"}


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
def operator_pod(kubectl: Command, context: str) -> OperatorPod:
    """Read, restart and kill the operator."""
    return OperatorPod(kubectl, node_of(context))


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


@pytest.fixture(scope="session")
def mode(
    request: pytest.FixtureRequest, kubectl: Command, helm: Command, images: dict[str, str], audit: AuditLog
) -> Iterator[Mode]:
    """The operator in cluster mode, or for the parameter `namespaced` in namespaced mode."""
    if getattr(request, "param", None) is None:
        yield ClusterMode(kubectl)
        return
    with namespaced(kubectl, helm, images, audit) as found:
        yield found


@pytest.fixture
def namespace(mode: Mode) -> Iterator[str]:
    """An empty namespace for one test."""
    name = mode.take()
    yield name
    mode.give_back(name)


@pytest.fixture(scope="module")
def module_namespace(mode: Mode) -> Iterator[str]:
    """A namespace shared by the tests of one file."""
    name = mode.take()
    yield name
    mode.give_back(name)


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


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Makes load from this machine."""
    return Load(tmp_path_factory.mktemp("load"))


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
