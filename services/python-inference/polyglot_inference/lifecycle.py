"""The states of the process: Starting → Ready → Draining. It never goes back."""

import asyncio
import enum
from collections.abc import Awaitable, Callable


class State(enum.Enum):
    """What the process is doing now."""

    STARTING = "Starting"  # models are loading
    READY = "Ready"  # every model can be called
    DRAINING = "Draining"  # the calls in flight finish; new ones are refused


Observer = Callable[[State], Awaitable[None]]


class Lifecycle:
    """The current state and those who follow it: health, metrics, log."""

    def __init__(self) -> None:
        self._state = State.STARTING
        self._observers: list[Observer] = []
        self._draining = asyncio.Event()

    @property
    def state(self) -> State:
        """The current state."""
        return self._state

    @property
    def is_draining(self) -> bool:
        """Whether the state is Draining: new calls are refused."""
        return self._draining.is_set()

    async def observe(self, observer: Observer) -> None:
        """Call `observer` with the current state now, and with every later one."""
        self._observers.append(observer)
        await observer(self._state)

    async def ready(self) -> None:
        """Starting → Ready; without effect when the process drains already."""
        if self._state is State.STARTING:
            await self._enter(State.READY)

    async def drain(self) -> None:
        """Starting or Ready → Draining."""
        if not self.is_draining:
            self._draining.set()
            await self._enter(State.DRAINING)

    async def draining(self) -> None:
        """Wait until the process drains."""
        await self._draining.wait()

    async def _enter(self, state: State) -> None:
        self._state = state
        for observer in self._observers:
            await observer(state)


class InFlight:
    """The calls being served, so that a drain and an unloaded model know when the last one is done.

    Used on the event loop only.
    """

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()

    @property
    def count(self) -> int:
        """How many calls are being served."""
        return self._count

    def begin(self) -> None:
        """Count a call, until it ends."""
        self._count += 1

    def end(self) -> None:
        """A call is answered, has failed or is given up."""
        self._count -= 1
        if not self._count:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no call is being served."""
        while self._count:
            self._idle.clear()
            await self._idle.wait()
