"""Models that are loaded and unloaded while they are called."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from polyglot_inference.errors import ModelNotFoundError
from polyglot_inference.lifecycle import InFlight
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.repository.models import ModelRepository, ModelState
from polyglot_inference.settings import AdministrationSettings, ModelSettings, QueueSettings
from polyglot_inference.telemetry.metrics import Metrics
from polyglot_inference.telemetry.traces import Tracing

if TYPE_CHECKING:
    from tests.conftest import RawRequest, Serve, Serving, WritePython

FULL = AdministrationSettings(mode="Full")
CHANGES = 12

# Half-loaded for 10 ms, and it says so if it is called then.
SLOW_TO_LOAD = """
    import time

    class Model:
        inputs = [dict(name="x", datatype="INT64", shape=[-1])]
        outputs = [dict(name="y", datatype="INT64", shape=[-1])]
        factor = 0

        def load(self, path):
            time.sleep(0.01)
            self.factor = 2

        def predict(self, inputs):
            assert self.factor, "called before it was loaded"
            return {"y": inputs["x"] * self.factor}
"""


async def call_until(done: asyncio.Event, serving: Serving, raw_request: RawRequest, first: int) -> Counter[str]:
    """Call the model with ever new numbers. Return how often which code was answered; "OK" with the right number."""
    codes: Counter[str] = Counter()
    number = first
    while not done.is_set():
        number += 1
        x = np.array([number], dtype=np.int64)
        try:
            response = await serving.stub.ModelInfer(raw_request("slow", "x", "INT64", x), timeout=20)
        except grpc.aio.AioRpcError as error:
            codes[str(dict(error.trailing_metadata()).get("x-error-code", error.details()))] += 1
        else:
            assert response.raw_output_contents[0] == (2 * x).tobytes()
            codes["OK"] += 1
    return codes


async def test_no_call_is_lost_while_its_model_is_unloaded_and_loaded(
    serve: Serve, python_model: WritePython, raw_request: RawRequest
) -> None:
    async with serve(python_model("slow", SLOW_TO_LOAD), administration=FULL) as serving:
        done = asyncio.Event()
        callers = [
            asyncio.ensure_future(call_until(done, serving, raw_request, 10_000 * number)) for number in range(4)
        ]
        for _ in range(CHANGES):
            await serving.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="slow"), timeout=20)
            await serving.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="slow"), timeout=20)
        done.set()
        codes = sum(await asyncio.gather(*callers), Counter())
        assert codes.keys() == {"OK", "MODEL_NOT_READY"}
        assert serving.count("slow", "OK") == codes["OK"]


async def test_a_reload_refuses_no_call(serve: Serve, python_model: WritePython, raw_request: RawRequest) -> None:
    async with serve(python_model("slow", SLOW_TO_LOAD), administration=FULL) as serving:
        done = asyncio.Event()
        callers = [
            asyncio.ensure_future(call_until(done, serving, raw_request, 10_000 * number)) for number in range(4)
        ]
        load = pb.RepositoryModelLoadRequest(model_name="slow")
        for _ in range(CHANGES):
            await asyncio.gather(*(serving.stub.RepositoryModelLoad(load, timeout=20) for _ in range(2)))
        done.set()
        codes = sum(await asyncio.gather(*callers), Counter())
        assert codes.keys() == {"OK"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(InFlight())


async def test_loads_and_readiness_are_measured(python_model: WritePython, metrics: Metrics) -> None:
    model = python_model("slow", SLOW_TO_LOAD)
    repository = ModelRepository([model], QueueSettings(), 1, metrics, Tracing(None))

    def sample(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"polyglot_inference_{name}", {"model": "slow", **labels})

    await repository.load_all()
    assert (sample("model_ready"), sample("model_loads_total", outcome="loaded")) == (1, 1)
    await repository.unload("slow")
    assert sample("model_ready") == 0
    (model.path / "model.py").write_text("class Model: pass")
    with pytest.raises(Exception, match="inputs"):
        await repository.load("slow")
    assert (sample("model_ready"), sample("model_loads_total", outcome="failed")) == (0, 1)
    assert [entry.state for entry in repository.index()] == [ModelState.UNAVAILABLE]
    repository.close()


async def test_unloading_twice_is_no_fault_and_an_unknown_model_is_not_found(
    identity: ModelSettings, metrics: Metrics
) -> None:
    repository = ModelRepository([identity], QueueSettings(), 1, metrics, Tracing(None))
    await repository.load_all()
    await asyncio.gather(repository.unload("identity"), repository.unload("identity"))
    with pytest.raises(ModelNotFoundError, match="'absent' is not served here; served are: identity"):
        await repository.unload("absent")
    repository.close()
