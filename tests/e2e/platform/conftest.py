"""Images and pods that the platform's own tests use: only what the add-ons brought along."""

import json

import pytest

from tests.e2e.cluster import Command
from tests.e2e.platform.pods import Pods


@pytest.fixture(scope="session")
def tool_image(kubectl: Command) -> str:
    """The sidecar's image: a Debian system with curl, in every cluster that has Istio."""
    values = json.loads(
        kubectl("get", "configmap", "istio-sidecar-injector", "-n", "istio-system", "-o", "jsonpath={.data.values}")
    )
    return str(values["global"]["proxy"]["image"])


@pytest.fixture(scope="session")
def server_image(kubectl: Command) -> str:
    """Jaeger's image: an HTTP server (port 16686) in every cluster that has the platform."""
    return kubectl(
        "get", "deployment", "jaeger", "-n", "observability",
        "-o", "jsonpath={.spec.template.spec.containers[0].image}",
    )  # fmt: skip


@pytest.fixture(scope="module")
def pods(kubectl: Command, module_namespace: str) -> Pods:
    """Starts pods in the file's own namespace."""
    return Pods(kubectl, module_namespace)
