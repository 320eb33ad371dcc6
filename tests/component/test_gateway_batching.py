"""Many callers at once: the gateway joins their requests, and each gets the answer to its own."""

import concurrent.futures

import numpy as np
import tritonclient.grpc as triton

from tests import digits as example
from tests.component.processes import Chain
from tests.http import call

CALLERS = 24
REQUESTS = 240


def batch_sizes(service: Chain) -> tuple[float, float]:
    """Return how many rows and how many batches the gateway has sent."""
    lines = call(f"{service.admin}/metrics").body.decode().splitlines()
    found = {
        line.split("{")[0]: float(line.split()[-1])
        for line in lines
        if line.startswith("polyglot_gateway_batch_size_rows_") and "le=" not in line
    }
    return found["polyglot_gateway_batch_size_rows_sum"], found["polyglot_gateway_batch_size_rows_count"]


def test_requests_of_rest_and_grpc_callers_are_batched_and_each_gets_its_own_answer(service: Chain) -> None:
    pixels = example.held_out()
    labels, probabilities = example.oracle(pixels)
    rows_before, batches_before = batch_sizes(service)

    def ask(number: int) -> int:
        start = number % (len(pixels) - 3)
        own = slice(start, start + 1 + number % 3)
        if number % 2:
            reply = call(f"{service.rest}/v2/models/digits/infer", example.rest_body(pixels[own]))
            assert reply.status == 200, reply.body
            label, probability = example.rest_answer(reply.json())
        else:
            tensor = triton.InferInput("x", list(pixels[own].shape), "FP32")
            tensor.set_data_from_numpy(pixels[own])
            result = client.infer("digits", [tensor], client_timeout=30)
            label, probability = result.as_numpy("label"), result.as_numpy("probabilities")
        np.testing.assert_array_equal(label, labels[own])
        # ONNX Runtime's sums depend on the batch's size in their last bits.
        np.testing.assert_allclose(probability, probabilities[own], rtol=1e-4, atol=1e-6)
        return own.stop - own.start

    with triton.InferenceServerClient(service.grpc) as client, concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
        rows = sum(pool.map(ask, range(REQUESTS)))
    rows_after, batches_after = batch_sizes(service)
    assert rows_after - rows_before == rows
    assert batches_after - batches_before < REQUESTS
