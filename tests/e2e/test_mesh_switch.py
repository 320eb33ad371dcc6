"""A running service leaves the mesh, enters it and leaves it again under load: step by step, and no call fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby

import pytest
import tritonclient.grpc as triton_grpc

from tests import digits as example
from tests.e2e.clients import ClientPods
from tests.e2e.cluster import eventually
from tests.e2e.load import CLIENTS, PUBLISHED, Load, Outcome
from tests.e2e.services import DEMO_NAMESPACE, Object, Service, calls_by_way
from tests.e2e.watch import Event, watching

FEWEST_REQUESTS = 3000
OWN_CALLS = 300
PROBE = f"""
import json, pathlib, time
import grpc
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb, grpc_service_pb2_grpc as service
target, own = "digits-inference.{DEMO_NAMESPACE}.svc.cluster.local:9000", [("grpc.use_local_subchannel_pool", 1)]
while not pathlib.Path("/tmp/stop").exists():
    began = time.time()
    with grpc.insecure_channel(target, options=own) as channel:  # a connection of its own for each call
        try:
            service.GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=1)
            answer = "OK"
        except grpc.RpcError as error:
            answer = error.code().name
    print(json.dumps([began, answer]), flush=True)
    time.sleep(max(0, began + 0.1 - time.time()))
"""
LEAVING = [("STRICT", "mutual TLS"), ("PERMISSIVE", "mutual TLS"), ("PERMISSIVE", "plaintext"), (None, "plaintext")]
"""What inference accepts and what is sent to it, step by step on the way out of the mesh; the way in is the reverse."""


@dataclass(frozen=True)
class Counts:
    """What was counted: calls that the inference pod answered; those of them that the gateway sent by lane, and each as
    a request of its own; and requests that the pod's sidecar admitted by their certificate, of which a lane is one."""

    answered: float
    by_lane: float
    by_itself: float
    admitted: float


@dataclass(frozen=True)
class Journey:
    """All that was seen on the way."""

    outcome: Outcome
    objects: list[Event]
    """Of PeerAuthentications, DestinationRules and pods, in the order of their revisions."""
    seconds: list[float]
    """How long each switch took, until Ready."""
    strict: tuple[float, float]
    """When the service first reported that mutual TLS is required, and when it was asked to leave the mesh again."""
    counts: tuple[Counts, Counts]
    """At the beginning and at the end of that time."""
    probes: list[tuple[float, str]]
    """Plaintext calls to inference from outside the mesh: when each began and how it ended."""


@pytest.fixture(scope="module")
def journey(context: str, digits: Service, client_pods: ClientPods, load: Load) -> Iterator[Journey]:
    """Go from Istio to None, to Istio, to None; afterwards the service is as its example says again."""
    in_demo = ("-n", DEMO_NAMESPACE, "-l", f"polyglot.dev/service={digits.name}")
    kinds = ("peerauthentications", "destinationrules", "pods")
    asked: list[float] = []
    ready: list[float] = []
    counts: list[Counts] = []

    def switch(mode: str) -> None:
        asked.append(time.time())
        patch = json.dumps({"spec": {"mesh": {"mode": mode}}})
        digits.kubectl("patch", "polyglotservice", "digits", "-n", DEMO_NAMESPACE, "--type=merge", "-p", patch)
        digits.wait_ready()
        ready.append(time.time())

    def travel() -> None:
        switch("None")
        switch("Istio")
        counts.append(count(digits))
        call_by_itself(OWN_CALLS)
        enough = counts[0].answered + FEWEST_REQUESTS
        counts.append(eventually(lambda: count(digits), lambda now: now.answered > enough, 60, "calls under STRICT"))
        switch("None")

    prober = client_pods.start("prober", mesh=False)
    with ExitStack() as stack:
        stack.callback(digits.restore, "digits/digits.yaml")
        statuses = stack.enter_context(watching(context, "polyglotservice", "digits", "-n", DEMO_NAMESPACE))
        objects = [stack.enter_context(watching(context, kind, *in_demo)) for kind in kinds]
        with ThreadPoolExecutor() as pool:
            probing = pool.submit(prober.python, PROBE, timeout=300)
            try:
                outcome = load.during(travel, FEWEST_REQUESTS)
            finally:
                prober.python("import pathlib; pathlib.Path('/tmp/stop').touch()")
        yield Journey(
            outcome,
            sorted((event for events in objects for event in events), key=lambda event: event.revision),
            [end - began for began, end in zip(asked, ready, strict=True)],
            (next(event.at for event in statuses if event.at > asked[1] and reports_strict(event)), asked[2]),
            (counts[0], counts[1]),
            [json.loads(line) for line in probing.result().splitlines()],
        )


def call_by_itself(times: int) -> None:
    """Make calls that no lane carries, for their metadata, and that are joined with no others, for their parameter."""
    pixels = example.held_out()[:1]
    tensor = triton_grpc.InferInput("x", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels)
    with triton_grpc.InferenceServerClient(PUBLISHED.grpc) as client:
        for _ in range(times):
            client.infer("digits", [tensor], headers={"note": "alone"}, parameters={"note": "alone"}, client_timeout=30)


def count(digits: Service) -> Counts:
    (pod,) = digits.pods("inference")
    path = f"/api/v1/namespaces/{DEMO_NAMESPACE}/pods/{pod['metadata']['name']}:15020/proxy/stats/prometheus"
    with ThreadPoolExecutor() as pool:  # at the same moment, as well as can be
        page, sent = pool.submit(digits.kubectl, "get", "--raw", path), pool.submit(calls_by_way, digits)
    lines, ways = page.result().splitlines(), sent.result()
    names = ("polyglot_inference_requests_total{", 'envoy_http_rbac{authz_enforce_result="allowed"')
    answered, admitted = (sum(float(line.split()[-1]) for line in lines if line.startswith(name)) for name in names)
    return Counts(answered, ways["lane"], sum(ways.values()) - ways["lane"], admitted)


def reports_strict(event: Event) -> bool:
    generation = event.object["metadata"]["generation"]
    found = {condition["type"]: condition for condition in event.object["status"]["conditions"]}
    mesh = found["MeshReady"]
    return (mesh["observedGeneration"], mesh["status"], mesh["reason"]) == (generation, "True", "SidecarsReady")


def test_a_service_enters_and_leaves_the_mesh_under_load_and_fails_no_call(journey: Journey) -> None:
    took = ", ".join(f"{seconds:.0f} s" for seconds in journey.seconds)
    print(f"Istio -> None -> Istio -> None in {took}: {journey.outcome}")
    assert journey.outcome.failed == 0, journey.outcome.failures
    assert journey.outcome.requests >= FEWEST_REQUESTS


def test_each_step_of_a_mesh_switch_comes_when_all_pods_are_ready_for_it(journey: Journey) -> None:
    policies: dict[str, str | None] = {"PeerAuthentication": None, "DestinationRule": None}
    sidecars: dict[str, bool] = {}
    steps: list[tuple[str | None, str]] = []
    mutual = False
    for event in journey.objects:
        kind, name = event.object["kind"], event.object["metadata"]["name"]
        if kind == "Pod":
            sidecars[name] = has_sidecar(event.object)
            if event.type == "DELETED" or event.object["status"].get("phase") in {"Succeeded", "Failed"}:
                del sidecars[name]
        elif name == "digits-inference":
            policies[kind] = None if event.type == "DELETED" else mode(event.object)
            mutual = policies["DestinationRule"] == "ISTIO_MUTUAL"
            steps.append((policies["PeerAuthentication"], "mutual TLS" if mutual else "plaintext"))
        if LEAVING[0] not in steps:
            continue  # objects that were there before, in no order
        assert all(sidecars.values()) or not mutual, (event, sidecars)
        assert not any(sidecars.values()) or all(policies.values()), (event, policies)
    steps = [step for step, _ in groupby(steps[steps.index(LEAVING[0]) :])]
    print(f"accepted and sent: {steps}")
    assert steps == [*LEAVING, *LEAVING[-2::-1], *LEAVING[1:]]


def has_sidecar(pod: Object) -> bool:
    containers = pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
    return any(container["name"] == "istio-proxy" for container in containers)


def mode(policy: Object) -> str:
    spec = policy["spec"]
    return str(spec["mtls"]["mode"] if policy["kind"] == "PeerAuthentication" else spec["trafficPolicy"]["tls"]["mode"])


def test_nothing_plain_passes_from_the_moment_that_strict_is_reported(journey: Journey) -> None:
    began, ended = journey.strict
    under_strict = [answer for at, answer in journey.probes if began <= at < ended]
    otherwise = [answer for at, answer in journey.probes if not began <= at < ended]
    before, after = journey.counts
    answered, admitted = after.answered - before.answered, after.admitted - before.admitted
    by_lane, by_itself = after.by_lane - before.by_lane, after.by_itself - before.by_itself
    print(
        f"{ended - began:.0f} s STRICT: {under_strict.count('OK')} of {len(under_strict)} plaintext calls served "
        f"({otherwise.count('OK')} of {len(otherwise)} before and after); of {answered:.0f} calls the gateway sent "
        f"{by_lane:.0f} by lane and {by_itself:.0f} as requests of their own; {admitted:.0f} requests had its "
        "certificate"
    )
    assert len(under_strict) >= 20
    assert "OK" not in under_strict
    assert "OK" in otherwise
    assert answered >= FEWEST_REQUESTS
    # The pods are read at nearly the same moment, while calls go on; and a lane is one request itself.
    assert by_itself >= OWN_CALLS
    assert by_itself == pytest.approx(admitted, rel=0.05, abs=2 * CLIENTS)
    assert by_lane == pytest.approx(answered - admitted, rel=0.05)
