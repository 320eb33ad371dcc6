"""Pods that are added get their share of the calls, also of callers that keep their connections."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tests import digits as example
from tests.e2e.clients import ClientPod, ClientPods
from tests.e2e.cluster import Command, eventually
from tests.e2e.load import grpc_message
from tests.e2e.services import GATEWAY_METRICS, INFERENCES, SMALL, Service, add_model, declare, wait_until_routed
from tests.e2e.test_rollout import calls_answered

PROTOCOLS = ("rest", "grpc")
CONNECTIONS = 48
"""Of each protocol: so many that a fair draw of their gateways gives each its share."""
SHARE = 0.15
"""The least part of a protocol's calls that one of three gateways must get."""
AGE = 66.0
"""Seconds after which a gateway has ended every connection: `limits.maxConnectionAge` and a tenth."""
WINDOW = 3.0
"""Seconds over which shares are counted."""
LOAD = """
import base64, http.client, json, os, threading, time, grpc
end = time.monotonic() + 300
calls, failed = [], []
def keep(call):
    while time.monotonic() < end and not os.path.exists("/tmp/stop"):
        try:
            call()
        except (AssertionError, OSError, http.client.HTTPException, grpc.RpcError) as error:
            failed.append(repr(error))
        calls.append(None)
        time.sleep(0.5)
def rest():
    connection = http.client.HTTPConnection({host!r}, 8000, timeout=15)
    def call():
        connection.request("POST", "/v2/models/digits/infer", {body!r})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
    return call
def over_grpc():
    channel = grpc.insecure_channel({host!r} + ":8001", [("grpc.use_local_subchannel_pool", 1)])
    infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    message = base64.b64decode({message!r})
    return lambda: infer(message, timeout=15)
threads = [threading.Thread(target=keep, args=[open()]) for open in (rest, over_grpc) for _ in range({connections})]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps({{"calls": len(calls), "failed": failed, "ended": time.monotonic() >= end}}))
"""
"""Callers in a client pod, each with one connection for as long as it may be kept, until /tmp/stop or 300 s."""


@contextmanager
def calling(client: ClientPod, service: Service) -> Iterator[Future[str]]:
    """Run the callers for the length of a block; then the future has what they saw."""
    digit = example.held_out()[:1]
    script = LOAD.format(
        host=f"{service.name}-gateway.{service.namespace}.svc.cluster.local",
        body=json.dumps(example.rest_body(digit)),
        message=base64.b64encode(grpc_message(digit)).decode(),
        connections=CONNECTIONS,
    )
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(client.python, script, timeout=330)
        try:
            yield seen
        finally:
            client.python("open('/tmp/stop', 'w').close()")


Counts = dict[str, dict[str, float]]
"""Calls by pod, by protocol."""


def calls_by_gateway(service: Service) -> Counts:
    """Return how many inferences each gateway has answered, by protocol."""

    counts: Counts = {}
    for pod in service.pods("gateway"):
        by_protocol = counts[pod["metadata"]["name"]] = dict.fromkeys(PROTOCOLS, 0.0)
        for sample in service.samples(pod, GATEWAY_METRICS["None"]):
            if sample.name == "polyglot_gateway_requests_total" and sample.labels["route"] in INFERENCES:
                by_protocol[sample.labels["protocol"]] += sample.value
    return counts


def shares(before: Mapping[str, float], after: Mapping[str, float]) -> list[float]:
    """Return the part that each pod had of the calls between two counts of the same pods, in their order."""
    calls = [after[pod] - before[pod] for pod in sorted(before)]
    return [count / max(sum(calls), 1) for count in calls]


def all_called(counts: Counts) -> bool:
    return all(calls >= CONNECTIONS for by_protocol in counts.values() for calls in by_protocol.values())


def of(protocol: str, counts: Counts) -> dict[str, float]:
    return {pod: by_protocol[protocol] for pod, by_protocol in counts.items()}


def test_pods_that_are_added_get_their_share_of_callers_that_keep_their_connections(
    kubectl: Command, client_pods: ClientPods
) -> None:
    namespace = client_pods.namespace
    add_model(kubectl, namespace)
    service = declare(kubectl, namespace, "spread")
    client = client_pods.start("spread-client", mesh=False)
    service.wait_ready()
    wait_until_routed(client, service)
    with calling(client, service) as seen:
        eventually(lambda: calls_by_gateway(service), all_called, 60, "calls over both protocols")
        three = {"resources": SMALL, "replicas": 3}
        declare(kubectl, namespace, "spread", inference=three, gateway=three)
        service.wait_ready()
        began = time.monotonic()
        samples = [calls_by_gateway(service)]
        inference = calls_answered(service, "None")

        def latest() -> dict[str, list[float]]:
            """Return the share of each gateway in the calls of the last seconds, by protocol."""
            time.sleep(WINDOW)
            samples.append(calls_by_gateway(service))
            before, after = samples[-2:]
            return {protocol: shares(of(protocol, before), of(protocol, after)) for protocol in PROTOCOLS}

        # Where the draw of one minute favours a gateway too much, the next one's is another.
        found = eventually(latest, lambda now: min(map(min, now.values())) >= SHARE, 2 * AGE, "each gateway's share")
        took = time.monotonic() - began
        behind = shares(inference, calls_answered(service, "None"))
    result = json.loads(seen.result())
    print(f"of {result['calls']} calls, {took:.0f} s after all were ready, gateways had {found}; inference {behind}")
    assert not result["failed"]
    assert not result["ended"], "the callers stopped before the test did"
    assert min(behind) >= SHARE
