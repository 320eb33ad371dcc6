"""The event loop of a model whose `stream` is `async def`: an author who blocks it holds up nobody but that model."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

Step = TypeVar("Step")

_END: Final = object()


class AuthorLoop:
    """An event loop on a thread of its own, from the first stream until nobody holds this any more.

    Parameters
    ----------
    name
        The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None

    async def pull(self, steps: AsyncGenerator[Step, None]) -> AsyncGenerator[Step, None]:
        """The steps of a generator, each run over there when it is asked for here, within the caller's context.

        When this is closed or cancelled, the step that runs is cancelled, and the generator closed before this ends.
        """
        followed = _Followed(self, self._running(), steps)
        try:
            while (step := await followed.next()) is not _END:
                yield step
        finally:
            await followed.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_run, args=(self._loop,), name=self._name, daemon=True).start()
            weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)
        return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    with contextlib.closing(loop):
        loop.run_forever()


class _Followed(Generic[Step]):
    """One generator. A task runs all its steps, because an `async with` around a `yield` may not change tasks."""

    def __init__(self, owner: AuthorLoop, loop: asyncio.AbstractEventLoop, steps: AsyncGenerator[Step, None]) -> None:
        self._loop = loop
        self._steps = steps
        self._demands: asyncio.Queue[Future[Step]] = asyncio.Queue()
        self._ended: Future[None] = Future()
        loop.call_soon_threadsafe(self._start, owner)

    async def next(self) -> Step:
        """The next step, `_END` after the last one. Called by the follower's loop, as `close` is."""
        demand: Future[Step] = Future()
        self._loop.call_soon_threadsafe(self._demands.put_nowait, demand)
        return await asyncio.wrap_future(demand)

    async def close(self) -> None:
        """End the generator and wait for that. Raises what it raises on its way out."""
        self._loop.call_soon_threadsafe(self._stop)
        # Shielded: whoever is cancelled a second time leaves, and the generator is closed all the same.
        await asyncio.shield(asyncio.wrap_future(self._ended))

    def _start(self, owner: AuthorLoop) -> None:
        self._task = self._loop.create_task(self._serve(owner))
        self._task.add_done_callback(self._end)

    def _stop(self) -> None:
        self._task.cancel()

    def _end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    async def _serve(self, _owner: AuthorLoop) -> None:  # held meanwhile: the loop ends with its last holder
        async with contextlib.aclosing(self._steps):
            while True:
                demand = await self._demands.get()
                if not demand.set_running_or_notify_cancel():
                    continue  # its caller is gone, and will stop this
                try:
                    step = await anext(self._steps, _END)
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's to know
                    demand.set_exception(error)
                    return
                demand.set_result(step)  # type: ignore[arg-type]
