"""Starting → Ready → Draining as callers and probes see it, and calls that are given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from polyglot_inference.lifecycle import Lifecycle, State
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import Gate, RawRequest, Serve

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WITHIN = 20.0


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what the server does after its answer is out."""
    async with asyncio.timeout(WITHIN):
        while not condition():  # noqa: ASYNC110 - metrics are read, they notify no one
            await asyncio.sleep(0.01)


async def test_states_are_entered_once_and_never_left_backwards() -> None:
    lifecycle = Lifecycle()
    seen: list[State] = []

    async def observer(state: State) -> None:
        seen.append(state)

    await lifecycle.observe(observer)
    await lifecycle.ready()
    await lifecycle.ready()
    await lifecycle.drain()
    await lifecycle.drain()
    await lifecycle.ready()
    assert seen == [State.STARTING, State.READY, State.DRAINING]


async def test_a_starting_server_is_live_and_not_ready(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest
) -> None:
    request = raw_request("identity", "x", "FP32", np.zeros((1, 4), np.float32))
    async with serve(identity, load=False) as serving:
        assert (await serving.health(""), await serving.health("liveness")) == (NOT_SERVING, SERVING)
        assert (await serving.stub.ServerLive(pb.ServerLiveRequest())).live
        assert not (await serving.stub.ServerReady(pb.ServerReadyRequest())).ready
        assert not (await serving.stub.ModelReady(pb.ModelReadyRequest(name="identity"))).ready
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(request)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(caught.value.trailing_metadata())["x-error-code"] == "MODEL_NOT_READY"
        await serving.server.load()
        assert (await serving.health(""), await serving.health("liveness")) == (SERVING, SERVING)
        assert (await serving.stub.ServerReady(pb.ServerReadyRequest())).ready
        assert (await serving.stub.ModelInfer(request)).outputs[0].name == "y"


async def test_health_of_an_unknown_service_is_not_found(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.health("identity")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_draining_server_finishes_calls_in_flight_and_refuses_new_ones(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    request = raw_request("gated", "x", "INT64", np.array([1]))
    async with serve(gated) as serving:
        watch = serving.health_stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        in_flight = serving.stub.ModelInfer(request)
        await gate().started()

        drain = asyncio.ensure_future(serving.server.drain(WITHIN))
        assert (await watch.read()).status == NOT_SERVING
        assert (await serving.health(""), await serving.health("liveness")) == (NOT_SERVING, SERVING)
        assert not (await serving.stub.ServerReady(pb.ServerReadyRequest())).ready
        assert not (await serving.stub.ModelReady(pb.ModelReadyRequest(name="gated"))).ready
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(request)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(caught.value.trailing_metadata())["x-error-code"] == "SERVER_DRAINING"
        assert not drain.done()

        gate().release()
        await drain
        assert np.frombuffer((await in_flight).raw_output_contents[0], np.int64).tolist() == [2]
        assert gate().executed == [[1]]


async def test_a_drain_ends_at_its_timeout_with_a_call_still_running(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(gated) as serving:
        stuck = serving.stub.ModelInfer(raw_request("gated", "x", "INT64", np.array([1])))
        await gate().started()
        await serving.server.drain(0.1)
        assert serving.server.in_flight.count == 1
        await serving.server.stop(None)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stuck
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        gate().release()


async def test_a_call_cancelled_while_it_waits_is_never_executed(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(gated) as serving:
        first = serving.stub.ModelInfer(raw_request("gated", "x", "INT64", np.array([1])))
        await gate().started()
        given_up = serving.stub.ModelInfer(raw_request("gated", "x", "INT64", np.array([2])))
        await eventually(lambda: serving.server.in_flight.count == 2)
        given_up.cancel()
        await eventually(lambda: serving.count("gated", "CANCELLED") == 1)
        last = serving.stub.ModelInfer(raw_request("gated", "x", "INT64", np.array([3])))
        gate().release(2)
        await asyncio.gather(first, last)
        assert gate().executed == [[1], [3]]
        assert serving.count("gated", "OK") == 2


async def test_a_call_that_expires_while_it_waits_is_never_executed(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(gated) as serving:
        first = serving.stub.ModelInfer(raw_request("gated", "x", "INT64", np.array([1])))
        await gate().started()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(raw_request("gated", "x", "INT64", np.array([2])), timeout=0.1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: serving.count("gated", "DEADLINE_EXCEEDED") == 1)
        last = serving.stub.ModelInfer(raw_request("gated", "x", "INT64", np.array([3])))
        gate().release(2)
        await asyncio.gather(first, last)
        assert gate().executed == [[1], [3]]


async def test_a_call_that_waits_longer_than_its_timeout_parameter_is_never_executed(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    impatient = raw_request("gated", "x", "INT64", np.array([2]))
    impatient.parameters["timeout"].int64_param = 1
    async with serve(gated) as serving:
        first = serving.stub.ModelInfer(raw_request("gated", "x", "INT64", np.array([1])))
        await gate().started()
        late = serving.stub.ModelInfer(impatient)
        await eventually(lambda: serving.server.in_flight.count == 2)
        gate().release()
        await first
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await late
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "in the queue of model 'gated'; not executed" in str(caught.value.details())
        assert gate().executed == [[1]]


async def test_the_loop_answers_probes_while_a_model_runs(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(gated) as serving:
        running = serving.stub.ModelInfer(raw_request("gated", "x", "INT64", np.array([1])))
        await gate().started()
        assert await serving.health("") == SERVING
        gate().release()
        await running
