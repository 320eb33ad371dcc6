"""Predictions through the mesh, the gateway and Python equal ONNX Runtime's own."""

import numpy as np
import tritonclient.grpc as triton

from tests import digits as example
from tests.e2e.services import Service
from tests.http import call

REST = "http://127.0.0.1:8000"
GRPC = "127.0.0.1:8001"


def test_prediction_over_rest_equals_onnx_runtime(digits: Service) -> None:
    pixels = example.held_out()
    reply = call(f"{REST}/v2/models/digits/infer", example.rest_body(pixels))
    assert reply.status == 200, reply.body
    label, probabilities = example.rest_answer(reply.json())
    expected_label, expected_probabilities = example.oracle(pixels)
    np.testing.assert_array_equal(label, expected_label)
    np.testing.assert_allclose(probabilities, expected_probabilities, rtol=1e-6)


def test_prediction_over_grpc_equals_onnx_runtime(digits: Service) -> None:
    pixels = example.held_out()
    tensor = triton.InferInput("x", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels)
    with triton.InferenceServerClient(GRPC) as client:
        result = client.infer("digits", [tensor], client_timeout=15)
    expected_label, expected_probabilities = example.oracle(pixels)
    np.testing.assert_array_equal(result.as_numpy("label"), expected_label)
    np.testing.assert_array_equal(result.as_numpy("probabilities"), expected_probabilities)


def test_metadata_over_rest_and_grpc_agree(digits: Service) -> None:
    rest = call(f"{REST}/v2/models/digits").json()
    with triton.InferenceServerClient(GRPC) as client:
        grpc = client.get_model_metadata("digits", as_json=True)
    assert [tensor["name"] for tensor in rest["inputs"]] == [tensor["name"] for tensor in grpc["inputs"]] == ["x"]
    assert rest["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 64]}
    assert {tensor["name"] for tensor in grpc["outputs"]} == {"label", "probabilities"}


def test_readiness_is_answered_over_rest_and_grpc(digits: Service) -> None:
    assert call(f"{REST}/v2/health/live").status == 200
    assert call(f"{REST}/v2/health/ready").status == 200
    assert call(f"{REST}/v2/models/digits/ready").status == 200
    with triton.InferenceServerClient(GRPC) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert not client.is_model_ready("absent")


def test_unknown_model_is_refused_with_code_and_trace(digits: Service) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-00"}
    reply = call(f"{REST}/v2/models/absent/infer", example.rest_body(example.held_out()[:1]), headers=headers)
    assert reply.status == 404
    body = reply.json()
    assert "absent" in body["error"]
    assert body["code"] == "MODEL_NOT_FOUND" or body["code"] == "NOT_FOUND"
    assert body["traceId"] == trace_id
