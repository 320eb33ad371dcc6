"""What is written to a stream: one message at a time, in turn where messages have turns, else as they come."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NoReturn

import grpc

Write = Callable[[bytes], Awaitable[None]]
Written = Callable[[], None]


class Turn:
    """The place of a message among those written in their order: all behind it wait until it is used or given up."""

    __slots__ = ("message", "over")

    def __init__(self) -> None:
        self.message: tuple[bytes | Exception, Written] | None = None
        self.over = False


class Outbox:
    """The messages of one stream on their way out.

    Parameters
    ----------
    write
        Writes one message; grpc-core takes one at a time.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._ready: deque[tuple[bytes | Exception, Written]] = deque()
        self._turns: deque[Turn] = deque()
        self._filled = asyncio.Event()

    def turn(self) -> Turn:
        """A place behind all turns that were given before."""
        turn = Turn()
        self._turns.append(turn)
        return turn

    def leave(self, turn: Turn) -> None:
        """Give up a turn, for messages that need not wait for one; without effect once it was used."""
        if not turn.over:
            turn.over = True
            self._release()

    def put(self, message: bytes | Exception, written: Written, turn: Turn | None = None) -> None:
        """Write a message, and call `written` then. An exception in its place ends the writing: `run` raises it."""
        if turn is None or turn.over:
            self._ready.append((message, written))
            self._filled.set()
        else:
            turn.message, turn.over = (message, written), True
            self._release()

    async def run(self) -> NoReturn:
        """Write what is put in, until this is cancelled.

        Raises
        ------
        Exception
            It was put in. No message is half written then: grpc-core takes no status beside one.
        asyncio.CancelledError
            The caller is gone; a write can learn it before grpc.aio cancels the stream.
        """
        while True:
            while self._ready:
                message, written = self._ready.popleft()
                if isinstance(message, Exception):
                    raise message
                try:
                    await self._write(message)
                except grpc.aio.InternalError as error:
                    raise asyncio.CancelledError from error
                written()
            self._filled.clear()
            await self._filled.wait()

    def _release(self) -> None:
        while self._turns and self._turns[0].over:
            turn = self._turns.popleft()
            if turn.message:
                self._ready.append(turn.message)
                self._filled.set()
