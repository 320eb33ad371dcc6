"""The benchmark's own arithmetic; what it measures is not asserted anywhere."""

from typing import Any

import pytest

from bench.command import BenchError
from bench.first_light.cluster import NAMESPACE, cpu_by_process, has_sidecar, nodes_of
from bench.first_light.measure import Digit, Measurement, cpu_per_request
from bench.first_light.run import PROCESSES, arguments, table_head, table_row

LOAD = {
    "requests": 90,
    "errors": 10,
    "requestsPerSecond": 1234.5,
    "p50Microseconds": 812.3,
    "p99Microseconds": 2499.0,
    "ownCpuMicroseconds": 71.6,
}


def container(pod: str, name: str, nanoseconds: int, namespace: str = NAMESPACE) -> dict[str, Any]:
    """Return one container's statistics in the form of `crictl stats -o json`."""
    labels = {
        "io.kubernetes.pod.name": pod,
        "io.kubernetes.pod.namespace": namespace,
        "io.kubernetes.container.name": name,
    }
    return {"attributes": {"labels": labels}, "cpu": {"usageCoreNanoSeconds": {"value": str(nanoseconds)}}}


def test_cpu_per_request_counts_failed_requests_too() -> None:
    used = cpu_per_request({"gateway": 1.0, "inference": 2.0}, {"gateway": 1.01, "inference": 2.05}, LOAD)
    assert used == pytest.approx({"gateway": 100, "inference": 500})


@pytest.mark.parametrize(
    "after",
    [{"gateway": 2.0}, {"gateway": 2.0, "inference": 0.5}, {"gateway": 2.0, "inference": 2.0, "gateway sidecar": 1.0}],
    ids=["one is gone", "one restarted", "one is new"],
)
def test_cpu_per_request_is_refused_when_the_processes_changed(after: dict[str, float]) -> None:
    with pytest.raises(BenchError, match="changed during the measurement"):
        cpu_per_request({"gateway": 1.0, "inference": 1.0}, after, LOAD)


def test_cpu_per_request_is_refused_without_requests() -> None:
    with pytest.raises(BenchError, match="no request"):
        cpu_per_request({"gateway": 1.0}, {"gateway": 1.0}, {"requests": 0, "errors": 0})


def test_cluster_cpu_tells_components_from_their_sidecars_and_leaves_others_out() -> None:
    containers = [
        container("digits-gateway-5d-x", "gateway", 1_500_000_000),
        container("digits-gateway-5d-x", "istio-proxy", 2_000_000_000),
        container("digits-inference-7c-y", "inference", 3_000_000_000),
        container("digits-inference-7c-z", "inference", 4_000_000_000),
        container("digits-inference-7c-y", "istio-proxy", 5_000_000_000),
        container("digits-gateway-5d-x", "gateway", 9_000_000_000, namespace="elsewhere"),
        container("client", "client", 9_000_000_000),
    ]
    assert cpu_by_process(containers) == {
        "gateway": 1.5,
        "gateway sidecar": 2.0,
        "inference": 7.0,
        "inference sidecar": 5.0,
    }


def test_cluster_cpu_is_read_on_every_node_that_runs_a_pod_of_the_service() -> None:
    pods = [{"spec": {"nodeName": node}} for node in ("worker2", "worker", "worker2")]
    assert nodes_of(pods) == ["worker", "worker2"]


@pytest.mark.parametrize(
    ("spec", "meshed"),
    [
        ({"containers": [{"name": "gateway"}]}, False),
        ({"containers": [{"name": "gateway"}, {"name": "istio-proxy"}]}, True),
        ({"containers": [{"name": "gateway"}], "initContainers": [{"name": "istio-proxy"}]}, True),
    ],
    ids=["no sidecar", "sidecar", "native sidecar"],
)
def test_a_sidecar_is_found_wherever_it_is_injected(spec: dict[str, Any], meshed: bool) -> None:
    assert has_sidecar({"spec": spec}) is meshed


def test_a_digit_is_the_same_in_both_protocols() -> None:
    digit = Digit(pixels=[0.5] * 64, label=3)
    message = digit.message()
    assert b'"shape": [1, 64]' in digit.json()
    assert (list(message.inputs[0].shape), message.inputs[0].datatype, message.model_name) == (
        [1, 64],
        "FP32",
        "digits",
    )
    assert message.raw_input_contents[0] == bytes.fromhex("0000003f") * 64


def test_a_row_has_a_cell_for_every_column_with_and_without_sidecars() -> None:
    plain = {"gateway": 101.4, "inference": 402.6}
    meshed = dict.fromkeys(PROCESSES, 10.0)
    rows = [table_row(Measurement("case", "rest", 32, LOAD, cpu)) for cpu in (plain, meshed)]
    assert rows[0] == "| case | rest | 32 | 1234 | 0.81 | 2.50 | 10 | 101 | - | 403 | - | 72 |"
    assert {line.count("|") for line in [*table_head().splitlines(), *rows]} == {13}


def test_one_and_32_clients_are_measured_unless_told_otherwise() -> None:
    options = arguments([])
    assert (options.local, options.clients, options.seconds) == (False, [1, 32], 10)
