"""A cluster without Istio, which exists while a file of this folder runs.

The fixtures that others bind to the main cluster are bound to this one here, so that everything built on them works.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polyglot_platform.cluster import ClusterName
from tests.e2e.audit import AuditLog
from tests.e2e.bare.istio import Istio
from tests.e2e.clients import ClientPod, ClientPods
from tests.e2e.cluster import Command, bound, eventually
from tests.e2e.conftest import ROOT
from tests.e2e.modes import ClusterMode, Mode


@pytest.fixture(scope="module")
def context() -> Iterator[str]:
    """Name of the context of a fresh cluster with the operator in it, both made as a person makes them."""
    make = bound("make", "-C", str(ROOT), "BARE=1")
    make("cluster-down")
    began = time.monotonic()
    try:
        make("install", timeout=600)
        print(f"cluster and operator up in {time.monotonic() - began:.0f} s")
        yield ClusterName.BARE.context
    finally:
        make("cluster-down")


@pytest.fixture(scope="module")
def kubectl(context: str) -> Command:
    """Run kubectl on the bare cluster."""
    return bound("kubectl", "--context", context)


@pytest.fixture(scope="module")
def get(kubectl: Command) -> Callable[..., dict[str, Any]]:
    """Read one object, or a list of them, as JSON."""

    def read(*words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(kubectl("get", *words, "-o", "json"))
        return found

    return read


@pytest.fixture(scope="module")
def mode(kubectl: Command) -> Mode:
    """Hand out namespaces of the bare cluster."""
    return ClusterMode(kubectl)


@pytest.fixture(scope="module")
def audit(context: str) -> AuditLog:
    """Read what the operator asked of the bare cluster's API server."""
    return AuditLog(context)


@pytest.fixture(scope="module")
def client(client_pods: ClientPods) -> ClientPod:
    """A client without a sidecar."""
    return client_pods.start("client", mesh=False)


@pytest.fixture(scope="module")
def istio(kubectl: Command, context: str) -> Istio:
    """Install and remove Istio."""
    return Istio(kubectl, context)


@pytest.fixture
def without_istio(istio: Istio) -> None:
    """Start without Istio, whatever ran before."""
    if istio.is_served:
        istio.remove()
        eventually(lambda: istio.is_known, lambda known: not known, 60, "the operator has noticed")


@pytest.fixture
def with_istio(istio: Istio) -> None:
    """Start with Istio, whatever ran before."""
    istio.install()
