"""The endpoints over a real socket."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from polyglot_operator.cluster.watches import SILENCE, Watches
from polyglot_operator.liveness import STUCK, Liveness, serve
from polyglot_operator.telemetry import Metrics

PODS = "/api/v1/pods"


@dataclass
class World:
    """A process whose time and slowest reconcile the test decides."""

    watches: Watches
    now: float = 0.0
    slowest: float = 0.0
    health: str = ""
    metrics: str = ""


@dataclass
class Body:
    total_bytes: int = 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(Watches())
    liveness = Liveness(world.watches, lambda: world.slowest, lambda: world.now)
    health, metrics = free_port(), free_port()
    stop = await serve(liveness, Metrics(), health, metrics)
    world.health, world.metrics = f"http://127.0.0.1:{health}/healthz", f"http://127.0.0.1:{metrics}/metrics"
    yield world
    await stop()


async def fetch(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_the_process_is_alive_while_watches_deliver_and_work_moves(world: World) -> None:
    world.watches.opened(PODS, Body(), 0)
    world.now, world.slowest = SILENCE, STUCK
    assert await fetch(world.health) == (200, "ok")


async def test_a_dead_watch_fails_liveness_and_is_named(world: World) -> None:
    world.watches.opened(PODS, Body(), 0)
    world.now = SILENCE + 1
    status, text = await fetch(world.health)
    assert status == 503
    assert PODS in text


async def test_a_reconcile_that_never_ends_fails_liveness(world: World) -> None:
    world.slowest = STUCK + 1
    assert (await fetch(world.health))[0] == 503


async def test_metrics_tell_the_age_of_every_watch(world: World) -> None:
    world.watches.opened(PODS, Body(), 0)
    world.now = 12
    status, text = await fetch(world.metrics)
    assert status == 200
    assert f'polyglot_watch_age_seconds{{path="{PODS}"}} 12.0' in text


async def test_a_taken_port_is_an_error_at_the_start(world: World) -> None:
    taken = int(world.health.split(":")[2].split("/")[0])
    with pytest.raises(OSError, match="in use"):
        await serve(Liveness(Watches(), lambda: 0.0), Metrics(), taken, free_port())
