"""Configuration, statistics and repository of the models, over a real channel."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.protocol.pb import model_config_pb2 as config_pb
from polyglot_inference.runtime.cpus import available_cpus
from polyglot_inference.settings import AdministrationSettings, BatchingSettings, ModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Gate, RawRequest, Serve, Serving, WritePython

FULL = AdministrationSettings(mode="Full")
X = np.arange(8, dtype=np.float32).reshape(2, 4)
ONE = np.array([1], dtype=np.int64)
COUNTS_UP = """
    class Model:
        inputs = [dict(name="x", datatype="INT64", shape=[-1])]
        outputs = [dict(name="y", datatype="INT64", shape=[-1])]

        def stream(self, inputs):
            for step in range(3):
                yield {"y": inputs["x"] + step}
"""
TEXT_LENGTHS = """
    class Model:
        inputs = [dict(name="text", datatype="BYTES", shape=[-1]), dict(name="scale", datatype="FP32", shape=[-1, 2])]
        outputs = [dict(name="lengths", datatype="INT64", shape=[-1])]

        def load(self, path):
            pass

        def predict(self, inputs):
            raise ValueError("told to fail")
"""


def trailers(error: grpc.aio.AioRpcError) -> dict[str, str | bytes]:
    return dict(error.trailing_metadata())


async def test_the_configuration_describes_a_model_as_triton_does(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity) as serving:
        answer = await serving.stub.ModelConfig(pb.ModelConfigRequest(name="identity", version="1"))
    config = answer.config
    assert (config.name, config.platform, config.backend) == ("identity", "onnxruntime_onnx", "onnxruntime")
    assert (config.default_model_filename, config.max_batch_size) == ("model.onnx", 0)
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [("x", config_pb.TYPE_FP32, [-1, 4])]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [("y", config_pb.TYPE_FP32, [-1, 4])]
    assert [group.count for group in config.instance_group] == [available_cpus()]
    assert config.version_policy.latest.num_versions == 1
    assert not config.model_transaction_policy.decoupled
    assert config.WhichOneof("scheduling_choice") is None


async def test_the_configuration_of_a_batched_model_leaves_the_rows_out(
    serve: Serve, python_model: WritePython
) -> None:
    batching = BatchingSettings.model_construct(max_size=32, max_delay=timedelta(milliseconds=1.5))
    model = python_model("lengths", TEXT_LENGTHS).model_copy(update={"batching": batching})
    async with serve(model) as serving:
        config = (await serving.stub.ModelConfig(pb.ModelConfigRequest(name="lengths"))).config
    assert (config.platform, config.backend, config.default_model_filename) == ("python", "python", "model.py")
    assert config.max_batch_size == 32
    assert config.dynamic_batching.max_queue_delay_microseconds == 1500
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        ("text", config_pb.TYPE_STRING, []),
        ("scale", config_pb.TYPE_FP32, [2]),
    ]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [("lengths", config_pb.TYPE_INT64, [])]
    assert [group.count for group in config.instance_group] == [1]


@pytest.mark.parametrize(("name", "version"), [("absent", ""), ("identity", "2")])
async def test_configuration_and_statistics_of_an_unknown_model_or_version_are_not_found(
    serve: Serve, identity: ModelSettings, name: str, version: str
) -> None:
    async with serve(identity) as serving:
        for call in (
            serving.stub.ModelConfig(pb.ModelConfigRequest(name=name, version=version)),
            serving.stub.ModelStatistics(pb.ModelStatisticsRequest(name=name, version=version)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert trailers(caught.value)["x-error-code"] == "MODEL_NOT_FOUND"


async def statistics(serving: Serving, model: str) -> pb.ModelStatistics:
    answer = await serving.stub.ModelStatistics(pb.ModelStatisticsRequest(name=model))
    (found,) = answer.model_stats
    return found


async def test_statistics_count_calls_and_their_phases(
    serve: Serve, identity: ModelSettings, raw_request: RawRequest
) -> None:
    async with serve(identity) as serving:
        assert not (await statistics(serving, "identity")).inference_count
        began = time.time()
        for _ in range(3):
            await serving.stub.ModelInfer(raw_request("identity", "x", "FP32", X))
        found = await statistics(serving, "identity")
    # Of a model that is not batched, every call is one inference, whatever its first dimension.
    assert (found.name, found.version, found.inference_count, found.execution_count) == ("identity", "1", 3, 3)
    assert began - 1 <= found.last_inference / 1000 <= time.time() + 1
    stats = found.inference_stats
    phases = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert [phase.count for phase in phases] == [3, 3, 3, 3]
    assert all(phase.ns > 0 for phase in phases)
    assert (stats.success.count, stats.fail.count) == (3, 0)
    assert stats.success.ns > sum(phase.ns for phase in phases)
    assert [(batch.batch_size, batch.compute_infer.count) for batch in found.batch_stats] == [(1, 3)]
    assert found.batch_stats[0].compute_infer.ns == stats.compute_infer.ns


async def test_failed_calls_are_counted_as_failures(
    serve: Serve, identity: ModelSettings, python_model: WritePython, raw_request: RawRequest
) -> None:
    async with serve(identity, python_model("lengths", TEXT_LENGTHS)) as serving:
        request = raw_request("lengths", "scale", "FP32", X[:, :2])
        request.inputs.add(name="text", datatype="BYTES", shape=[0])
        request.raw_input_contents.append(b"")
        for wrong in (request, raw_request("identity", "x", "FP32", X[:, :3])):
            with pytest.raises(grpc.aio.AioRpcError):
                await serving.stub.ModelInfer(wrong)
        failed, refused = await statistics(serving, "lengths"), await statistics(serving, "identity")
    assert (failed.inference_stats.fail.count, failed.inference_count, failed.execution_count) == (1, 0, 0)
    assert failed.inference_stats.fail.ns > 0
    assert (refused.inference_stats.fail.count, refused.inference_stats.success.count) == (1, 0)


async def test_a_streaming_model_is_decoupled_and_its_answers_are_counted_by_their_index(
    serve: Serve, python_model: WritePython, raw_request: RawRequest
) -> None:
    async with serve(python_model("steps", COUNTS_UP)) as serving:
        config = (await serving.stub.ModelConfig(pb.ModelConfigRequest(name="steps"))).config
        assert config.model_transaction_policy.decoupled
        stream = serving.stub.ModelStreamInfer()
        for _ in range(2):
            request = raw_request("steps", "x", "INT64", ONE)
            request.parameters["triton_enable_empty_final_response"].bool_param = True
            await stream.write(request)
        await stream.done_writing()
        assert len([answer async for answer in stream]) == 8
        found = await statistics(serving, "steps")
    assert {index: answers.success.count for index, answers in found.response_stats.items()} == {
        "0": 2,
        "1": 2,
        "2": 2,
        "3": 0,
    }
    assert found.response_stats["3"].empty_response.count == 2
    assert all(answers.compute_infer.ns > 0 for answers in found.response_stats.values())
    assert (found.inference_count, found.execution_count, found.inference_stats.success.count) == (2, 2, 2)
    assert found.inference_stats.compute_infer.ns > 0


async def test_without_a_name_statistics_are_those_of_all_loaded_models(
    serve: Serve, identity: ModelSettings, gated: ModelSettings
) -> None:
    async with serve(identity, gated, administration=FULL) as serving:
        answer = await serving.stub.ModelStatistics(pb.ModelStatisticsRequest())
        assert [model.name for model in answer.model_stats] == ["identity", "gated"]
        await serving.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="gated"))
        answer = await serving.stub.ModelStatistics(pb.ModelStatisticsRequest())
        assert [model.name for model in answer.model_stats] == ["identity"]


async def index(serving: Serving, *, ready: bool = False) -> dict[str, tuple[str, str, str]]:
    answer = await serving.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=ready))
    return {model.name: (model.version, model.state, model.reason) for model in answer.models}


async def until(serving: Serving, model: str, state: str) -> None:
    """Ask until the model is in a state."""
    async with asyncio.timeout(20):
        while (await index(serving))[model][1] != state:
            pass


async def test_the_index_tells_the_state_of_every_model(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity, load=False, administration=FULL) as serving:
        assert await index(serving) == {"identity": ("1", "LOADING", "")}
        assert await index(serving, ready=True) == {}
        await serving.server.load()
        assert await index(serving) == await index(serving, ready=True) == {"identity": ("1", "READY", "")}
        await serving.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="identity"))
        assert await index(serving) == {"identity": ("1", "UNAVAILABLE", "unloaded")}
        assert await index(serving, ready=True) == {}


async def test_a_change_is_refused_while_the_models_of_the_start_load(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity, load=False, administration=FULL) as serving:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="identity"))
        assert trailers(caught.value)["x-error-code"] == "MODEL_NOT_READY"


async def test_an_unloaded_model_answers_its_calls_in_flight_and_refuses_others(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(gated, administration=FULL) as serving:
        call = serving.stub.ModelInfer(raw_request("gated", "x", "INT64", ONE))
        await gate().started()
        unload = asyncio.ensure_future(
            serving.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="gated"))
        )
        await until(serving, "gated", "UNLOADING")
        assert not (await serving.stub.ModelReady(pb.ModelReadyRequest(name="gated"))).ready
        assert (await serving.stub.ServerReady(pb.ServerReadyRequest())).ready
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(raw_request("gated", "x", "INT64", ONE))
        assert trailers(caught.value)["x-error-code"] == "MODEL_NOT_READY"
        assert not unload.done()
        gate().release()
        assert list((await call).raw_output_contents) == [(ONE + 1).tobytes()]
        await unload
        assert (await index(serving))["gated"][1] == "UNAVAILABLE"


async def test_an_unload_goes_on_when_its_caller_leaves(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], raw_request: RawRequest
) -> None:
    async with serve(gated, administration=FULL) as serving:
        call = serving.stub.ModelInfer(raw_request("gated", "x", "INT64", ONE))
        await gate().started()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="gated"), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await index(serving))["gated"][1] == "UNLOADING"
        gate().release()
        await call
        await until(serving, "gated", "UNAVAILABLE")


async def test_a_failed_reload_keeps_the_model_that_is_served(
    serve: Serve, python_model: WritePython, raw_request: RawRequest
) -> None:
    version = """
        import numpy as np

        class Model:
            inputs = [dict(name="x", datatype="INT64", shape=[-1])]
            outputs = [dict(name="y", datatype="INT64", shape=[-1])]

            def load(self, path):
                {load}

            def predict(self, inputs):
                return {{"y": inputs["x"] * {factor}}}
    """
    model = python_model("factor", version.format(load="pass", factor=2))
    folder = model.path
    async with serve(model, administration=FULL) as serving:

        async def answer() -> list[int]:
            response = await serving.stub.ModelInfer(raw_request("factor", "x", "INT64", ONE))
            return [int(number) for number in np.frombuffer(response.raw_output_contents[0], dtype=np.int64)]

        load = pb.RepositoryModelLoadRequest(model_name="factor")
        assert await answer() == [2]
        rewritten = python_model("failing", version.format(load="raise OSError('no weights')", factor=3))
        (rewritten.path / "model.py").rename(folder / "model.py")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.RepositoryModelLoad(load)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        assert "no weights" in str(caught.value.details())
        assert trailers(caught.value)["x-error-code"] == "MODEL_LOAD_FAILED"
        assert await index(serving) == {"factor": ("1", "READY", "")}
        assert await answer() == [2]

        mended = python_model("mended", version.format(load="pass", factor=5))
        (mended.path / "model.py").rename(folder / "model.py")
        await serving.stub.RepositoryModelLoad(load)
        assert await answer() == [5]
        assert (await statistics(serving, "factor")).inference_count == 1


async def test_a_model_that_cannot_be_loaded_again_is_unavailable_with_the_reason(
    serve: Serve, python_model: WritePython, raw_request: RawRequest
) -> None:
    model = python_model("lengths", TEXT_LENGTHS)
    async with serve(model, administration=FULL) as serving:
        await serving.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="lengths"))
        (model.path / "model.py").unlink()
        with pytest.raises(grpc.aio.AioRpcError):
            await serving.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="lengths"))
        _, state, reason = (await index(serving))["lengths"]
        assert state == "UNAVAILABLE"
        assert "model.py does not exist" in reason
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(raw_request("lengths", "x", "INT64", ONE))
        assert "model.py does not exist" in str(caught.value.details())
        assert trailers(caught.value)["x-error-code"] == "MODEL_NOT_READY"


async def test_loading_an_unknown_model_names_it(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity, administration=FULL) as serving:
        for change in (
            serving.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="absent")),
            serving.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="absent")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await change
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert "'absent'" in str(caught.value.details())


async def test_what_a_load_cannot_honour_is_refused_by_name(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity, administration=FULL) as serving:
        config = {"config": pb.ModelRepositoryParameter(string_param="{}")}
        for request, named in (
            (pb.RepositoryModelLoadRequest(model_name="identity", parameters=config), "config"),
            (pb.RepositoryModelLoadRequest(model_name="identity", repository_name="elsewhere"), "elsewhere"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await serving.stub.RepositoryModelLoad(request)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert named in str(caught.value.details())
        dependents = {"unload_dependents": pb.ModelRepositoryParameter(bool_param=False)}
        await serving.stub.RepositoryModelUnload(
            pb.RepositoryModelUnloadRequest(model_name="identity", parameters=dependents)
        )
