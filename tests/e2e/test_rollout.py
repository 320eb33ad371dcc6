"""Changes of a running service cost no call: rollouts and scaling under load, with the mesh on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bench.first_light.measure import Digit, LoadGenerator
from tests.e2e.cluster import Command, eventually
from tests.e2e.services import Service

TARGETS = {"rest": "127.0.0.1:8000", "grpc": "127.0.0.1:8001"}
CLIENTS = 4
LOAD_SECONDS = 45
FEWEST_REQUESTS = 5000


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> LoadGenerator:
    """The benchmark's load generator; it aims at 127.0.0.1 alone."""
    return LoadGenerator(tmp_path_factory.mktemp("load"), Digit.first())


@pytest.fixture
def service(digits: Service) -> Iterator[Service]:
    """The digits service, as its example says again after the test."""
    yield digits
    digits.apply("digits/digits.yaml")
    digits.wait_ready()


def patch(kubectl: Command, service: Service, spec: dict[str, Any]) -> None:
    """Change a service's spec and wait until all of it is as changed."""
    words = ("patch", "polyglotservice", service.name, "-n", service.namespace, "--type=merge", "-p")
    kubectl(*words, json.dumps({"spec": spec}))
    service.wait_ready(within=LOAD_SECONDS)


def under_load(load: LoadGenerator, change: Callable[[], None]) -> None:
    """Make a change in the midst of load over REST and gRPC; fail if any call failed or the load ended too early."""
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(load.send, target, protocol, CLIENTS, LOAD_SECONDS) for protocol, target in TARGETS.items()]
        change()
        assert not any(run.done() for run in runs), f"the change took longer than the {LOAD_SECONDS} s of load"
        results = [run.result() for run in runs]
    print([(result["requests"], result["errors"], result["p99Microseconds"]) for result in results])
    assert sum(result["errors"] for result in results) == 0, [result.get("firstError") for result in results]
    assert sum(result["requests"] for result in results) >= FEWEST_REQUESTS


def test_a_rollout_of_inference_fails_no_call(kubectl: Command, service: Service, load: LoadGenerator) -> None:
    env = [{"name": "ROLLED", "value": "yes"}]
    under_load(load, lambda: patch(kubectl, service, {"inference": {"env": env}}))


def test_a_rollout_of_the_gateway_fails_no_call(kubectl: Command, service: Service, load: LoadGenerator) -> None:
    env = [{"name": "ROLLED", "value": "yes"}]
    under_load(load, lambda: patch(kubectl, service, {"gateway": {"env": env}}))


def test_scaling_up_and_down_fails_no_call(kubectl: Command, service: Service, load: LoadGenerator) -> None:
    def up_and_down() -> None:
        for replicas in (3, 1):
            patch(kubectl, service, {"inference": {"replicas": replicas}})
            eventually(lambda: len(service.pods("inference")), replicas.__eq__, within=20, what=f"{replicas} pods")

    under_load(load, up_and_down)
