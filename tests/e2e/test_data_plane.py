"""What a caller gets through the whole chain with the mesh on: batches, binary tensors, streams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from numpy.typing import NDArray

from tests import digits as example
from tests.e2e.cluster import Command, eventually
from tests.e2e.load import PUBLISHED, Targets, forwarded
from tests.e2e.services import EXAMPLES, GATEWAY_METRICS, Service, calls_by_way
from tests.http import call

CALLERS = 32
ROUNDS = 20


def gateway_totals(service: Service, metric: str) -> dict[str, float]:
    """Return a metric of the gateway's only pod, summed for each name of its samples."""
    (pod,) = service.pods("gateway")
    totals: dict[str, float] = {}
    for sample in service.samples(pod, GATEWAY_METRICS["Istio"]):
        if sample.name.startswith(metric):
            totals[sample.name] = totals.get(sample.name, 0) + sample.value
    return totals


def predict(client: triton_grpc.InferenceServerClient, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities of some digits."""
    tensor = triton_grpc.InferInput("x", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels)
    answer = client.infer("digits", [tensor], client_timeout=30).as_numpy("probabilities")
    assert answer is not None
    return np.asarray(answer)


def test_callers_at_the_same_time_share_batches_and_each_gets_its_own_rows(digits: Service) -> None:
    pixels = example.held_out()
    _, expected = example.oracle(pixels)
    metric = "polyglot_gateway_batch_size_rows"
    before = gateway_totals(digits, metric)

    def ask(caller: int) -> None:
        """Ask for rows of one's own, more of them for some callers than for others."""
        rows = [(caller + row) % len(pixels) for row in range(1 + caller % 3)]
        with triton_grpc.InferenceServerClient(PUBLISHED.grpc) as client:
            for _ in range(ROUNDS):
                np.testing.assert_allclose(predict(client, pixels[rows]), expected[rows], rtol=1e-5)

    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(ask, range(CALLERS)))
    after = gateway_totals(digits, metric)
    rows, batches = (after[f"{metric}_{part}"] - before.get(f"{metric}_{part}", 0) for part in ("sum", "count"))
    requests = CALLERS * ROUNDS
    print(f"{requests} requests with {rows:.0f} rows in {batches:.0f} batches: {rows / batches:.1f} rows each")
    assert rows == sum(1 + caller % 3 for caller in range(CALLERS)) * ROUNDS
    assert batches < requests


def test_calls_pass_the_mesh_by_lane_and_each_gets_its_own_answer(digits: Service) -> None:
    pixels = example.held_out()
    _, expected = example.oracle(pixels)
    unsampled = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}

    def ask(client: triton_grpc.InferenceServerClient, row: int) -> None:
        tensor = triton_grpc.InferInput("x", [1, *pixels.shape[1:]], "FP32")
        tensor.set_data_from_numpy(pixels[row : row + 1])
        answer = client.infer("digits", [tensor], headers=unsampled, client_timeout=30).as_numpy("probabilities")
        np.testing.assert_allclose(answer, expected[row : row + 1], rtol=1e-5)

    with triton_grpc.InferenceServerClient(PUBLISHED.grpc) as client:

        def by_lane() -> float:
            ask(client, 0)
            return calls_by_way(digits)["lane"]

        before = eventually(by_lane, lambda calls: calls > 0, 15, "a lane to each inference pod")
        for call_number in range(ROUNDS):
            ask(client, call_number % len(pixels))
    ways = calls_by_way(digits)
    print(f"inferences by way: {ways}")
    assert ways["lane"] - before >= ROUNDS / 2


def test_binary_tensors_over_rest_equal_onnx_runtime(digits: Service) -> None:
    pixels = example.held_out()
    tensor = triton_http.InferInput("x", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels, binary_data=True)
    outputs = [triton_http.InferRequestedOutput(name, binary_data=True) for name in ("label", "probabilities")]
    with triton_http.InferenceServerClient(PUBLISHED.rest) as client:
        result = client.infer("digits", [tensor], outputs=outputs)
    expected_label, expected_probabilities = example.oracle(pixels)
    np.testing.assert_array_equal(result.as_numpy("label"), expected_label)
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected_probabilities, rtol=1e-6)


@pytest.fixture
def storyteller(context: str, kubectl: Command, namespace: str) -> Iterator[Targets]:
    """The streaming example in the mesh; its gateway's ports on this machine."""
    service = Service(kubectl, namespace, "storyteller")
    kubectl("apply", "-n", namespace, "-k", str(EXAMPLES / "streaming"))
    service.wait_ready()
    with forwarded(context, service) as targets:
        ready = f"http://{targets.rest}/v2/models/storyteller/ready"
        eventually(lambda: call(ready).status, (200).__eq__, 15, "a route to the storyteller")
        yield targets


def test_a_model_streams_through_the_mesh_over_both_protocols(storyteller: Targets) -> None:
    asked = {"text_input": "Alice was", "max_words": 12, "seed": 7}
    reply = call(f"http://{storyteller.rest}/v2/models/storyteller/generate_stream", asked)
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: ")]
    over_rest = [event["text_output"] for event in events]
    assert len(over_rest) == 12

    answers: list[str] = []
    with triton_grpc.InferenceServerClient(storyteller.grpc) as client:
        client.start_stream(
            lambda result, error: answers.append(str(error or result.as_numpy("text_output")[0].decode()))
        )
        tensor = triton_grpc.InferInput("text_input", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([b"Alice was"], dtype=np.object_))
        client.async_stream_infer("storyteller", [tensor], parameters={"max_words": 12, "seed": 7})
        client.stop_stream()
    assert answers == over_rest
