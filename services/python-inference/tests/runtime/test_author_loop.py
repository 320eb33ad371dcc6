"""Streams of `async def`, on the event loop of their model."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.author_loop import AuthorLoop

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import RawRequest, Serve, WritePython

SECONDS = 20
BLOCKING = """
    import threading
    import numpy as np

    blocks = threading.Event()
    goes_on = threading.Event()

    class Model:
        inputs = [dict(name="x", datatype="INT64", shape=[1])]
        outputs = [dict(name="y", datatype="INT64", shape=[1])]

        async def stream(self, inputs):
            blocks.set()
            goes_on.wait(20)
            yield {"y": inputs["x"]}
"""
RAISES = """
    import asyncio
    import sys
    import numpy as np

    class Model:
        inputs = [dict(name="x", datatype="INT64", shape=[1])]
        outputs = [dict(name="y", datatype="INT64", shape=[1])]

        async def stream(self, inputs):
            how = inputs["x"][0]
            if how == 1:
                sys.exit("enough")
            if how == 2:
                task = asyncio.ensure_future(asyncio.sleep(20))
                task.cancel()
                await task
            yield {"y": inputs["x"]}
"""


async def test_a_model_that_blocks_holds_up_itself_alone(
    serve: Serve, python_model: WritePython, identity: ModelSettings, raw_request: RawRequest
) -> None:
    async with serve(python_model("blocking", BLOCKING), identity) as serving:
        module = sys.modules["polyglot_models_blocking.model"]
        stream = serving.stub.ModelStreamInfer()
        await stream.write(raw_request("blocking", "x", "INT64", np.array([7]), id="slow"))
        try:
            assert await asyncio.to_thread(module.blocks.wait, SECONDS)
            request = raw_request("identity", "x", "FP32", np.ones((1, 4), np.float32), id="quick")
            await serving.stub.ModelInfer(request, timeout=SECONDS / 2)
            await stream.write(request)
            async with asyncio.timeout(SECONDS / 2):
                answer = await stream.read()
            assert isinstance(answer, pb.ModelStreamInferResponse)
            assert answer.infer_response.model_name == "identity"
        finally:
            module.goes_on.set()
        await stream.done_writing()
        answer = await stream.read()
        assert isinstance(answer, pb.ModelStreamInferResponse)
        assert np.frombuffer(answer.infer_response.raw_output_contents[0], np.int64).tolist() == [7]


async def test_what_would_end_a_loop_is_a_failure_of_the_model(
    serve: Serve, python_model: WritePython, raw_request: RawRequest
) -> None:
    async with serve(python_model("raises", RAISES)) as serving:
        stream = serving.stub.ModelStreamInfer()
        texts = []
        for how in (1, 2, 0):
            await stream.write(raw_request("raises", "x", "INT64", np.array([how]), id=str(how)))
            async with asyncio.timeout(SECONDS):
                answer = await stream.read()
            assert isinstance(answer, pb.ModelStreamInferResponse)
            texts.append(answer.error_message)
        stream.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await stream.read()
    assert texts == ["model 'raises' raised SystemExit: enough", "model 'raises' raised CancelledError: ", ""]


async def test_all_steps_run_in_one_task_of_another_thread_in_the_callers_context() -> None:
    caller = contextvars.ContextVar("caller", default="nobody")

    async def steps() -> AsyncGenerator[tuple[object, ...], None]:
        async with asyncio.timeout(SECONDS):  # which tells when it is left by another task
            for _ in range(3):
                await asyncio.sleep(0)
                yield threading.get_ident(), asyncio.current_task(), caller.get()

    caller.set("me")
    found = [step async for step in AuthorLoop("loop").pull(steps())]
    assert len(found) == 3
    assert len(set(found)) == 1
    assert found[0][0] != threading.get_ident()
    assert found[0][2] == "me"


async def test_a_step_runs_when_it_is_asked_for() -> None:
    ran = []

    async def steps() -> AsyncGenerator[int, None]:
        for number in range(3):
            ran.append(number)
            yield number

    pulled = AuthorLoop("loop").pull(steps())
    assert await anext(pulled) == 0
    await asyncio.sleep(0.05)
    assert ran == [0]
    await pulled.aclose()
    assert ran == [0]


@pytest.mark.parametrize("end", ["cancelled", "closed"])
async def test_a_generator_is_closed_before_its_follower_ends(end: str) -> None:
    closed = []

    async def steps() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.sleep(SECONDS)
            yield 2
        finally:
            await asyncio.sleep(0.05)
            closed.append(asyncio.current_task())

    pulled = AuthorLoop("loop").pull(steps())
    assert await anext(pulled) == 1
    if end == "cancelled":
        following = asyncio.ensure_future(anext(pulled))
        await asyncio.sleep(0.05)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
    else:
        await pulled.aclose()
    assert len(closed) == 1


async def test_a_follower_that_is_cancelled_twice_leaves_and_the_generator_is_closed_all_the_same() -> None:
    goes_on, closed = threading.Event(), threading.Event()

    async def steps() -> AsyncGenerator[int, None]:
        try:
            goes_on.wait(SECONDS)
            yield 1
        finally:
            closed.set()

    pulled = AuthorLoop("loop").pull(steps())
    following = asyncio.ensure_future(anext(pulled))
    for _ in range(2):
        await asyncio.sleep(0.05)
        following.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(SECONDS / 2):
            await following
    goes_on.set()
    assert await asyncio.to_thread(closed.wait, SECONDS)


async def test_an_error_on_the_way_out_is_told() -> None:
    async def steps() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise ValueError("left in disorder")

    pulled = AuthorLoop("loop").pull(steps())
    assert await anext(pulled) == 1
    with pytest.raises(ValueError, match="left in disorder"):
        await pulled.aclose()


async def test_the_thread_ends_with_its_model() -> None:
    async def steps() -> AsyncGenerator[int, None]:
        yield 1

    loop = AuthorLoop("a-loop-that-ends")
    assert _named("a-loop-that-ends") == 0
    assert [step async for step in loop.pull(steps())] == [1]
    assert _named("a-loop-that-ends") == 1
    del loop
    await asyncio.to_thread(_wait_until, lambda: _named("a-loop-that-ends") == 0)


def _named(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        gc.collect()  # a traceback may hold what ran last
        assert time.monotonic() < deadline
        time.sleep(0.01)
