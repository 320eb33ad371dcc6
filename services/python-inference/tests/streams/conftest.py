"""Models that stream, requests to them, and how their answers are read."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
import pytest

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from polyglot_inference.settings import ModelSettings
    from tests.conftest import RawRequest, Serving, WritePython


# `count` gives 0, 1, 2, … as often as x says; 13 fails and 1000 never ends. The module's globals are the test's view.
COUNT = """
    import asyncio
    import numpy as np
    from polyglot_inference import TensorSpec

    steps = []
    closed = []

    class Model:
        inputs = [TensorSpec("x", "INT64", [1])]
        outputs = [TensorSpec("y", "INT64", [1])]

        {async_}def stream(self, inputs):
            (end,) = inputs["x"].tolist()
            number = 0
            try:
                while number < end or end == 1000:
                    {pause}
                    steps.append((end, number))
                    yield {{"y": np.array([number])}}
                    number += 1
                    if end == 13:
                        raise ValueError("unlucky")
            finally:
                closed.append(end)
"""
ASYNC = COUNT.format(async_="async ", pause="await asyncio.sleep(0)")
SYNC = COUNT.format(async_="", pause="")


class Streams:
    """What tests do with streams."""

    SECONDS: Final = 20

    @staticmethod
    def number(answer: pb.ModelStreamInferResponse) -> int:
        assert not answer.error_message, answer.error_message
        (value,) = np.frombuffer(answer.infer_response.raw_output_contents[0], np.int64).tolist()
        return int(value)

    @staticmethod
    def is_final(answer: pb.ModelStreamInferResponse) -> bool:
        return answer.infer_response.parameters["triton_final_response"].bool_param

    @staticmethod
    def code(answer: pb.ModelStreamInferResponse) -> str:
        return answer.infer_response.parameters["x-error-code"].string_param

    @staticmethod
    async def exchange(
        serving: Serving, *requests: pb.ModelInferRequest, **keywords: Any
    ) -> list[pb.ModelStreamInferResponse]:
        """Send requests on a stream, end it, and return every answer."""
        call = serving.stub.ModelStreamInfer(iter(requests), timeout=Streams.SECONDS, **keywords)
        return [answer async for answer in call]

    @staticmethod
    async def read(call: Any) -> pb.ModelStreamInferResponse:
        """The next answer of a stream that goes on."""
        answer = await call.read()
        assert isinstance(answer, pb.ModelStreamInferResponse)
        return answer

    @staticmethod
    async def read_on(call: Any) -> None:
        """Read until the stream ends, and raise what it ends with."""
        while await call.read() is not grpc.aio.EOF:
            pass

    @staticmethod
    def sample(serving: Serving, name: str, **labels: str) -> float:
        return serving.server.metrics.registry.get_sample_value(f"polyglot_inference_{name}", labels) or 0.0

    @staticmethod
    async def until(condition: Callable[[], bool], what: str) -> None:
        for _ in range(100 * Streams.SECONDS):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"not within {Streams.SECONDS} s: {what}")

    @staticmethod
    def module(name: str) -> Any:
        return sys.modules[f"polyglot_models_{name}.model"]


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture(params=["async", "thread"])
def count(request: pytest.FixtureRequest, python_model: WritePython) -> ModelSettings:
    """A model `count`, as an async generator and as a plain one."""
    return python_model("count", ASYNC if request.param == "async" else SYNC)


@pytest.fixture
def asked(raw_request: RawRequest) -> Callable[..., pb.ModelInferRequest]:
    """Makes a request to count."""

    def make(end: int, model: str = "count", **fields: Any) -> pb.ModelInferRequest:
        return raw_request(model, "x", "INT64", np.array([end]), **fields)

    return make


@pytest.fixture
def streaming_models(python_model: WritePython) -> list[ModelSettings]:
    once = """
        from polyglot_inference import TensorSpec

        class Model:
            inputs = [TensorSpec("x", "INT64", [1])]
            outputs = [TensorSpec("y", "INT64", [1])]

            def predict(self, inputs):
                return {"y": inputs["x"]}
    """
    return [python_model("async", ASYNC), python_model("thread", SYNC), python_model("once", once)]
