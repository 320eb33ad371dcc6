"""Calls of several callers in one execution, over real channels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from polyglot_inference.errors import ModelLoadError
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.settings import BatchingSettings, ModelSettings, QueueSettings
from polyglot_inference.telemetry.traces import Tracing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Gate, RawRequest, Receiver, Serve, Serving, WritePython

BATCHING = BatchingSettings.model_validate({"maxSize": 8})


def answered(response: pb.ModelInferResponse) -> list[int]:
    return [int(value) for value in np.frombuffer(response.raw_output_contents[0], np.int64)]


def calls_behind_one(
    serving: Serving, raw_request: RawRequest, *calls: list[int], seconds: float = 20, metadata: list[str] | None = None
) -> list[asyncio.Task[pb.ModelInferResponse]]:
    """Call the model with each of these rows, from connections of their own."""
    made = []
    for number, rows in enumerate(calls):
        request = raw_request("gated", "x", "INT64", np.array(rows, np.int64))
        parent = (("traceparent", metadata[number]),) if metadata else ()
        made.append(asyncio.ensure_future(_alone(serving, request, seconds, parent)))
    return made


async def _alone(
    serving: Serving, request: pb.ModelInferRequest, seconds: float, metadata: tuple[tuple[str, str], ...]
) -> pb.ModelInferResponse:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(serving.server.grpc_address, options=options) as channel:
        stub = type(serving)(serving.server, channel).stub
        return await stub.ModelInfer(request, timeout=seconds, metadata=metadata)


def sample(serving: Serving, name: str, **labels: str) -> float:
    return serving.server.metrics.registry.get_sample_value(f"polyglot_inference_{name}", labels) or 0.0


async def in_flight(serving: Serving, calls: int) -> None:
    """Until so many calls are being served."""
    async with asyncio.timeout(20):
        while serving.server.in_flight.count != calls:  # noqa: ASYNC110 - the server has no reason to tell
            await asyncio.sleep(0.01)


async def test_calls_that_come_while_the_model_runs_are_run_together(
    serve: Serve, batched: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(batched) as serving:
        first = calls_behind_one(serving, raw_request, [0])
        await gate().started()
        behind = calls_behind_one(serving, raw_request, [1], [2, 3], [4])
        await in_flight(serving, 4)
        gate().release(2)
        assert [answered(await call) for call in first + behind] == [[1], [2], [3, 4], [5]]
        assert sorted(map(sorted, gate().executed)) == [[0], [1, 2, 3, 4]]
        assert sample(serving, "batch_rows_sum", model="gated") == 5
        assert sample(serving, "batch_calls_sum", model="gated") == 4
        assert sample(serving, "batch_calls_count", model="gated") == 2
        assert sample(serving, "batches_total", model="gated", reason="idle") == 2
        assert sample(serving, "queue_duration_seconds_count", model="gated") == 4


async def test_calls_cancelled_or_expired_in_the_queue_are_not_in_the_batch(
    serve: Serve, batched: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(batched) as serving:
        first = calls_behind_one(serving, raw_request, [0])
        await gate().started()
        (expired,) = calls_behind_one(serving, raw_request, [1], seconds=0.2)
        cancelled, kept = calls_behind_one(serving, raw_request, [2], [3])
        await in_flight(serving, 3)
        cancelled.cancel()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await expired
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await in_flight(serving, 2)
        gate().release(2)
        assert answered(await kept) == [4]
        await first[0]
        assert gate().executed == [[0], [3]]


async def test_a_full_queue_refuses_with_the_setting_and_when_to_try_again(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(gated, queue=QueueSettings.model_validate({"maxSize": 1})) as serving:
        (running,) = calls_behind_one(serving, raw_request, [0])
        await gate().started()
        (queued,) = calls_behind_one(serving, raw_request, [0])
        await in_flight(serving, 2)
        (refused,) = calls_behind_one(serving, raw_request, [1])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await refused
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == (
            "model 'gated' is overloaded: 1 rows wait for it, and this call's 1 would exceed queue.maxSize = 1; try"
            " again later"
        )
        trailers = dict(caught.value.trailing_metadata())
        assert trailers["x-error-code"] == "QUEUE_FULL"
        assert trailers["retry-after"] == "1"
        gate().release(2)
        await asyncio.gather(running, queued)
        assert serving.count("gated", "RESOURCE_EXHAUSTED") == 1


async def test_the_execution_of_a_batch_is_linked_with_all_its_calls(
    serve: Serve, batched: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest, receiver: Receiver
) -> None:
    traces = [f"{number:032x}" for number in (1, 2, 3)]
    sampled = ["01", "01", "00"]
    parents = [f"00-{trace}-b7ad6b7169203331-{flag}" for trace, flag in zip(traces, sampled, strict=True)]
    tracing = Tracing(OTLPSpanExporter(receiver.endpoint))
    async with serve(batched, tracing=tracing) as serving:
        first = calls_behind_one(serving, raw_request, [0])
        await gate().started()
        behind = calls_behind_one(serving, raw_request, [1], [2], [3], metadata=parents)
        await in_flight(serving, 4)
        gate().release(2)
        await asyncio.gather(*first, *behind)
    assert tracing.close(20)
    (execute,) = [span for span in receiver.spans if span.name == "execute" and span.links]
    calls = {span.trace_id: span for span in receiver.spans if span.name != "execute" and span.trace_id in traces}
    assert set(calls) == set(traces[:2])
    assert set(execute.links) == {call.span_id for call in calls.values()}
    assert execute.parent_id == calls[execute.trace_id].span_id
    (other,) = [call for call in calls.values() if call.trace_id != execute.trace_id]
    assert other.links == [execute.span_id]
    assert (execute.attributes["polyglot.batch.rows"], execute.attributes["polyglot.batch.calls"]) == (3, 3)


SHAPES = """
    class Model:
        inputs = [dict(name="x", datatype="FP32", shape={inputs})]
        outputs = [dict(name="y", datatype="FP32", shape={outputs})]
        load = print

        def predict(self, inputs):
            return {{"y": inputs["x"]}}
"""


@pytest.mark.parametrize(
    ("inputs", "outputs", "complaint"),
    [
        ([4], [-1], "input 'x' has shape [4]"),
        ([-1, 4], [2, 4], "output 'y' has shape [2, 4]"),
        ([-1], [], "output 'y' has shape []"),
    ],
)
async def test_a_model_without_a_dimension_for_rows_cannot_be_batched(
    serve: Serve, python_model: WritePython, inputs: list[int], outputs: list[int], complaint: str
) -> None:
    model = python_model("fixed", SHAPES.format(inputs=inputs, outputs=outputs))
    async with serve(model.model_copy(update={"batching": BATCHING}), load=False) as serving:
        with pytest.raises(ModelLoadError) as caught:
            await serving.server.load()
        assert str(caught.value).startswith(f"model 'fixed' cannot be batched: {complaint}, whose first dimension must")


async def test_a_model_whose_predict_takes_the_request_cannot_be_batched(
    serve: Serve, python_model: WritePython
) -> None:
    source = """
        class Model:
            inputs = outputs = [dict(name="x", datatype="FP32", shape=[-1])]
            load = print

            def predict(self, inputs, request):
                return inputs
    """
    async with serve(python_model("asking", source).model_copy(update={"batching": BATCHING}), load=False) as serving:
        with pytest.raises(ModelLoadError, match="model 'asking' cannot be batched: its predict takes the request"):
            await serving.server.load()


async def test_inputs_of_a_batched_model_have_equally_many_rows(serve: Serve, python_model: WritePython) -> None:
    source = """
        class Model:
            inputs = [dict(name=name, datatype="FP32", shape=[-1]) for name in "ab"]
            outputs = [dict(name="a", datatype="FP32", shape=[-1])]
            load = print

            def predict(self, inputs):
                return inputs
    """
    async with serve(python_model("pair", source).model_copy(update={"batching": BATCHING})) as serving:
        request = pb.ModelInferRequest(model_name="pair", raw_input_contents=[b"\0" * 8, b"\0" * 4])
        for name, rows in (("a", 2), ("b", 1)):
            request.inputs.add(name=name, datatype="FP32", shape=[rows])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "input 'b' has 1 rows, the first input 2; the model is batched" in str(caught.value.details())
