"""The order in which messages of a stream are written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from polyglot_inference.protocol.outbox import Outbox


class Wire:
    """Takes messages while it is open."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.broken = False

    async def write(self, message: bytes) -> None:
        await self.open.wait()
        if self.broken:
            raise grpc.aio.InternalError("the caller is gone")
        self.messages.append(message)


def nothing() -> None:
    """What is done once a message is written, where the test does not care."""


@contextmanager
def running(outbox: Outbox) -> Iterator[asyncio.Task[None]]:
    task = asyncio.create_task(outbox.run())
    yield task
    task.cancel()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_messages_without_a_turn_are_written_as_they_come_and_told_when_they_are_out() -> None:
    wire, told = Wire(), []
    outbox = Outbox(wire.write)
    with running(outbox):
        wire.open.clear()
        outbox.put(b"1", lambda: told.append(1))
        outbox.put(b"2", lambda: told.append(2))
        await settled()
        assert not told
        wire.open.set()
        await settled()
    assert wire.messages == [b"1", b"2"]
    assert told == [1, 2]


async def test_messages_with_a_turn_wait_for_those_before_them_and_others_do_not() -> None:
    wire = Wire()
    outbox = Outbox(wire.write)
    first, second, third = outbox.turn(), outbox.turn(), outbox.turn()
    with running(outbox):
        outbox.put(b"third", nothing, third)
        outbox.put(b"free", nothing)
        await settled()
        assert wire.messages == [b"free"]
        outbox.put(b"first", nothing, first)
        await settled()
        assert wire.messages == [b"free", b"first"]
        outbox.put(b"second", nothing, second)
        await settled()
    assert wire.messages == [b"free", b"first", b"second", b"third"]


async def test_a_turn_that_is_given_up_holds_nobody_back() -> None:
    wire = Wire()
    outbox = Outbox(wire.write)
    slow, streams, last = outbox.turn(), outbox.turn(), outbox.turn()
    with running(outbox):
        outbox.leave(streams)
        outbox.put(b"streamed", nothing, streams)
        outbox.put(b"last", nothing, last)
        await settled()
        assert wire.messages == [b"streamed"]
        outbox.put(b"slow", nothing, slow)
        await settled()
    assert wire.messages == [b"streamed", b"slow", b"last"]


async def test_an_exception_ends_the_writing_once_what_is_before_it_is_out() -> None:
    wire = Wire()
    outbox = Outbox(wire.write)
    first, second = outbox.turn(), outbox.turn()
    outbox.put(ValueError("the end"), nothing, second)
    outbox.put(b"first", nothing, first)
    outbox.put(b"after the end", nothing)
    with pytest.raises(ValueError, match="the end"):
        await outbox.run()
    assert wire.messages == [b"first"]


async def test_a_write_that_fails_is_the_callers_leaving() -> None:
    wire = Wire()
    wire.broken = True
    outbox = Outbox(wire.write)
    outbox.put(b"1", nothing)
    with pytest.raises(asyncio.CancelledError):
        await outbox.run()
