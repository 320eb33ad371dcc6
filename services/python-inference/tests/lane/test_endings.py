"""Calls of a lane that are given up, and how a lane ends: nothing runs without an answer, nothing is left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.protocol.pb import lane_pb2

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import Gate, RawRequest, Serve
    from tests.lane.conftest import OpenLane

Asked = Callable[..., pb.ModelInferRequest]
MakeGate = Callable[[], "Gate"]
DRAIN_SECONDS = 20


async def test_a_call_of_a_lane_that_expires_while_it_waits_is_never_executed(
    serve: Serve, gated: ModelSettings, gate: MakeGate, asked: Asked, open_lane: OpenLane
) -> None:
    async with serve(gated) as serving:
        lane = open_lane(serving)
        await lane.begin(1, asked(1), timeout_microseconds=20_000_000)
        await gate().started()
        await lane.begin(2, asked(2), timeout_microseconds=1000)
        await lane.begin(3, asked(3))
        await asyncio.sleep(0.01)
        gate().release(2)
        assert lane.values(await lane.read()) == [2]
        status, text, trailers = await lane.failure(2)
        assert status is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "in the queue of model 'gated'; not executed" in text
        assert trailers == {"x-error-code": "DEADLINE_EXCEEDED"}
        assert lane.values(await lane.read()) == [4]
        assert gate().executed == [[1], [3]]
        assert serving.count("gated", "DEADLINE_EXCEEDED") == 1


async def test_a_cancelled_call_leaves_the_queue_and_is_not_answered(
    serve: Serve, gated: ModelSettings, gate: MakeGate, asked: Asked, *, open_lane: OpenLane, until: Callable[..., Any]
) -> None:
    async with serve(gated) as serving:
        lane = open_lane(serving)
        for number in (1, 2, 3):
            await lane.begin(number, asked(number))
        await gate().started()
        await lane.cancel(2)
        await until(lambda: serving.count("gated", "CANCELLED") == 1, "the cancellation is counted")
        await lane.begin(2, asked(20))  # the number is free
        gate().release(3)
        assert [(answer.call, lane.values(answer)) for answer in [await lane.read() for _ in range(3)]] == [
            (1, [2]),
            (3, [4]),
            (2, [21]),
        ]
        await lane.close()
        assert gate().executed == [[1], [3], [20]]
        assert (serving.count("gated", "OK"), serving.server.in_flight.count) == (3, 0)


async def test_a_call_cancelled_past_its_deadline_is_counted_as_expired(
    serve: Serve, gated: ModelSettings, gate: MakeGate, asked: Asked, *, open_lane: OpenLane, until: Callable[..., Any]
) -> None:
    async with serve(gated) as serving:
        lane = open_lane(serving)
        await lane.begin(1, asked(1), timeout_microseconds=1)
        await lane.failure(1)
        await lane.begin(2, asked(2), timeout_microseconds=100_000)
        await gate().started()
        await asyncio.sleep(0.11)
        await lane.cancel(2)
        await until(lambda: serving.count("gated", "DEADLINE_EXCEEDED") == 2, "it is counted")
        gate().release()
        await lane.close()


async def test_a_cancellation_of_a_call_that_is_answered_or_was_never_begun_changes_nothing(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, open_lane: OpenLane
) -> None:
    async with serve(identity) as serving:
        lane = open_lane(serving)
        for number in (1, 2):
            await lane.begin(number, raw_request("identity", "x", "FP32", np.zeros((1, 4), np.float32)))
            assert (await lane.read()).call == number
            await lane.cancel(number)
            await lane.cancel(99)
        await lane.close()
        assert (serving.count("identity", "OK"), serving.count("identity", "CANCELLED")) == (2, 0)


async def test_a_lane_that_is_open_tells_so_before_anything_is_sent(
    serve: Serve, identity: ModelSettings, open_lane: OpenLane
) -> None:
    async with serve(identity) as serving:
        lane = open_lane(serving)
        await asyncio.wait_for(lane.stream.initial_metadata(), 5)
        await lane.close()


async def test_a_lane_that_its_caller_ends_is_ended_when_its_calls_are_answered(
    serve: Serve, gated: ModelSettings, gate: MakeGate, asked: Asked, open_lane: OpenLane
) -> None:
    async with serve(gated) as serving:
        lane = open_lane(serving)
        for number in (1, 2):
            await lane.begin(number, asked(number))
        await lane.stream.done_writing()
        gate().release(2)
        assert [(await lane.read()).call for _ in range(2)] == [1, 2]
        assert await lane.stream.read() is grpc.aio.EOF


async def test_a_draining_server_answers_what_it_has_read_and_never_runs_what_it_leaves_unanswered(
    serve: Serve, gated: ModelSettings, gate: MakeGate, asked: Asked, until: Callable[..., Any]
) -> None:
    requests = (lane_pb2.LaneRequest(call=number, infer=asked(number)) for number in itertools.count())

    def one_by_one() -> Iterator[bytes]:
        for request in requests:
            yield request.SerializeToString()
            time.sleep(0.0005)

    def answers_and_end(address: str) -> tuple[dict[int, lane_pb2.LaneResponse], Any]:
        """All answers to calls without an end, and what ended the lane."""
        answers: dict[int, lane_pb2.LaneResponse] = {}
        with grpc.insecure_channel(address) as channel:
            carry: Any = channel.stream_stream(
                "/polyglot.v1.Lane/Carry", response_deserializer=lane_pb2.LaneResponse.FromString
            )
            lane = carry(one_by_one(), timeout=DRAIN_SECONDS)
            try:
                for answer in lane:
                    assert answer.call not in answers
                    answers[answer.call] = answer
            except grpc.RpcError:
                return answers, lane
        raise AssertionError("it was not ended")

    async with serve(gated) as serving:
        converse = asyncio.create_task(asyncio.to_thread(answers_and_end, serving.server.grpc_address))
        await until(lambda: serving.server.in_flight.count > 50, "many calls are under way")
        drain = asyncio.create_task(serving.server.drain(DRAIN_SECONDS))
        gate().release(1_000_000)
        answers, end = await converse
        assert end.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(end.trailing_metadata())["x-error-code"] == "SERVER_DRAINING"
        await drain
        ran = sorted(call for call, answer in answers.items() if answer.HasField("infer"))
        refused = {answer.failure.message for answer in answers.values() if answer.HasField("failure")}
        assert len(ran) > 50
        assert all("shutting down" in text for text in refused)
        assert sorted(gate().executed) == [[call] for call in ran]


async def test_an_idle_lane_ends_as_soon_as_the_server_drains(
    serve: Serve, gated: ModelSettings, gate: MakeGate, asked: Asked, open_lane: OpenLane
) -> None:
    async with serve(gated) as serving:
        lane, idle = open_lane(serving), open_lane(serving)
        await idle.begin(1, pb.ModelInferRequest(model_name="absent"))
        await idle.failure(1)
        await lane.begin(1, asked(41))
        await gate().started()
        drain = asyncio.create_task(serving.server.drain(DRAIN_SECONDS))
        end = await idle.ended()
        assert end.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(end.trailing_metadata())["x-error-code"] == "SERVER_DRAINING"
        assert not drain.done()
        gate().release()
        assert lane.values(await lane.read()) == [42]
        assert (await lane.ended()).code() is grpc.StatusCode.UNAVAILABLE
        await drain


async def test_a_draining_server_refuses_a_new_lane(
    serve: Serve, gated: ModelSettings, asked: Asked, open_lane: OpenLane
) -> None:
    async with serve(gated) as serving:
        await serving.server.drain(DRAIN_SECONDS)
        end = await open_lane(serving).ended()
        assert end.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(end.trailing_metadata())["x-error-code"] == "SERVER_DRAINING"


@pytest.mark.parametrize("by", ["cancelling the lane", "breaking the connection"])
async def test_a_caller_that_leaves_takes_its_calls_along(
    serve: Serve,
    gated: ModelSettings,
    gate: MakeGate,
    asked: Asked,
    *,
    open_lane: OpenLane,
    sample: Callable[..., float],
    until: Callable[..., Any],
    by: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve(gated) as serving:
        channel = grpc.aio.insecure_channel(serving.server.grpc_address)
        lane = open_lane(dataclasses.replace(serving, channel=channel))
        for number in range(10):
            await lane.begin(number, asked(number))
        await gate().started()
        await until(lambda: serving.server.in_flight.count == 10, "all are read")
        if by == "cancelling the lane":
            lane.stream.cancel()
        else:
            await channel.close(None)
        await until(lambda: sample(serving, "lanes") == 0, "the lane is closed")
        assert serving.count("gated", "CANCELLED") == 10
        assert serving.server.in_flight.count == 0
        other = serving.stub.ModelInfer(asked(99))
        gate().release(2)
        await other
        assert gate().executed == [[0], [99]]
        await channel.close(None)
        await until(lambda: not _tasks_of_lanes(), "no task is left")
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_caller_that_reads_nothing_is_read_no_further_and_gets_every_answer_later(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest, open_lane: OpenLane
) -> None:
    rows, many = np.zeros((4096, 4), np.float32), 600  # 40 MB, more than grpc-core and sockets hold
    async with serve(identity) as serving:
        lane = open_lane(serving)
        for number in range(many):
            await lane.begin(number, raw_request("identity", "x", "FP32", rows))
        assert {(await lane.read()).call for _ in range(many)} == set(range(many))
        await lane.close()


def _tasks_of_lanes() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if "polyglot_inference/protocol/" in repr(task)]
