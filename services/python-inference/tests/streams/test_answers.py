"""What requests of a stream are answered with, in which order, and how they are traced."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.telemetry.sampling import CallSampler, TraceSettings
from polyglot_inference.telemetry.traces import Tracing

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import Gate, RawRequest, Receiver, Serve
    from tests.streams.conftest import Streams

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_one_request_has_any_number_of_answers_in_order(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        answers = await streams.exchange(serving, asked(4, id="a"))
        assert [streams.number(answer) for answer in answers] == [0, 1, 2, 3]
        assert {answer.infer_response.id for answer in answers} == {"a"}
        assert [streams.is_final(answer) for answer in answers] == [False] * 4
        assert await streams.exchange(serving, asked(0)) == []
        assert streams.module("count").closed == [4, 0]
        assert serving.count("count", "OK") == 2
        assert streams.sample(serving, "stream_answers_total", model="count") == 4
        assert streams.sample(serving, "first_answer_seconds_count", model="count") == 1
        assert streams.sample(serving, "streams") == 0


@pytest.mark.parametrize("end", [0, 3])
async def test_a_caller_that_asks_for_it_is_told_the_end(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest], end: int
) -> None:
    request = asked(end, id="a")
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    async with serve(count) as serving:
        *answers, last = await streams.exchange(serving, request)
    assert [streams.number(answer) for answer in answers] == list(range(end))
    assert not any(streams.is_final(answer) for answer in answers)
    assert streams.is_final(last)
    described = last.infer_response
    assert (described.id, described.model_name, described.model_version) == ("a", "count", "1")
    assert not described.outputs


async def test_a_model_that_answers_once_answers_each_request_of_a_stream(
    streams: Streams, serve: Serve, identity: ModelSettings, raw_request: RawRequest
) -> None:
    tensors = [np.full((1, 4), value, np.float32) for value in range(50)]
    async with serve(identity) as serving:
        answers = await streams.exchange(
            serving, *(raw_request("identity", "x", "FP32", x, id=str(x[0, 0])) for x in tensors)
        )
        assert all(streams.is_final(answer) for answer in answers)
        by_id = {answer.infer_response.id: answer.infer_response.raw_output_contents[0] for answer in answers}
        assert by_id == {str(x[0, 0]): x.tobytes() for x in tensors}
        assert serving.count("identity", "OK") == 50
        assert streams.sample(serving, "queue_duration_seconds_count", model="identity") == 50


async def test_a_slow_request_does_not_hold_up_others_of_its_stream(
    streams: Streams,
    serve: Serve,
    *,
    gated: ModelSettings,
    gate: Callable[[], Gate],
    identity: ModelSettings,
    raw_request: RawRequest,
) -> None:
    async with serve(gated, identity) as serving:
        call = serving.stub.ModelStreamInfer(timeout=streams.SECONDS)
        await call.write(raw_request("gated", "x", "INT64", np.array([1]), id="slow"))
        await gate().started()
        await call.write(raw_request("identity", "x", "FP32", np.zeros((1, 4), np.float32), id="fast"))
        assert (await streams.read(call)).infer_response.id == "fast"
        gate().release()
        assert (await streams.read(call)).infer_response.id == "slow"


async def test_requests_without_an_id_that_have_one_answer_are_answered_in_their_order(
    streams: Streams,
    serve: Serve,
    *,
    gated: ModelSettings,
    gate: Callable[[], Gate],
    identity: ModelSettings,
    raw_request: RawRequest,
) -> None:
    async with serve(gated, identity) as serving:
        call = serving.stub.ModelStreamInfer(timeout=streams.SECONDS)
        await call.write(raw_request("gated", "x", "INT64", np.array([1])))
        await gate().started()
        await call.write(raw_request("identity", "x", "FP32", np.zeros((1, 4), np.float32)))
        await call.write(pb.ModelInferRequest(model_name="absent"))
        await streams.until(
            lambda: streams.sample(serving, "execute_duration_seconds_count", model="identity") == 1, "it ran"
        )
        gate().release()
        answers = [await streams.read(call) for _ in range(3)]
        assert [answer.infer_response.model_name for answer in answers] == ["gated", "identity", "absent"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.tuples(st.sampled_from(["async", "thread", "once"]), st.integers(0, 6)), max_size=12))
def test_any_interleaving_of_requests_gives_each_its_own_answers_in_order(
    streams: Streams,
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
            for answer in await streams.exchange(serving, *requests):
                found[answer.infer_response.id].append(streams.number(answer))
            expected = {
                str(place): [end] if model == "once" else list(range(end)) for place, (model, end) in enumerate(plan)
            }
            assert found == {name: numbers for name, numbers in expected.items() if numbers}

    asyncio.run(run())


async def test_more_requests_than_are_served_at_a_time_are_all_answered(
    streams: Streams,
    serve: Serve,
    count: ModelSettings,
    asked: Callable[..., pb.ModelInferRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("polyglot_inference.protocol.streams.MOST_IN_FLIGHT", 2)
    async with serve(count) as serving:
        assert len(await streams.exchange(serving, *(asked(3, id=str(place)) for place in range(20)))) == 60


async def test_each_request_of_a_stream_is_a_span_of_its_callers_trace(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest], receiver: Receiver
) -> None:
    tracing = Tracing(OTLPSpanExporter(receiver.endpoint))
    async with serve(count, tracing=tracing) as serving:
        answers = await streams.exchange(
            serving, asked(2), asked(3), asked(1, model="absent"), metadata=(("traceparent", CALLER),)
        )
    trace_id, caller = CALLER.split("-")[1:3]
    (failed,) = (answer for answer in answers if answer.error_message)
    assert failed.infer_response.parameters["x-trace-id"].string_param == trace_id
    assert tracing.close(streams.SECONDS)
    requests = [span for span in receiver.spans if span.name == "inference.GRPCInferenceService/ModelStreamInfer"]
    assert [(span.trace_id, span.parent_id) for span in requests] == [(trace_id, caller)] * 3
    assert sorted(span.attributes["rpc.grpc.status_code"] for span in requests) == [0, 0, 5]
    executions = [span.parent_id for span in receiver.spans if span.name == "execute"]
    assert sorted(executions) == sorted(
        span.span_id for span in requests if span.attributes["rpc.grpc.status_code"] == 0
    )


async def test_requests_of_a_stream_that_are_not_sampled_share_a_trace_id_and_sampled_ones_have_their_own(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter, CallSampler(TraceSettings(on=True, share=0.5)))
    many = 64
    async with serve(count, tracing=tracing) as serving:
        answers = await streams.exchange(serving, *(asked(1, model="absent") for _ in range(many)))
    assert tracing.close(streams.SECONDS)
    sampled = {span.context.trace_id for span in exporter.get_finished_spans()}
    told = [int(answer.infer_response.parameters["x-trace-id"].string_param, 16) for answer in answers]
    assert len(told) == many
    assert 0 < len(sampled) < many
    assert sampled < set(told)
    assert len(set(told)) == len(sampled) + 1


async def test_model_infer_of_a_model_that_streams_says_where_to_go(
    serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(asked(1))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "call ModelStreamInfer (REST: generate_stream)" in str(caught.value.details())
