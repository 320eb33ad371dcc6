"""A model reaches the server from a volume claim and from an OCI image as it does from a ConfigMap."""

import base64
import json
from typing import Any

import pytest

from tests.e2e.clients import ClientPod, ClientPods
from tests.e2e.cluster import Command
from tests.e2e.services import EXAMPLES, Service, assert_predicts_as_onnx_runtime, wait_until_routed

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "models"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}


def service_from(source: dict[str, Any], name: str) -> dict[str, Any]:
    """A small service that takes the digits model from the given source."""
    small = {"requests": {"cpu": "20m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    return {
        "apiVersion": "polyglot.dev/v1alpha1",
        "kind": "PolyglotService",
        "metadata": {"name": name},
        "spec": {"models": [{"name": "digits", "format": "ONNX", "source": source}], "inference": {"resources": small}},
    }


@pytest.fixture(scope="module")
def client(client_pods: ClientPods) -> ClientPod:
    """A client outside the mesh."""
    return client_pods.start("client", mesh=False)


def test_a_model_is_served_from_a_folder_of_a_volume_claim(
    kubectl: Command, client_pods: ClientPods, client: ClientPod
) -> None:
    namespace = client_pods.namespace
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(CLAIM))
    writer = client_pods.start("writer", mesh=False, claim="models")
    model = base64.b64encode((EXAMPLES / "digits/model.onnx").read_bytes()).decode()
    writer.python(f"""
import base64, pathlib
folder = pathlib.Path("/claim/digits/v1")
folder.mkdir(parents=True)
(folder / "model.onnx").write_bytes(base64.b64decode({model!r}))
""")
    source = {"persistentVolumeClaim": {"claimName": "models", "path": "digits/v1"}}
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(service_from(source, "claimed")))
    service = Service(kubectl, namespace, "claimed")
    service.wait_ready()
    wait_until_routed(client, service)
    assert_predicts_as_onnx_runtime(client, service)


def test_a_model_is_served_from_a_folder_of_an_image(
    kubectl: Command, client_pods: ClientPods, client: ClientPod, images: dict[str, str]
) -> None:
    source = {"image": {"reference": images["DIGITS_MODEL_IMAGE"], "path": "digits"}}
    kubectl("apply", "-n", client_pods.namespace, "-f", "-", stdin=json.dumps(service_from(source, "imaged")))
    service = Service(kubectl, client_pods.namespace, "imaged")
    service.wait_ready()
    wait_until_routed(client, service)
    assert_predicts_as_onnx_runtime(client, service)
