"""ModelStreamInfer over a real channel: many requests, any number of answers, failures, flow, endings."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.telemetry.traces import Tracing

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import Gate, RawRequest, Receiver, Serve, Serving, WritePython

# `count` gives 0, 1, 2, … as often as x says; 13 fails and 1000 never ends. The module's globals are the test's view.
COUNT = """
    import asyncio
    import numpy as np
    from polyglot_inference import TensorSpec

    steps = []
    closed = []

    class Model:
        inputs = [TensorSpec("x", "INT64", [1])]
        outputs = [TensorSpec("y", "INT64", [1])]

        {async_}def stream(self, inputs):
            (end,) = inputs["x"].tolist()
            number = 0
            try:
                while number < end or end == 1000:
                    {pause}
                    steps.append((end, number))
                    yield {{"y": np.array([number])}}
                    number += 1
                    if end == 13:
                        raise ValueError("unlucky")
            finally:
                closed.append(end)
"""
ASYNC = COUNT.format(async_="async ", pause="await asyncio.sleep(0)")
SYNC = COUNT.format(async_="", pause="")
# Grants itself no rest: without flow control it would run ahead of any reader.
ENDLESS_BYTES = """
    import numpy as np
    from polyglot_inference import TensorSpec

    steps = []

    class Model:
        inputs = [TensorSpec("x", "INT64", [1])]
        outputs = [TensorSpec("y", "UINT8", [-1])]

        async def stream(self, inputs):
            while True:
                steps.append(1)
                yield {"y": np.zeros(100_000, np.uint8)}
"""
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECONDS = 20


@pytest.fixture(params=["async", "thread"])
def count(request: pytest.FixtureRequest, python_model: WritePython) -> ModelSettings:
    """A model `count`, as an async generator and as a plain one."""
    return python_model("count", ASYNC if request.param == "async" else SYNC)


def module(name: str) -> Any:
    return sys.modules[f"polyglot_models_{name}.model"]


@pytest.fixture
def asked(raw_request: RawRequest) -> Callable[..., pb.ModelInferRequest]:
    """Makes a request to count."""

    def make(end: int, model: str = "count", **fields: Any) -> pb.ModelInferRequest:
        return raw_request(model, "x", "INT64", np.array([end]), **fields)

    return make


def number(answer: pb.ModelStreamInferResponse) -> int:
    assert not answer.error_message, answer.error_message
    (value,) = np.frombuffer(answer.infer_response.raw_output_contents[0], np.int64).tolist()
    return int(value)


def is_final(answer: pb.ModelStreamInferResponse) -> bool:
    return answer.infer_response.parameters["triton_final_response"].bool_param


def code(answer: pb.ModelStreamInferResponse) -> str:
    return answer.infer_response.parameters["x-error-code"].string_param


async def exchange(
    serving: Serving, *requests: pb.ModelInferRequest, **keywords: Any
) -> list[pb.ModelStreamInferResponse]:
    """Send requests on a stream, end it, and return every answer."""
    call = serving.stub.ModelStreamInfer(iter(requests), timeout=SECONDS, **keywords)
    return [answer async for answer in call]


async def read(call: Any) -> pb.ModelStreamInferResponse:
    """The next answer of a stream that goes on."""
    answer = await call.read()
    assert isinstance(answer, pb.ModelStreamInferResponse)
    return answer


async def read_on(call: Any) -> None:
    """Read until the stream ends, and raise what it ends with."""
    while await call.read() is not grpc.aio.EOF:
        pass


def sample(serving: Serving, name: str, **labels: str) -> float:
    return serving.server.metrics.registry.get_sample_value(f"polyglot_inference_{name}", labels) or 0.0


async def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(100 * SECONDS):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {SECONDS} s: {what}")


async def test_one_request_has_any_number_of_answers_in_order(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        answers = await exchange(serving, asked(4, id="a"))
        assert [number(answer) for answer in answers] == [0, 1, 2, 3]
        assert {answer.infer_response.id for answer in answers} == {"a"}
        assert [is_final(answer) for answer in answers] == [False] * 4
        assert await exchange(serving, asked(0)) == []
        assert module("count").closed == [4, 0]
        assert serving.count("count", "OK") == 2
        assert sample(serving, "stream_answers_total", model="count") == 4
        assert sample(serving, "first_answer_seconds_count", model="count") == 1
        assert sample(serving, "streams") == 0


@pytest.mark.parametrize("end", [0, 3])
async def test_a_caller_that_asks_for_it_is_told_the_end(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest], end: int
) -> None:
    request = asked(end, id="a")
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    async with serve(count) as serving:
        *answers, last = await exchange(serving, request)
    assert [number(answer) for answer in answers] == list(range(end))
    assert not any(is_final(answer) for answer in answers)
    assert is_final(last)
    described = last.infer_response
    assert (described.id, described.model_name, described.model_version) == ("a", "count", "1")
    assert not described.outputs


async def test_a_model_that_answers_once_answers_each_request_of_a_stream(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest
) -> None:
    tensors = [np.full((1, 4), value, np.float32) for value in range(50)]
    async with serve(identity) as serving:
        answers = await exchange(serving, *(raw_request("identity", "x", "FP32", x, id=str(x[0, 0])) for x in tensors))
        assert all(is_final(answer) for answer in answers)
        by_id = {answer.infer_response.id: answer.infer_response.raw_output_contents[0] for answer in answers}
        assert by_id == {str(x[0, 0]): x.tobytes() for x in tensors}
        assert serving.count("identity", "OK") == 50
        assert sample(serving, "queue_duration_seconds_count", model="identity") == 50


async def test_the_failure_of_a_request_is_an_answer_and_the_stream_stays_open(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        call = serving.stub.ModelStreamInfer(timeout=SECONDS)
        expected = {
            "unlucky": (asked(13), "MODEL_FAILED", "model 'count' raised ValueError: unlucky"),
            "absent": (asked(1, model="absent"), "MODEL_NOT_FOUND", "model 'absent' is not served here"),
            "empty": (pb.ModelInferRequest(model_name="count"), "INVALID_TENSOR", "input 'x' is missing"),
        }
        for name, (request, error_code, text) in expected.items():
            request.id = name
            await call.write(request)
            answer = await read(call)
            if name == "unlucky":
                assert number(answer) == 0
                answer = await read(call)
            assert answer.error_message.startswith(text)
            assert (answer.infer_response.id, code(answer), is_final(answer)) == (name, error_code, True)
        await call.write(asked(1))
        assert number(await read(call)) == 0
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert serving.count("count", "INTERNAL") == 1
        assert serving.count("", "NOT_FOUND") == 1
        assert module("count").closed == [13, 1]


async def test_a_caller_may_ask_for_the_first_failure_as_the_status_of_the_stream(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        call = serving.stub.ModelStreamInfer(timeout=SECONDS, metadata=(("triton_grpc_error", "true"),))
        await call.write(asked(1000, id="endless"))
        await call.read()
        await call.write(asked(1, model="absent"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_on(call)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert dict(caught.value.trailing_metadata())["x-error-code"] == "MODEL_NOT_FOUND"
        await until(lambda: module("count").closed == [1000], "the other request of the stream ends")


async def test_a_failure_that_comes_while_an_answer_is_written_is_the_status_of_the_stream(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        for _ in range(50):
            call = serving.stub.ModelStreamInfer(timeout=SECONDS, metadata=(("triton_grpc_error", "true"),))
            for number in range(4):
                await call.write(asked(2, id=str(number)))
            await call.write(asked(1, model="absent"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read_on(call)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_failure_is_told_even_where_the_names_it_repeats_exceed_the_limit(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count, max_message_bytes=2048) as serving:
        long = asked(1, model="absent", id="i" * 2000)
        answers = await exchange(serving, long, asked(1, id="next"))
        assert {answer.infer_response.id: code(answer) for answer in answers} == {
            long.id: "MODEL_NOT_FOUND",
            "next": "",
        }


async def test_bytes_that_are_no_request_are_an_answer_and_the_stream_stays_open(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        call: Any = serving.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(timeout=SECONDS)
        await call.write(b"\xff")
        answer = pb.ModelStreamInferResponse.FromString(await call.read())
        assert "the request is no valid protobuf message" in answer.error_message
        assert (answer.infer_response.id, code(answer)) == ("", "INVALID_REQUEST")
        await call.write(asked(1).SerializeToString())
        assert number(pb.ModelStreamInferResponse.FromString(await call.read())) == 0


async def test_a_message_over_the_limit_is_an_answer_that_names_the_request(
    serve: Serve, python_model: WritePython, identity: ModelSettings, raw_request: RawRequest
) -> None:
    grow = python_model(
        "grow",
        """
        import numpy as np
        from polyglot_inference import TensorSpec

        class Model:
            inputs = [TensorSpec("x", "INT64", [1])]
            outputs = [TensorSpec("y", "UINT8", [-1])]

            def stream(self, inputs):
                for factor in (1, 2, 3):
                    yield {"y": np.zeros(factor * int(inputs["x"][0]), np.uint8)}
        """,
    )
    async with serve(grow, identity, max_message_bytes=2048) as serving:
        large = raw_request("identity", "x", "FP32", np.zeros((200, 4), np.float32), id="large")
        (answer,) = await exchange(serving, large)
        assert (answer.infer_response.id, code(answer)) == ("large", "MESSAGE_TOO_LARGE")
        assert "the request has 3" in answer.error_message
        first, second = await exchange(serving, raw_request("grow", "x", "INT64", np.array([1500]), id="grown"))
        assert len(first.infer_response.raw_output_contents[0]) == 1500
        assert (second.infer_response.id, code(second)) == ("grown", "MESSAGE_TOO_LARGE")
        assert "the response has 30" in second.error_message


async def test_a_slow_request_does_not_hold_up_others_of_its_stream(
    serve: Serve,
    gated: ModelSettings,
    gate: Callable[[], Gate],
    identity: ModelSettings,
    raw_request: RawRequest,
) -> None:
    async with serve(gated, identity) as serving:
        call = serving.stub.ModelStreamInfer(timeout=SECONDS)
        await call.write(raw_request("gated", "x", "INT64", np.array([1]), id="slow"))
        await gate().started()
        await call.write(raw_request("identity", "x", "FP32", np.zeros((1, 4), np.float32), id="fast"))
        assert (await read(call)).infer_response.id == "fast"
        gate().release()
        assert (await read(call)).infer_response.id == "slow"


async def test_requests_without_an_id_that_have_one_answer_are_answered_in_their_order(
    serve: Serve,
    gated: ModelSettings,
    gate: Callable[[], Gate],
    identity: ModelSettings,
    raw_request: RawRequest,
) -> None:
    async with serve(gated, identity) as serving:
        call = serving.stub.ModelStreamInfer(timeout=SECONDS)
        await call.write(raw_request("gated", "x", "INT64", np.array([1])))
        await gate().started()
        await call.write(raw_request("identity", "x", "FP32", np.zeros((1, 4), np.float32)))
        await call.write(pb.ModelInferRequest(model_name="absent"))
        await until(lambda: sample(serving, "execute_duration_seconds_count", model="identity") == 1, "it ran")
        gate().release()
        answers = [await read(call) for _ in range(3)]
        assert [answer.infer_response.model_name for answer in answers] == ["gated", "identity", "absent"]


async def test_a_caller_that_leaves_stops_the_model_within_a_step(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        call = serving.stub.ModelStreamInfer(timeout=SECONDS)
        await call.write(asked(1000))
        for expected in range(5):
            assert number(await read(call)) == expected
        assert sample(serving, "streams") == 1
        call.cancel()
        await until(lambda: module("count").closed == [1000], "the model's generator is closed")
        steps = len(module("count").steps)
        await until(lambda: sample(serving, "streams") == 0, "the stream is closed")
        assert len(module("count").steps) == steps
        assert serving.count("count", "CANCELLED") == 1
        assert serving.server.in_flight.count == 0


async def test_a_stream_past_its_deadline_stops_the_model(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        call = serving.stub.ModelStreamInfer(timeout=0.5)
        await call.write(asked(1000))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read_on(call)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: module("count").closed == [1000], "the model's generator is closed")
        await until(lambda: sample(serving, "streams") == 0, "the stream is closed")


async def test_a_caller_that_does_not_read_holds_the_model_back(
    serve: Serve, python_model: WritePython, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(python_model("endless", ENDLESS_BYTES)) as serving:
        call = serving.stub.ModelStreamInfer(timeout=SECONDS)
        await call.write(asked(1, model="endless"))
        steps = module("endless").steps
        await until(lambda: len(steps) > 0, "it runs")
        before = -1
        while before < len(steps):  # until it stands still
            before = len(steps)
            await asyncio.sleep(0.2)
        assert len(steps) < 200  # 20 MB: windows of grpc-core and sockets
        for _ in range(before + 5):
            await call.read()
        assert len(steps) >= before + 5
        call.cancel()


async def test_a_draining_server_finishes_the_requests_of_a_stream_and_ends_it(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(gated) as serving:
        call = serving.stub.ModelStreamInfer(timeout=SECONDS)
        idle = serving.stub.ModelStreamInfer(timeout=SECONDS)
        await call.write(raw_request("gated", "x", "INT64", np.array([41]), id="a"))
        await idle.write(pb.ModelInferRequest(model_name="absent"))
        await idle.read()
        await gate().started()
        drain = asyncio.create_task(serving.server.drain(SECONDS))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await idle.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(caught.value.trailing_metadata())["x-error-code"] == "SERVER_DRAINING"
        gate().release()
        assert number(await read(call)) == 42
        await drain
        with pytest.raises(grpc.aio.AioRpcError, match="shutting down"):
            await call.read()


async def test_each_request_of_a_stream_is_a_span_of_its_callers_trace(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest], receiver: Receiver
) -> None:
    tracing = Tracing(OTLPSpanExporter(receiver.endpoint))
    async with serve(count, tracing=tracing) as serving:
        answers = await exchange(
            serving, asked(2), asked(3), asked(1, model="absent"), metadata=(("traceparent", CALLER),)
        )
    trace_id, caller = CALLER.split("-")[1:3]
    (failed,) = (answer for answer in answers if answer.error_message)
    assert failed.infer_response.parameters["x-trace-id"].string_param == trace_id
    assert tracing.close(SECONDS)
    requests = [span for span in receiver.spans if span.name == "inference.GRPCInferenceService/ModelStreamInfer"]
    assert [(span.trace_id, span.parent_id) for span in requests] == [(trace_id, caller)] * 3
    assert sorted(span.attributes["rpc.grpc.status_code"] for span in requests) == [0, 0, 5]
    executions = [span.parent_id for span in receiver.spans if span.name == "execute"]
    assert sorted(executions) == sorted(
        span.span_id for span in requests if span.attributes["rpc.grpc.status_code"] == 0
    )


async def test_model_infer_of_a_model_that_streams_says_where_to_go(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(asked(1))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "call ModelStreamInfer (REST: generate_stream)" in str(caught.value.details())


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.tuples(st.sampled_from(["async", "thread", "once"]), st.integers(0, 6)), max_size=12))
def test_any_interleaving_of_requests_gives_each_its_own_answers_in_order(
    streaming_models: list[ModelSettings],
    serve: Serve,
    raw_request: RawRequest,
    plan: list[tuple[str, int]],
) -> None:
    async def run() -> None:
        async with serve(*streaming_models) as serving:
            requests = [
                raw_request(model, "x", "INT64", np.array([end]), id=str(place))
                for place, (model, end) in enumerate(plan)
            ]
            found = defaultdict(list)
            for answer in await exchange(serving, *requests):
                found[answer.infer_response.id].append(number(answer))
            expected = {
                str(place): [end] if model == "once" else list(range(end)) for place, (model, end) in enumerate(plan)
            }
            assert found == {name: numbers for name, numbers in expected.items() if numbers}

    asyncio.run(run())


@pytest.fixture
def streaming_models(python_model: WritePython) -> list[ModelSettings]:
    once = """
        from polyglot_inference import TensorSpec

        class Model:
            inputs = [TensorSpec("x", "INT64", [1])]
            outputs = [TensorSpec("y", "INT64", [1])]

            def predict(self, inputs):
                return {"y": inputs["x"]}
    """
    return [python_model("async", ASYNC), python_model("thread", SYNC), python_model("once", once)]


async def test_more_requests_than_are_served_at_a_time_are_all_answered(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyglot_inference.protocol.streams.MOST_IN_FLIGHT", 2)
    async with serve(count) as serving:
        assert len(await exchange(serving, *(asked(3, id=str(place)) for place in range(20)))) == 60


async def test_a_stream_that_is_broken_off_leaves_nothing_behind(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        async with grpc.aio.insecure_channel(serving.server.grpc_address) as channel:
            call: Any = channel.stream_stream(
                "/inference.GRPCInferenceService/ModelStreamInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
            )(timeout=SECONDS)
            for place in range(5):
                await call.write(asked(1000, id=str(place)))
            await call.read()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await call.read()
        await until(lambda: sample(serving, "streams") == 0, "the stream is closed")
        assert serving.server.in_flight.count == 0
        steps = len(module("count").steps)
        await asyncio.sleep(0.1)
        assert len(module("count").steps) == steps
