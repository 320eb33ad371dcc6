"""Whether the operator still works: `/healthz` for the kubelet, `/metrics` for Prometheus.

Both are served by the event loop that does the work, so a stuck loop answers neither.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from polyglot_operator.cluster.watches import Watches
from polyglot_operator.telemetry import Metrics

STUCK: Final = 300.0  # seconds; a reconcile has none that waits longer, every request ends after 30


@dataclass(frozen=True, slots=True)
class Liveness:
    """What must move for the operator to be alive: the watches, and the work on each service."""

    watches: Watches
    longest_run: Callable[[], float]
    clock: Callable[[], float] = time.monotonic

    def problems(self) -> list[str]:
        """Return what has stopped moving; nothing while all is well."""
        problems = [f"watch {path} has been silent for too long" for path in self.watches.dead(self.clock())]
        if self.longest_run() > STUCK:
            problems.append(f"a reconcile has been running for {self.longest_run():.0f} s")
        return problems


async def serve(
    liveness: Liveness, metrics: Metrics, health_port: int, metrics_port: int
) -> Callable[[], Awaitable[None]]:
    """Start both endpoints; return what stops them. Raises OSError when a port is taken."""

    async def healthz(_: web.Request) -> web.Response:
        problems = liveness.problems()
        return web.Response(text="\n".join(problems) or "ok", status=503 if problems else 200)

    async def render(_: web.Request) -> web.Response:
        metrics.watches(liveness.watches.ages(liveness.clock()))
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    runners = [
        await _listen("/healthz", healthz, health_port),
        await _listen("/metrics", render, metrics_port),
    ]

    async def stop() -> None:
        for runner in runners:
            await runner.cleanup()

    return stop


async def _listen(path: str, handler: Callable[[web.Request], Awaitable[web.Response]], port: int) -> web.AppRunner:
    application = web.Application()
    application.router.add_get(path, handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()
    return runner
