"""What is told while a model loads."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

import grpc
import pytest
from prometheus_client import Gauge

from polyglot_inference.errors import ModelLoadError
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.repository.progress import LoadProgress

if TYPE_CHECKING:
    from tests.conftest import Serve, WritePython

LARGE = """
    import threading

    told = threading.Event()
    released = threading.Event()

    class Model:
        inputs = outputs = []

        def load(self, path, progress):
            progress(0.4, "reading weights")
            told.set()
            released.wait(20)

        def predict(self, inputs):
            return {}
"""


async def test_those_who_ask_for_a_loading_model_are_told_how_far_it_is(
    serve: Serve, python_model: WritePython
) -> None:
    async with serve(python_model("large", LARGE), load=False) as serving:
        loading = asyncio.create_task(serving.server.load())
        while "polyglot_models_large.model" not in sys.modules:  # noqa: ASYNC110 - imported on the loader's thread
            await asyncio.sleep(0.01)
        module = sys.modules["polyglot_models_large.model"]
        await asyncio.to_thread(module.told.wait, 20)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(pb.ModelInferRequest(model_name="large"))
        assert caught.value.details() == "model 'large' is still loading (40%: reading weights); try again"
        (entry,) = (await serving.stub.RepositoryIndex(pb.RepositoryIndexRequest())).models
        assert (entry.state, entry.reason) == ("LOADING", "40%: reading weights")
        registry = serving.server.metrics.registry
        share = "polyglot_inference_model_load_progress_ratio"
        assert registry.get_sample_value(share, {"model": "large"}) == 0.4
        module.released.set()
        await loading
        assert registry.get_sample_value(share, {"model": "large"}) == 1
        (entry,) = (await serving.stub.RepositoryIndex(pb.RepositoryIndexRequest())).models
        assert (entry.state, entry.reason) == ("READY", "")


async def test_a_share_that_is_none_stops_the_loading_with_a_reason(serve: Serve, python_model: WritePython) -> None:
    wrong = python_model("wrong", LARGE.replace("0.4", "40"))
    with pytest.raises(ModelLoadError, match=r"progress\(40\): the share that is done is a number from 0 to 1"):
        async with serve(wrong):
            pass


def test_the_log_has_each_text_at_once_and_steps_under_it_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    told: list[str] = []
    progress = LoadProgress("large", Gauge("share", "", registry=None), told.append, lambda: now)
    with caplog.at_level(logging.INFO):
        for step in range(30):
            progress(step / 64, "reading weights")
            now += 0.125
        progress(0.5, "warming up")
    assert [(record.__dict__["done"], record.__dict__["step"]) for record in caplog.records] == [
        (0.0, "reading weights"),
        (0.125, "reading weights"),
        (0.25, "reading weights"),
        (0.375, "reading weights"),
        (0.5, "warming up"),
    ]
    assert told[-1] == "50%: warming up"
    assert len(told) == 31
