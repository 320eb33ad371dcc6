"""Triton's trace settings over a real channel, and what they do to the spans that leave the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.settings import AdministrationSettings, ModelSettings
from polyglot_inference.telemetry.traces import Tracing

if TYPE_CHECKING:
    from tests.conftest import RawRequest, Receiver, Serve, Serving

FULL = AdministrationSettings(mode="Full")
X = np.arange(8, dtype=np.float32).reshape(2, 4)
UNCHANGED = {
    "trace_level": ["OFF"],
    "trace_rate": ["1"],
    "trace_count": ["-1"],
    "trace_mode": ["opentelemetry"],
    "trace_file": [""],
    "log_frequency": ["0"],
}


def request(model: str = "", /, **settings: list[str]) -> pb.TraceSettingRequest:
    values = {key: pb.TraceSettingRequest.SettingValue(value=value) for key, value in settings.items()}
    return pb.TraceSettingRequest(model_name=model, settings=values)


async def change(serving: Serving, model: str = "", /, **settings: list[str]) -> dict[str, list[str]]:
    answer = await serving.stub.TraceSetting(request(model, **settings))
    return {key: list(setting.value) for key, setting in answer.settings.items()}


async def test_settings_are_read_changed_and_cleared(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity, administration=FULL) as serving:
        assert await change(serving) == await change(serving, "identity") == UNCHANGED
        changed = {**UNCHANGED, "trace_rate": ["77"], "trace_count": ["5"]}
        assert await change(serving, trace_rate=["77"], trace_count=["5"]) == changed
        assert await change(serving, "identity", trace_rate=["3"]) == {**changed, "trace_rate": ["3"]}
        assert await change(serving) == changed
        assert await change(serving, "identity", trace_rate=[]) == changed
        assert await change(serving, trace_rate=[], trace_count=[]) == UNCHANGED


async def test_what_was_read_may_be_sent_back(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity, administration=FULL) as serving:
        assert await change(serving, **UNCHANGED) == UNCHANGED


@pytest.mark.parametrize(
    ("settings", "status", "complaint"),
    [
        ({"trace_file": ["/tmp/x"]}, "UNIMPLEMENTED", "trace_file cannot be changed"),
        ({"log_frequency": ["10"]}, "UNIMPLEMENTED", "log_frequency cannot be changed"),
        ({"trace_mode": ["triton"]}, "UNIMPLEMENTED", "trace_mode cannot be changed"),
        ({"trace_level": ["TENSORS"]}, "UNIMPLEMENTED", "trace_level TENSORS is not supported"),
        ({"trace_level": ["TIMESTAMPS"]}, "UNIMPLEMENTED", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"trace_level": ["LOUD"]}, "INVALID_ARGUMENT", "trace_level LOUD must be"),
        ({"trace_rate": ["often"]}, "INVALID_ARGUMENT", "trace_rate 'often' must be one integer from 0"),
        ({"trace_rate": ["-1"]}, "INVALID_ARGUMENT", "trace_rate '-1' must be"),
        ({"trace_count": ["1", "2"]}, "INVALID_ARGUMENT", "trace_count '1, 2' must be one integer from -1"),
        ({"trace_colour": ["red"]}, "INVALID_ARGUMENT", "trace setting 'trace_colour' is unknown"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name_and_changes_nothing(
    serve: Serve, identity: ModelSettings, settings: dict[str, list[str]], status: str, complaint: str
) -> None:
    async with serve(identity, administration=FULL) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await change(serving, **{"trace_count": ["9"], **settings})
        assert caught.value.code().name == status
        assert complaint in str(caught.value.details())
        assert await change(serving) == UNCHANGED


async def test_an_unknown_model_and_a_read_only_server_are_refused(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity) as serving:
        assert await change(serving) == UNCHANGED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await change(serving, trace_rate=["2"])
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await change(serving, "absent")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_settings_decide_which_spans_leave_the_process(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, receiver: Receiver
) -> None:
    tracing = Tracing(OTLPSpanExporter(receiver.endpoint))
    async with serve(identity, administration=FULL, tracing=tracing) as serving:

        async def infer(name: str) -> None:
            await serving.stub.ModelInfer(raw_request("identity", "x", "FP32", X, id=name))

        await change(serving, "identity", trace_level=["OFF"])
        await infer("unseen")
        await change(serving, "identity", trace_level=["TIMESTAMPS"], trace_count=["2"])
        for _ in range(4):
            await infer("seen")
        assert (await change(serving, "identity"))["trace_count"] == ["0"]
    assert tracing.close(10)
    names = [span.name for span in receiver.spans]
    assert names.count("inference.GRPCInferenceService/ModelInfer") == 2
    assert names.count("execute") == 2
    assert names.count("inference.GRPCInferenceService/TraceSetting") == 3
