"""Who may call whom: only the gateway reaches inference, and only by mutual TLS."""

import time

import pytest

from tests import digits as example
from tests.e2e.clients import ClientPod, ClientPods
from tests.e2e.cluster import Command, eventually
from tests.e2e.services import DEMO_NAMESPACE, Service, add_model, declare
from tests.http import call

CALL_INFERENCE = f"""
import grpc
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb, grpc_service_pb2_grpc as service
channel = grpc.insecure_channel("digits-inference.{DEMO_NAMESPACE}.svc.cluster.local:9000")
try:
    print(service.GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=10))
except grpc.RpcError as error:
    raise SystemExit(f"refused: {{error.code().name}}: {{error.details()}}")
"""
CALL_GATEWAY = f"""
import urllib.request
url = "http://digits-gateway.{DEMO_NAMESPACE}.svc.cluster.local:8000/v2/health/ready"
print(urllib.request.urlopen(url, timeout=10).status)
"""


@pytest.fixture(scope="module")
def outsider(client_pods: ClientPods) -> ClientPod:
    """A client without a sidecar."""
    return client_pods.start("outsider", mesh=False)


@pytest.fixture(scope="module")
def stranger(client_pods: ClientPods, kubectl: Command) -> ClientPod:
    """A client inside the mesh, under a service account that inference does not know."""
    kubectl("create", "serviceaccount", "stranger", "-n", client_pods.namespace)
    return client_pods.start("stranger", mesh=True, service_account="stranger")


def test_plaintext_to_inference_is_reset(digits: Service, outsider: ClientPod) -> None:
    assert "refused: UNAVAILABLE" in outsider.refused(CALL_INFERENCE)


def test_a_foreign_service_account_is_denied_by_inference(digits: Service, stranger: ClientPod) -> None:
    refusal = stranger.refused(CALL_INFERENCE)
    assert "refused: PERMISSION_DENIED" in refusal
    assert "RBAC: access denied" in refusal


def test_the_gateway_is_admitted_by_inference(digits: Service) -> None:
    reply = call("http://127.0.0.1:8000/v2/models/digits/infer", example.rest_body(example.held_out()[:1]))
    assert reply.status == 200, reply.body


def test_the_gateway_serves_clients_outside_the_mesh(digits: Service, outsider: ClientPod) -> None:
    assert outsider.python(CALL_GATEWAY).strip() == "200"


def test_the_gateway_serves_clients_inside_the_mesh(digits: Service, stranger: ClientPod) -> None:
    assert stranger.python(CALL_GATEWAY).strip() == "200"


def test_every_pod_of_the_service_carries_a_sidecar(digits: Service) -> None:
    for component in ("gateway", "inference"):
        for pod in digits.pods(component):
            sidecars = [c["name"] for c in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]]
            assert "istio-proxy" in sidecars


def answers(client: ClientPod, service: Service) -> tuple[bool, bool]:
    """Tell whether a client gets an answer of the gateway over REST and over gRPC."""
    host = f"{service.name}-gateway.{service.namespace}.svc.cluster.local"
    rest, grpc = client.python(f"""
import grpc, http.client, urllib.request
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb, grpc_service_pb2_grpc as service
try:
    print(urllib.request.urlopen("http://{host}:8000/v2/health/ready", timeout=10).status == 200)
except (OSError, http.client.HTTPException):
    print(False)
try:
    channel = grpc.insecure_channel("{host}:8001")
    print(service.GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=10).ready)
except grpc.RpcError:
    print(False)
""").split()
    return rest == "True", grpc == "True"


def test_a_gateway_for_the_mesh_only_refuses_outside_clients_and_changes_without_rolling_pods(
    kubectl: Command, client_pods: ClientPods, outsider: ClientPod, stranger: ClientPod
) -> None:
    add_model(kubectl, client_pods.namespace)

    def switch(clients: str) -> Service:
        return declare(kubectl, client_pods.namespace, "inner", mesh={"mode": "Istio", "clients": clients})

    service = switch("MeshOnly")
    service.wait_ready()
    before = {pod["metadata"]["uid"]: pod for part in ("gateway", "inference") for pod in service.pods(part)}
    eventually(lambda: answers(stranger, service), (True, True).__eq__, 10, "a gateway that knows its pods")
    assert answers(outsider, service) == (False, False)
    for clients, expected in (("Any", True), ("MeshOnly", False)):
        began = time.monotonic()
        switch(clients)
        eventually(lambda: answers(outsider, service), (expected, expected).__eq__, 10, clients)
        print(
            f"clients {clients}: outside clients are {'served' if expected else 'refused'} after "
            f"{time.monotonic() - began:.1f} s"
        )
        assert answers(stranger, service) == (True, True)
    service.wait_ready()
    after = [pod for part in ("gateway", "inference") for pod in service.pods(part)]
    assert {pod["metadata"]["uid"] for pod in after} == before.keys()
    # The kubelet's probes went on passing under STRICT.
    assert all(status["restartCount"] == 0 for pod in after for status in pod["status"]["containerStatuses"])
