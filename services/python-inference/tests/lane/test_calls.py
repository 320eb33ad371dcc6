"""Calls of a lane: served as calls of their own are, and told apart by their numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from pydantic import SecretStr

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.protocol.pb import lane_pb2
from polyglot_inference.settings import AdministrationSettings, QueueSettings, Restriction
from polyglot_inference.telemetry.traces import Tracing

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import Gate, RawRequest, Receiver, Serve, WritePython
    from tests.lane.conftest import OpenLane

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER_SPAN = "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = (f"00-{TRACE_ID}-{CALLER_SPAN}-{flags}" for flags in ("01", "00"))
X = np.arange(8, dtype=np.float32).reshape(2, 4)


async def test_each_call_has_the_answer_of_a_call_of_its_own(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, open_lane: OpenLane
) -> None:
    requests = {
        number: raw_request("identity", "x", "FP32", np.full((number % 3 + 1, 4), number, np.float32), id=str(number))
        for number in (0, 1, 127, 128, 2**64 - 1, *range(1000, 1050))
    }
    async with serve(identity) as serving:
        lane = open_lane(serving)
        for number, request in requests.items():
            await lane.begin(number, request)
        answers = [await lane.read() for _ in requests]
        by_number = {answer.call: answer.infer for answer in answers}
        assert by_number == {number: await serving.stub.ModelInfer(request) for number, request in requests.items()}


async def test_calls_of_a_lane_are_counted_as_calls_and_not_as_streams(
    serve: Serve,
    identity: ModelSettings,
    raw_request: RawRequest,
    *,
    open_lane: OpenLane,
    sample: Callable[..., float],
    until: Callable[..., Any],
) -> None:
    async with serve(identity) as serving:
        lane = open_lane(serving)
        for number in range(5):
            await lane.begin(number, raw_request("identity", "x", "FP32", X))
            await lane.read()
        await lane.begin(5, pb.ModelInferRequest(model_name="identity"))
        await lane.read()
        assert (sample(serving, "lanes"), sample(serving, "streams")) == (1, 0)
        await lane.close()
        assert (serving.count("identity", "OK"), serving.count("identity", "INVALID_ARGUMENT")) == (5, 1)
        assert sample(serving, "request_duration_seconds_count", model="identity") == 6
        assert sample(serving, "queue_duration_seconds_count", model="identity") == 5
        assert sample(serving, "stream_answers_total", model="identity") == 0
        assert sample(serving, "first_answer_seconds_count", model="identity") == 0
        assert serving.server.in_flight.count == 0
        await until(lambda: sample(serving, "lanes") == 0, "the lane is closed")
        (statistics,) = (await serving.stub.ModelStatistics(pb.ModelStatisticsRequest())).model_stats
        told = statistics.inference_stats
        assert (told.success.count, told.fail.count, len(statistics.response_stats)) == (5, 1, 0)


async def test_a_slow_call_does_not_hold_up_others_of_its_lane(
    serve: Serve,
    gated: ModelSettings,
    gate: Callable[[], Gate],
    identity: ModelSettings,
    *,
    asked: Callable[..., pb.ModelInferRequest],
    raw_request: RawRequest,
    open_lane: OpenLane,
) -> None:
    async with serve(gated, identity) as serving:
        lane = open_lane(serving)
        await lane.begin(1, asked(41))
        await gate().started()
        await lane.begin(2, raw_request("identity", "x", "FP32", X))
        assert (await lane.read()).call == 2
        gate().release()
        answer = await lane.read()
        assert (answer.call, lane.values(answer)) == (1, [42])


FAILING = """
    import numpy as np
    from polyglot_inference import TensorSpec

    class Model:
        inputs = [TensorSpec("x", "INT64", [1])]
        outputs = [TensorSpec("y", "UINT8", [-1])]

        def predict(self, inputs):
            if inputs["x"][0] == 13:
                raise ValueError("unlucky")
            return {"y": np.zeros(inputs["x"][0], np.uint8)}
"""


async def test_a_call_fails_by_itself_with_status_text_and_trailers_of_a_call_of_its_own(
    serve: Serve, python_model: WritePython, raw_request: RawRequest, open_lane: OpenLane
) -> None:
    def request(*values: int, model: str = "failing") -> pb.ModelInferRequest:
        return raw_request(model, "x", "INT64", np.array(values))

    failing = {
        "MODEL_FAILED": request(13),
        "MODEL_NOT_FOUND": request(1, model="absent"),
        "INVALID_TENSOR": request(1, 2),
        "MESSAGE_TOO_LARGE": request(5000),
    }
    async with serve(python_model("failing", FAILING), max_message_bytes=4096) as serving:
        lane = open_lane(serving)
        for number, (code, infer) in enumerate(failing.items()):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await serving.stub.ModelInfer(infer, metadata=(("traceparent", NOT_SAMPLED),))
            await lane.begin(number, infer, traceparent=NOT_SAMPLED)
            status, text, trailers = await lane.failure(number)
            assert (status, text) == (caught.value.code(), caught.value.details())
            assert trailers == dict(caught.value.trailing_metadata())
            assert trailers == {"x-error-code": code, "x-trace-id": TRACE_ID}
            assert serving.count("" if code == "MODEL_NOT_FOUND" else "failing", status.name) == 2
        await lane.begin(9, request(3))
        assert lane.values(await lane.read(), np.uint8) == [0, 0, 0]


async def test_a_full_queue_tells_when_to_try_again(
    serve: Serve,
    gated: ModelSettings,
    gate: Callable[[], Gate],
    asked: Callable[..., pb.ModelInferRequest],
    open_lane: OpenLane,
) -> None:
    queue = QueueSettings.model_construct(max_size=1, max_bytes=2**20)
    async with serve(gated, queue=queue) as serving:
        lane = open_lane(serving)
        await lane.begin(1, asked(1))
        await gate().started()
        for number in (2, 3):
            await lane.begin(number, asked(number))
        status, text, trailers = await lane.failure(3)
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "queue.maxSize = 1" in text
        assert trailers["x-error-code"] == "QUEUE_FULL"
        assert trailers.keys() == {"x-error-code", "retry-after", "grpc-retry-pushback-ms"}
        gate().release(2)
        assert [(await lane.read()).call for _ in range(2)] == [1, 2]


async def test_a_request_over_the_limit_fails_and_one_at_the_limit_does_not(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, open_lane: OpenLane
) -> None:
    request = raw_request("identity", "x", "FP32", np.zeros((50, 4), np.float32))
    request.outputs.add(name="y")  # makes it larger than its answer
    size = request.ByteSize()
    async with serve(identity, max_message_bytes=size) as serving:
        lane = open_lane(serving)
        await lane.begin(1, request, traceparent=NOT_SAMPLED, request_id="at the limit")
        assert (await lane.read()).infer.model_name == "identity"
        request.id = "larger"
        await lane.begin(2, request)
        status, text, trailers = await lane.failure(2)
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert text == f"the request has {request.ByteSize()} bytes, more than grpc.maxMessageBytes = {size} allows"
        assert trailers == {"x-error-code": "MESSAGE_TOO_LARGE"}


async def test_a_failed_call_is_logged_once_with_its_own_request_id(
    serve: Serve, identity: ModelSettings, open_lane: OpenLane, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(identity) as serving:
        lane = open_lane(serving)
        with caplog.at_level(logging.WARNING):
            await lane.begin(1, pb.ModelInferRequest(model_name="identity"), request_id="of the caller")
            await lane.failure(1)
    (line,) = [record for record in caplog.records if record.name.startswith("polyglot_inference")]
    assert line.getMessage().startswith("Failed ModelInfer: input 'x' is missing")
    assert (line.__dict__["request_id"], line.__dict__["code"]) == ("of the caller", "INVALID_TENSOR")


async def test_each_sampled_call_is_a_span_of_its_callers_trace_and_others_are_none(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, *, open_lane: OpenLane, receiver: Receiver
) -> None:
    tracing = Tracing(OTLPSpanExporter(receiver.endpoint))
    async with serve(identity, tracing=tracing) as serving:
        lane = open_lane(serving)
        for number, traceparent in enumerate((SAMPLED, NOT_SAMPLED)):
            await lane.begin(number, raw_request("identity", "x", "FP32", X), traceparent=traceparent)
            await lane.read()
    assert tracing.close(20)
    spans = {span.name: span for span in receiver.spans}
    assert len(receiver.spans) == 2
    call, execute = spans["inference.GRPCInferenceService/ModelInfer"], spans["execute"]
    assert (call.trace_id, call.parent_id) == (TRACE_ID, CALLER_SPAN)
    assert (execute.trace_id, execute.parent_id) == (TRACE_ID, call.span_id)
    assert call.attributes["polyglot.model.name"] == "identity"
    assert call.attributes["rpc.grpc.status_code"] == 0


async def test_a_message_without_an_action_or_with_an_unreadable_one_fails_its_call_alone(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, open_lane: OpenLane
) -> None:
    async with serve(identity) as serving:
        lane = open_lane(serving)
        await lane.send(lane_pb2.LaneRequest(call=1).SerializeToString())
        status, text, trailers = await lane.failure(1)
        assert (status, trailers["x-error-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        assert "the message has no action" in text
        unreadable = b"\x12\x01\xff"  # a request of one byte that is none
        await lane.send(lane_pb2.LaneRequest(call=300).SerializeToString() + unreadable)
        status, text, _ = await lane.failure(300)
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert "the request is no valid protobuf message" in text
        await lane.begin(300, raw_request("identity", "x", "FP32", X))
        assert (await lane.read()).infer.model_name == "identity"
        await lane.close()
        assert serving.count("", "INVALID_ARGUMENT") == 2


async def test_a_message_in_which_no_number_can_be_read_ends_the_lane_once_its_calls_are_answered(
    serve: Serve,
    gated: ModelSettings,
    gate: Callable[[], Gate],
    asked: Callable[..., pb.ModelInferRequest],
    open_lane: OpenLane,
) -> None:
    async with serve(gated) as serving:
        lane = open_lane(serving)
        await lane.begin(1, asked(41))
        await gate().started()
        await lane.send(b"\xff")
        gate().release()
        assert lane.values(await lane.read()) == [42]
        end = await lane.ended()
        assert end.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert dict(end.trailing_metadata())["x-error-code"] == "INVALID_REQUEST"


async def test_a_number_that_is_in_use_ends_the_lane_since_its_answers_could_not_be_told_apart(
    serve: Serve,
    gated: ModelSettings,
    gate: Callable[[], Gate],
    asked: Callable[..., pb.ModelInferRequest],
    *,
    open_lane: OpenLane,
    until: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve(gated) as serving:
        lane = open_lane(serving)
        await lane.begin(7, asked(1))
        await gate().started()
        await lane.begin(7, asked(2))
        await until(lambda: "Failed Carry: call 7 begins" in caplog.text, "it is logged")
        gate().release()
        assert lane.values(await lane.read()) == [2]
        end = await lane.ended()
        assert end.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "call 7 begins while another call of its lane has that number" in str(end.details())
        assert gate().executed == [[1]]


async def test_the_key_of_restricted_calls_opens_the_lane(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, open_lane: OpenLane
) -> None:
    restriction = Restriction.model_construct(apis=["inference"], header="x-user", value=SecretStr("letmein"))
    async with serve(identity, administration=AdministrationSettings(restricted=[restriction])) as serving:
        end = await open_lane(serving).ended()
        assert end.code() is grpc.StatusCode.PERMISSION_DENIED
        assert dict(end.trailing_metadata())["x-error-code"] == "PERMISSION_DENIED"
        lane = open_lane(serving, metadata=(("triton-grpc-protocol-x-user", "letmein"),))
        await lane.begin(1, raw_request("identity", "x", "FP32", X))
        assert (await lane.read()).infer.model_name == "identity"
        await lane.close()
