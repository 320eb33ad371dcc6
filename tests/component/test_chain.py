"""What a client gets from gateway and inference server together, compared with ONNX Runtime's own answers."""

import concurrent.futures
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests import digits as example
from tests.component.conftest import MODELS
from tests.component.processes import Chain, chain
from tests.http import call


def slow_body(seconds: float) -> dict[str, object]:
    return {"inputs": [{"name": "seconds", "datatype": "FP32", "shape": [1], "data": [seconds]}]}


def test_rest_prediction_equals_onnx_runtime(service: Chain) -> None:
    pixels = example.held_out()
    reply = call(f"{service.rest}/v2/models/digits/infer", example.rest_body(pixels))
    assert reply.status == 200, reply.body
    label, probabilities = example.rest_answer(reply.json())
    expected_label, expected_probabilities = example.oracle(pixels)
    np.testing.assert_array_equal(label, expected_label)
    np.testing.assert_array_equal(probabilities, expected_probabilities)


def test_grpc_prediction_equals_onnx_runtime(service: Chain) -> None:
    pixels = example.held_out()
    tensor = triton.InferInput("x", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels)
    with triton.InferenceServerClient(service.grpc) as client:
        result = client.infer("digits", [tensor], request_id="seven", client_timeout=10)
    expected_label, expected_probabilities = example.oracle(pixels)
    assert result.get_response().id == "seven"
    np.testing.assert_array_equal(result.as_numpy("label"), expected_label)
    np.testing.assert_array_equal(result.as_numpy("probabilities"), expected_probabilities)


def test_python_model_receives_and_returns_text_over_rest(service: Chain) -> None:
    body = {"id": "a", "inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a b c", "größer"]}]}
    reply = call(f"{service.rest}/v2/models/text-statistics/versions/1/infer", body)
    assert reply.status == 200, reply.body
    assert reply.json()["id"] == "a"
    outputs = {output["name"]: output["data"] for output in reply.json()["outputs"]}
    assert outputs["words"] == [3, 1]
    assert outputs["characters"] == [5, 6]


def test_a_priority_changes_nothing_as_in_triton_without_levels(service: Chain) -> None:
    pixels = example.held_out()
    expected, _ = example.oracle(pixels)
    tensor = triton.InferInput("x", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels)
    with triton.InferenceServerClient(service.grpc) as client:
        for priority in (0, 1, 2**31):
            body = {**example.rest_body(pixels), "parameters": {"priority": priority}}
            reply = call(f"{service.rest}/v2/models/digits/infer", body)
            assert reply.status == 200, reply.body
            np.testing.assert_array_equal(example.rest_answer(reply.json())[0], expected)
            result = client.infer("digits", [tensor], priority=priority, client_timeout=10)
            np.testing.assert_array_equal(result.as_numpy("label"), expected)


def test_shared_memory_that_is_off_is_refused_in_the_same_words_wherever_it_is_named(service: Chain) -> None:
    place = {"shared_memory_region": "r", "shared_memory_byte_size": 256}
    infer = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 64], "parameters": place}]}
    region = f"{service.rest}/v2/systemsharedmemory/region/r/register"
    replies = [call(region, {"key": "/r", "byte_size": 256}), call(f"{service.rest}/v2/models/digits/infer", infer)]
    assert [(reply.status, reply.json()["code"]) for reply in replies] == [(501, "UNSUPPORTED")] * 2
    register_refusal, infer_refusal = (reply.json()["error"] for reply in replies)
    assert register_refusal.startswith("system shared memory is off: it needs sharedMemory.enabled")
    assert infer_refusal == f"input 'x': {register_refusal}"
    tensor = triton.InferInput("x", [1, 64], "FP32")
    tensor.set_shared_memory("r", 256)
    with triton.InferenceServerClient(service.grpc) as client:
        with pytest.raises(InferenceServerException) as registering:
            client.register_system_shared_memory("r", "/r", 256)
        with pytest.raises(InferenceServerException) as inferring:
            client.infer("digits", [tensor], client_timeout=10)
    assert (registering.value.status(), registering.value.message()) == ("StatusCode.UNIMPLEMENTED", register_refusal)
    assert (inferring.value.status(), inferring.value.message()) == ("StatusCode.UNIMPLEMENTED", infer_refusal)


def test_wrong_input_is_refused_with_the_tensor_named(service: Chain) -> None:
    body = {"inputs": [{"name": "y", "datatype": "FP32", "shape": [1, 64], "data": [0.0] * 64}]}
    reply = call(f"{service.rest}/v2/models/digits/infer", body)
    assert reply.status == 400
    assert set(reply.json()) == {"error", "code", "traceId"}
    assert "y" in reply.json()["error"]


def test_unknown_model_and_version_are_not_found(service: Chain) -> None:
    body = example.rest_body(example.held_out()[:1])
    assert call(f"{service.rest}/v2/models/absent/infer", body).status == 404
    assert call(f"{service.rest}/v2/models/digits/versions/2/infer", body).status == 404


def test_body_over_the_limit_is_refused(service: Chain) -> None:
    reply = call(f"{service.rest}/v2/models/digits/infer", b"x" * ((1 << 20) + 1))
    assert reply.status == 413
    assert set(reply.json()) == {"error", "code", "traceId"}


def test_rest_deadline_ends_the_call_in_time(service: Chain) -> None:
    started = time.monotonic()
    reply = call(f"{service.rest}/v2/models/slow/infer", slow_body(3), headers={"X-Request-Timeout": "0.3"})
    assert reply.status == 504, reply.body
    assert time.monotonic() - started < 2


def test_grpc_deadline_ends_the_call_in_time(service: Chain) -> None:
    tensor = triton.InferInput("seconds", [1], "FP32")
    tensor.set_data_from_numpy(np.array([3.0], dtype=np.float32))
    started = time.monotonic()
    with triton.InferenceServerClient(service.grpc) as client, pytest.raises(InferenceServerException) as refusal:
        client.infer("slow", [tensor], client_timeout=0.3)
    assert refusal.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert time.monotonic() - started < 2


def test_calls_in_flight_survive_a_termination_of_either_process(gateway_binary: Path, tmp_path: Path) -> None:
    with chain(tmp_path, gateway_binary, MODELS) as own, concurrent.futures.ThreadPoolExecutor() as pool:
        flight = pool.submit(call, f"{own.rest}/v2/models/slow/infer", slow_body(1.5))
        while own.in_flight() == 0:
            time.sleep(0.02)
        own.inference.popen.terminate()
        own.gateway.popen.terminate()
        assert flight.result(timeout=10).status == 200
        assert own.gateway.popen.wait(15) == 0
        assert own.inference.popen.wait(15) == 0
