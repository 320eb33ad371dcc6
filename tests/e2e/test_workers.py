"""Several server processes in a pod: each is called, and only by the gateway's mutual TLS."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tritonclient.grpc as triton_grpc

from tests import digits as example
from tests.e2e.clients import ClientPods
from tests.e2e.cluster import Command, eventually
from tests.e2e.load import forwarded
from tests.e2e.services import GATEWAY_METRICS, SMALL, Service, add_model, declare
from tests.e2e.test_data_plane import predict
from tests.http import call

ROUNDS = 20
ON_WORKER = """
import grpc
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb, grpc_service_pb2_grpc as service
channel = grpc.insecure_channel("{host}:{port}")
try:
    print(service.GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=10))
except grpc.RpcError as error:
    raise SystemExit(f"refused: {{error.code().name}}: {{error.details()}}")
"""


def test_each_worker_of_a_pod_is_called_by_mutual_tls_alone(
    context: str, kubectl: Command, client_pods: ClientPods
) -> None:
    add_model(kubectl, client_pods.namespace)
    inference = {"resources": SMALL, "workers": 2}
    service = declare(kubectl, client_pods.namespace, "pair", inference=inference, mesh={"mode": "Istio"})
    service.wait_ready()
    pixels = example.held_out()
    _, expected = example.oracle(pixels)

    def ask(_: int) -> None:
        with triton_grpc.InferenceServerClient(targets.grpc) as client:
            for _ in range(ROUNDS):
                np.testing.assert_allclose(predict(client, pixels), expected, rtol=1e-5)

    with forwarded(context, service) as targets, ThreadPoolExecutor(8) as callers:
        ready = f"http://{targets.rest}/v2/models/digits/ready"
        eventually(lambda: call(ready).status, (200).__eq__, 15, "a route to both workers")
        list(callers.map(ask, range(8)))
    calls = calls_by_port(service)
    print(f"calls to the workers of one pod by port: {calls}")
    assert min(calls[9000], calls[9010]) > 0.2 * 8 * ROUNDS

    host = f"{service.name}-inference.{service.namespace}.svc.cluster.local"
    outsider = client_pods.start("plain-caller", mesh=False)
    stranger = client_pods.start("meshed-caller", mesh=True)
    for port in (9000, 9010):
        script = ON_WORKER.format(host=host, port=port)
        assert "refused: UNAVAILABLE" in outsider.refused(script)
        assert "RBAC: access denied" in stranger.refused(script)


def calls_by_port(service: Service) -> Counter[int]:
    """Return how many calls the only gateway has given to each port of the inference pods.

    To sidecars most of them are messages of one request.
    """
    (pod,) = service.pods("gateway")
    calls: Counter[int] = Counter()
    for sample in service.samples(pod, GATEWAY_METRICS["Istio"]):
        if sample.name == "polyglot_gateway_backend_calls_total":
            calls[int(sample.labels["backend"].rpartition(":")[2])] += int(sample.value)
    return calls
