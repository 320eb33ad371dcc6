"""The server over a real channel: the protocol's calls, its limits and its failures."""

from __future__ import annotations

import asyncio
import logging
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from polyglot_inference.errors import ModelLoadError
from polyglot_inference.protocol.calls import SERVICE
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.settings import ModelSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RawRequest, Serve, WritePython

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        return str(response.read().decode())


def trailers(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    return dict(error.trailing_metadata())


async def test_metadata_describes_server_and_model(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity) as serving:
        assert (await serving.stub.ServerLive(pb.ServerLiveRequest())).live
        assert (await serving.stub.ServerReady(pb.ServerReadyRequest())).ready
        server = await serving.stub.ServerMetadata(pb.ServerMetadataRequest())
        assert (server.name, server.version) == ("polyglot-inference", "0.1.0")
        model = await serving.stub.ModelMetadata(pb.ModelMetadataRequest(name="identity"))
        assert (model.name, list(model.versions), model.platform) == ("identity", ["1"], "onnxruntime_onnx")
        assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in model.inputs] == [
            ("x", "FP32", [-1, 4])
        ]
        assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in model.outputs] == [
            ("y", "FP32", [-1, 4])
        ]


async def test_a_raw_call_is_answered_and_counted(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest
) -> None:
    async with serve(identity) as serving:
        response = await serving.stub.ModelInfer(raw_request("identity", "x", "FP32", X, id="7", model_version="1"))
        assert (response.model_name, response.model_version, response.id) == ("identity", "1", "7")
        assert list(response.raw_output_contents) == [X.tobytes()]
        assert serving.count("identity", "OK") == 1
        text = await asyncio.to_thread(scrape, serving.server.metrics_port)
        assert 'polyglot_inference_requests_total{code="OK",model="identity"} 1.0' in text
        assert 'polyglot_inference_execute_duration_seconds_count{model="identity"} 1.0' in text
        assert 'polyglot_inference_batch_rows_sum{model="identity"} 2.0' in text
        assert "polyglot_inference_requests_in_flight 0.0" in text
        assert 'polyglot_inference_state{state="Ready"} 1.0' in text


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("identity", "", True), ("identity", "1", True), ("identity", "2", False), ("x", "", False)],
)
async def test_model_ready_is_an_answer_and_not_an_error(
    serve: Serve, identity: ModelSettings, name: str, version: str, ready: bool
) -> None:
    async with serve(identity) as serving:
        assert (await serving.stub.ModelReady(pb.ModelReadyRequest(name=name, version=version))).ready is ready


@pytest.mark.parametrize(
    ("model", "version", "complaint"),
    [
        ("nothing", "", "model 'nothing' is not served here; served are: identity"),
        ("identity", "2", "model 'identity' has no version '2'; its only version is '1'"),
    ],
)
async def test_an_unknown_model_or_version_is_not_found(
    serve: Serve, identity: ModelSettings, model: str, version: str, complaint: str
) -> None:
    async with serve(identity) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(pb.ModelInferRequest(model_name=model, model_version=version))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == complaint
        assert trailers(caught.value)["x-error-code"] == "MODEL_NOT_FOUND"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelMetadata(pb.ModelMetadataRequest(name=model, version=version))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert serving.count("", "NOT_FOUND") == 1


async def test_an_error_carries_code_and_trace_id_as_trailers(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    metadata = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),)
    async with serve(identity) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(raw_request("identity", "z", "FP32", X), metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert trailers(caught.value) == {"x-error-code": "INVALID_TENSOR", "x-trace-id": trace_id}


async def test_bytes_that_are_no_message_are_refused(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity) as serving:
        send: Any = serving.channel.unary_unary(f"/{SERVICE.full_name}/ModelInfer")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await send(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "no valid protobuf message" in str(caught.value.details())


@pytest.mark.parametrize("rows", [2048 // 16, 20 * 2048 // 16])
async def test_a_request_above_the_limit_is_resource_exhausted(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, rows: int
) -> None:
    async with serve(identity, max_message_bytes=2048) as serving:
        request = raw_request("identity", "x", "FP32", np.zeros((rows, 4), np.float32))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(request)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        if request.ByteSize() <= 2 * 2048:
            expected = f"the request has {request.ByteSize()} bytes, more than grpc.maxMessageBytes = 2048 allows"
            assert caught.value.details() == expected
            assert trailers(caught.value)["x-error-code"] == "MESSAGE_TOO_LARGE"


async def test_a_response_above_the_limit_is_resource_exhausted(
    serve: Serve, python_model: WritePython, raw_request: RawRequest
) -> None:
    grow = python_model(
        "grow",
        """
        import numpy as np
        from polyglot_inference import TensorSpec

        class Model:
            inputs = [TensorSpec("n", "INT64", [1])]
            outputs = [TensorSpec("zeros", "UINT8", [-1])]
            load = print

            def predict(self, inputs):
                return {"zeros": np.zeros(int(inputs["n"][0]), np.uint8)}
        """,
    )
    async with serve(grow, max_message_bytes=2048) as serving:
        small = await serving.stub.ModelInfer(raw_request("grow", "n", "INT64", np.array([1500])))
        assert len(small.raw_output_contents[0]) == 1500
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(raw_request("grow", "n", "INT64", np.array([3000])))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the response has 30" in str(caught.value.details())


async def test_a_failing_model_is_internal_with_its_message_and_the_stack_only_in_the_log(
    serve: Serve, python_model: WritePython, raw_request: RawRequest, caplog: pytest.LogCaptureFixture
) -> None:
    fragile = python_model(
        "fragile",
        """
        from polyglot_inference import TensorSpec

        class Model:
            inputs = outputs = [TensorSpec("x", "FP32", [-1, 4])]
            load = print

            def predict(self, inputs):
                raise RuntimeError("weights are upside down")
        """,
    )
    async with serve(fragile) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught, caplog.at_level(logging.INFO):
            await serving.stub.ModelInfer(raw_request("fragile", "x", "FP32", X))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "model 'fragile' raised RuntimeError: weights are upside down"
    assert trailers(caught.value)["x-error-code"] == "MODEL_FAILED"
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert line.exc_info is not None
    assert "in predict" in logging.Formatter().formatException(line.exc_info)


async def test_a_caller_learns_nothing_of_a_fault_of_ours_but_the_log_does(
    serve: Serve, identity: ModelSettings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(identity) as serving:
        monkeypatch.setattr("polyglot_inference.protocol.service.metadata.version", lambda _: 1 / 0)
        with pytest.raises(grpc.aio.AioRpcError) as caught, caplog.at_level(logging.INFO):
            await serving.stub.ServerMetadata(pb.ServerMetadataRequest())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error; the server's log has more"
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert isinstance(line.exc_info and line.exc_info[1], ZeroDivisionError)


async def test_a_very_long_name_gives_a_short_error(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(pb.ModelInferRequest(model_name="x" * 500_000))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert len(str(caught.value.details())) == 2000


async def test_a_model_that_cannot_be_loaded_stops_the_start(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="model 'absent'"):
        async with serve(ModelSettings(name="absent", format="ONNX", path=tmp_path)):
            pass
