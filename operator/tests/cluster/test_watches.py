"""The pulse of the watches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from polyglot_operator.cluster.watches import SILENCE, Watches

PODS = "/api/v1/pods"
RULES = "/apis/networking.istio.io/v1/destinationrules"


@dataclass
class Body:
    """A response's body that has delivered so many bytes."""

    total_bytes: int = 0


def test_a_watch_lives_as_long_as_bytes_come() -> None:
    watches, body = Watches(), Body()
    watches.opened(PODS, body, 0)
    for now in range(0, 10 * int(SILENCE), 60):
        body.total_bytes += 1
        assert watches.dead(now) == []


def test_a_silent_watch_is_dead_and_not_before_its_time() -> None:
    watches = Watches()
    watches.opened(PODS, Body(), 0)
    assert watches.dead(SILENCE) == []
    assert watches.dead(SILENCE + 1) == [PODS]


def test_reopening_revives_a_watch_and_failing_to_reopen_does_not() -> None:
    watches = Watches()
    watches.opened(PODS, Body(), 0)
    watches.requested(PODS, 100)
    assert watches.dead(SILENCE + 1) == [PODS]
    watches.opened(PODS, Body(), SILENCE + 2)
    assert watches.dead(SILENCE + 3) == []


def test_a_watch_that_never_opened_is_dead_in_time() -> None:
    watches = Watches()
    watches.requested(PODS, 0)
    assert watches.dead(SILENCE + 1) == [PODS]


def test_nothing_is_expected_of_a_group_that_is_no_longer_served() -> None:
    watches = Watches()
    watches.opened(PODS, Body(), 0)
    watches.opened(RULES, Body(), 0)
    watches.forget("networking.istio.io")
    assert watches.ages(5) == {PODS: 5}


async def test_what_a_vanished_group_held_is_audited() -> None:
    watches = Watches()
    watches.opened(RULES, Body(), 0)
    watches.forget("networking.istio.io")
    await asyncio.wait_for(watches.restarted(within=30), 10)


async def test_a_second_listing_of_a_watched_kind_is_a_restart_and_the_first_is_none() -> None:
    watches = Watches()
    watches.listed(PODS)
    waiting = asyncio.create_task(watches.restarted(within=30))
    await asyncio.sleep(0)
    assert not waiting.done()
    watches.requested(PODS, 0)
    watches.listed(PODS)
    await asyncio.wait_for(waiting, 10)


async def test_waiting_for_a_restart_ends_in_time_without_one() -> None:
    await asyncio.wait_for(Watches().restarted(within=0.01), 5)
