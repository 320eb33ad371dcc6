"""The pulse of the watches: when each of them last delivered a byte.

The API server sends a bookmark about once a minute, so a silent watch is a dead one. Kopf reconnects after 70 s of
silence; this is the second line, for a watch whose task has ended or whose reconnects all fail.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Protocol

SILENCE = 150.0  # seconds; two bookmarks and Kopf's own reconnect have failed by then
BURST = 2.0  # seconds; when one watch starts over, most do


class Stream(Protocol):
    """A response's body as far as its pulse is concerned; `aiohttp.StreamReader` is one."""

    total_bytes: int


@dataclass
class _Watch:
    alive: float
    stream: Stream | None = None
    seen: int = 0


class Watches:
    """All watches by their URL path, each with the time of its last byte, in seconds of the caller's clock."""

    def __init__(self) -> None:
        self._watches: dict[str, _Watch] = {}
        self._relisted = asyncio.Event()

    def listed(self, path: str) -> None:
        """Note that a kind is being listed; when it was watched before, deletions may have been missed."""
        if path in self._watches:
            self._relisted.set()

    async def restarted(self, within: float) -> None:
        """Return soon after a watch has started over, at the latest after `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._relisted.wait()
            await asyncio.sleep(BURST)
        self._relisted.clear()

    def requested(self, path: str, now: float) -> None:
        """Note that a watch is being opened; it has until `SILENCE` to deliver."""
        self._watches.setdefault(path, _Watch(alive=now))

    def opened(self, path: str, stream: Stream, now: float) -> None:
        """Note that the API server accepted a watch."""
        self._watches[path] = _Watch(alive=now, stream=stream, seen=stream.total_bytes)

    def forget(self, group: str) -> None:
        """Expect nothing more from a group that is no longer served; deletions of its objects may have been missed."""
        for path in [path for path in self._watches if f"/apis/{group}/" in path]:
            del self._watches[path]
            self._relisted.set()

    def ages(self, now: float) -> dict[str, float]:
        """Return for every watch the seconds since it was last seen alive."""
        for watch in self._watches.values():
            if watch.stream is not None and watch.stream.total_bytes != watch.seen:
                watch.seen = watch.stream.total_bytes
                watch.alive = now
        return {path: now - watch.alive for path, watch in self._watches.items()}

    def dead(self, now: float) -> list[str]:
        """Return the paths of the watches that have been silent for too long."""
        return sorted(path for path, age in self.ages(now).items() if age > SILENCE)
