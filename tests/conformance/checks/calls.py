"""Items 13 and 14: deadlines and cancellation, and that given-up work is not done."""

from __future__ import annotations

import asyncio
import queue
import time
import uuid
from typing import Any

from tritonclient.utils import InferenceServerException

from tests.conformance.clients import SECONDS, Triton, connect
from tests.conformance.suite import AIO_GRPC, GRPC, JSON, SYNC, check, equal, refused
from tests.conformance.targets import eventually, in_background

OCCUPIED = 1.0
"""Seconds for which one call occupies the model, which takes one at a time."""
EXPIRED = (504, 499)
"""A server that resets the stream in the instant of the deadline is reported as CANCELLED by gRPC's C core."""


@check(13, "client_timeout ends a call in time with DEADLINE_EXCEEDED", [GRPC, AIO_GRPC])
def client_timeout(client: Triton) -> None:
    started = time.monotonic()
    with refused(*EXPIRED):
        client.infer("slow", client.slow("timeout", OCCUPIED), client_timeout=0.3)
    elapsed = time.monotonic() - started
    assert elapsed < OCCUPIED, f"it took {elapsed:.1f} s"


@check(13, "a call that waits beyond its deadline is never executed", [GRPC, AIO_GRPC])
def expired_in_queue(client: Triton) -> None:
    first, expired, last = (f"{name}-{uuid.uuid4()}" for name in ("first", "expired", "last"))
    with (
        connect(GRPC, client.instance) as other,
        in_background(lambda: other.infer("slow", other.slow(first, OCCUPIED))) as answered,
    ):
        eventually(lambda: first in client.instance.executions(), "the model is occupied")
        with refused(*EXPIRED):
            client.infer("slow", client.slow(expired, 0), client_timeout=0.3)
        answered()
    client.infer("slow", client.slow(last, 0))
    assert expired not in client.instance.executions(), "it was executed after its deadline"


@check(13, "the request parameter `timeout` (µs) bounds a call that waits for the model", [JSON, *SYNC])
def timeout_parameter(client: Triton) -> None:
    first = f"first-{uuid.uuid4()}"
    with (
        connect(GRPC, client.instance) as other,
        in_background(lambda: other.infer("slow", other.slow(first, OCCUPIED))) as answered,
    ):
        eventually(lambda: first in client.instance.executions(), "the model is occupied")
        with refused(504):
            client.infer("slow", client.slow("bounded", 0), timeout=300_000)
        answered()


@check(14, "a cancelled call ends at once with CANCELLED", [GRPC])
def cancelled(client: Triton) -> None:
    name = f"cancelled-{uuid.uuid4()}"
    ended: queue.Queue[Any] = queue.Queue()

    def note(result: object, error: object) -> None:  # called by keyword
        ended.put(error or result)

    context = client.async_infer("slow", client.slow(name, OCCUPIED), note)
    eventually(lambda: name in client.instance.executions(), "the call is executed")
    started = time.monotonic()
    context.cancel()
    error = ended.get(timeout=SECONDS)
    assert isinstance(error, InferenceServerException), f"the call ended with {error!r}"
    equal(error.status(), "StatusCode.CANCELLED", "status")
    elapsed = time.monotonic() - started
    assert elapsed < OCCUPIED, f"it took {elapsed:.1f} s"


@check(14, "a call cancelled while it waits is never executed", [AIO_GRPC])
def cancelled_in_queue(client: Triton) -> None:
    first, dropped, last = (f"{name}-{uuid.uuid4()}" for name in ("first", "dropped", "last"))

    async def cancel_one() -> None:
        running = asyncio.ensure_future(client.native.infer("slow", client.slow(first, OCCUPIED)))
        await asyncio.to_thread(
            eventually, lambda: running.done() or first in client.instance.executions(), "the model is occupied"
        )
        if running.done():
            await running  # and raise what it failed with
        waiting = asyncio.ensure_future(client.native.infer("slow", client.slow(dropped, 0)))
        await asyncio.wait([waiting], timeout=0.3)
        waited = not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await running
        assert waited, "the call did not wait for the model"

    client.wait(cancel_one())
    client.infer("slow", client.slow(last, 0))
    assert dropped not in client.instance.executions(), "it was executed after its cancellation"
