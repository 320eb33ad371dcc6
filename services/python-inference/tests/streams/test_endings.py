"""Streams that end before they are done, or whose callers do not read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.settings import AdministrationSettings

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import Gate, RawRequest, Serve, WritePython
    from tests.streams.conftest import Streams

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


async def test_a_caller_that_leaves_stops_the_model_within_a_step(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        call = serving.stub.ModelStreamInfer(timeout=streams.SECONDS)
        await call.write(asked(1000))
        for expected in range(5):
            assert streams.number(await streams.read(call)) == expected
        assert streams.sample(serving, "streams") == 1
        call.cancel()
        await streams.until(lambda: streams.module("count").closed == [1000], "the model's generator is closed")
        steps = len(streams.module("count").steps)
        await streams.until(lambda: streams.sample(serving, "streams") == 0, "the stream is closed")
        assert len(streams.module("count").steps) == steps
        assert serving.count("count", "CANCELLED") == 1
        assert serving.server.in_flight.count == 0


async def test_a_stream_past_its_deadline_stops_the_model(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        call = serving.stub.ModelStreamInfer(timeout=0.5)
        await call.write(asked(1000))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await streams.read_on(call)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await streams.until(lambda: streams.module("count").closed == [1000], "the model's generator is closed")
        await streams.until(lambda: streams.sample(serving, "streams") == 0, "the stream is closed")


async def test_a_caller_that_does_not_read_holds_the_model_back(
    streams: Streams, serve: Serve, python_model: WritePython, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(python_model("endless", ENDLESS_BYTES)) as serving:
        call = serving.stub.ModelStreamInfer(timeout=streams.SECONDS)
        await call.write(asked(1, model="endless"))
        steps = streams.module("endless").steps
        await streams.until(lambda: len(steps) > 0, "it runs")
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
    streams: Streams, serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(gated) as serving:
        call = serving.stub.ModelStreamInfer(timeout=streams.SECONDS)
        idle = serving.stub.ModelStreamInfer(timeout=streams.SECONDS)
        await call.write(raw_request("gated", "x", "INT64", np.array([41]), id="a"))
        await idle.write(pb.ModelInferRequest(model_name="absent"))
        await idle.read()
        await gate().started()
        drain = asyncio.create_task(serving.server.drain(streams.SECONDS))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await idle.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(caught.value.trailing_metadata())["x-error-code"] == "SERVER_DRAINING"
        gate().release()
        assert streams.number(await streams.read(call)) == 42
        await drain
        with pytest.raises(grpc.aio.AioRpcError, match="shutting down"):
            await call.read()


async def test_a_drain_and_an_unload_wait_for_answers_that_are_not_read_yet(
    streams: Streams, serve: Serve, identity: ModelSettings, raw_request: RawRequest
) -> None:
    many, large = 16, np.zeros((200_000, 4), np.float32)  # 50 MB, more than grpc-core and sockets hold
    settings = AdministrationSettings(mode="Full")
    async with serve(identity, max_message_bytes=2**22, administration=settings) as serving:
        call = serving.stub.ModelStreamInfer(timeout=streams.SECONDS)
        for number in range(many):
            await call.write(raw_request("identity", "x", "FP32", large, id=str(number)))
        label = {"model": "identity"}
        await streams.until(lambda: streams.sample(serving, "batch_rows_count", **label) == many, "all have run")
        unload = asyncio.ensure_future(
            serving.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="identity"))
        )
        await streams.until(lambda: streams.sample(serving, "model_ready", **label) == 0, "it is unloaded")
        drain = asyncio.create_task(serving.server.drain(streams.SECONDS))
        _, waiting = await asyncio.wait((unload, drain), timeout=0.2)
        assert waiting == {unload, drain}
        answers = {(await streams.read(call)).infer_response.id for _ in range(many)}
        assert answers == {str(number) for number in range(many)}
        await asyncio.gather(unload, drain)
        assert serving.server.in_flight.count == 0


async def test_a_stream_that_is_broken_off_leaves_nothing_behind(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    async with serve(count) as serving:
        async with grpc.aio.insecure_channel(serving.server.grpc_address) as channel:
            call: Any = channel.stream_stream(
                "/inference.GRPCInferenceService/ModelStreamInfer",
                request_serializer=pb.ModelInferRequest.SerializeToString,
            )(timeout=streams.SECONDS)
            for place in range(5):
                await call.write(asked(1000, id=str(place)))
            await call.read()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await call.read()
        await streams.until(lambda: streams.sample(serving, "streams") == 0, "the stream is closed")
        assert serving.server.in_flight.count == 0
        steps = len(streams.module("count").steps)
        await asyncio.sleep(0.1)
        assert len(streams.module("count").steps) == steps


async def test_requests_behind_a_failure_that_ends_their_stream_leave_nothing_behind(
    streams: Streams, serve: Serve, count: ModelSettings, asked: Callable[..., pb.ModelInferRequest]
) -> None:
    requests = [asked(1000, id="0"), asked(1, model="absent"), *(asked(1000, id=str(place)) for place in range(1, 9))]
    async with serve(count) as serving:
        for _ in range(10):  # read and begun on either side of the end
            with pytest.raises(grpc.aio.AioRpcError):  # of the stream, or of a write that came too late
                await streams.exchange(serving, *requests, metadata=(("triton_grpc_error", "true"),))
        await streams.until(lambda: streams.sample(serving, "streams") == 0, "the streams are closed")
        assert serving.server.in_flight.count == 0
        steps = len(streams.module("count").steps)
        await asyncio.sleep(0.1)
        assert len(streams.module("count").steps) == steps
