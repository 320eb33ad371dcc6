"""Tensors in shared memory, over a real channel."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.shared_memory import FOLDER
from polyglot_inference.settings import ModelSettings, QueueSettings, SharedMemorySettings

if TYPE_CHECKING:
    from tests.conftest import Gate, Serve, Serving, WritePython

X = np.arange(8, dtype=np.float32).reshape(2, 4)
ON = SharedMemorySettings.model_construct(enabled=True, key_prefix="/polyglot-test-", max_bytes=2000)
ECHO = """
    class Model:
        inputs = [dict(name="text", datatype="BYTES", shape=[-1]), dict(name="number", datatype="INT64", shape=[-1])]
        outputs = inputs

        def load(self, path):
            pass

        def predict(self, inputs):
            return inputs
"""


@pytest.fixture
def file() -> Iterator[Path]:
    """A shared memory object of 1000 bytes that begins with X."""
    made = FOLDER / f"polyglot-test-{uuid.uuid4().hex}"
    fill(made, X.tobytes())
    yield made
    made.unlink()


def fill(file: Path, data: bytes) -> None:
    """Write 1000 bytes that begin with these."""
    file.write_bytes(data.ljust(1000, b"\0"))


def content(file: Path) -> bytes:
    return file.read_bytes()


async def register(serving: Serving, file: Path, name: str = "r", byte_size: int = 1000) -> None:
    request = pb.SystemSharedMemoryRegisterRequest(name=name, key=f"/{file.name}", byte_size=byte_size)
    await serving.stub.SystemSharedMemoryRegister(request)


def shared(region: str, byte_size: int, offset: int = 0) -> dict[str, pb.InferParameter]:
    return {
        "shared_memory_region": pb.InferParameter(string_param=region),
        "shared_memory_byte_size": pb.InferParameter(int64_param=byte_size),
        "shared_memory_offset": pb.InferParameter(int64_param=offset),
    }


def infer_request(model: str, name: str, datatype: str, array: np.ndarray, region: str = "r") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name=name, datatype=datatype, shape=array.shape, parameters=shared(region, array.nbytes))
    return request


async def test_tensors_are_read_from_and_written_to_a_region(serve: Serve, identity: ModelSettings, file: Path) -> None:
    async with serve(identity, shared_memory=ON) as serving:
        await register(serving, file)
        request = infer_request("identity", "x", "FP32", X)
        request.outputs.add(name="y", parameters=shared("r", X.nbytes, 100))
        answer = await serving.stub.ModelInfer(request)
    output = answer.outputs[0]
    assert (output.name, list(output.shape), list(answer.raw_output_contents)) == ("y", [2, 4], [b""])
    assert output.parameters["shared_memory_region"].string_param == "r"
    assert output.parameters["shared_memory_byte_size"].int64_param == X.nbytes
    assert content(file)[100 : 100 + X.nbytes] == X.tobytes()


async def test_an_input_in_shared_memory_goes_with_raw_and_typed_ones(
    serve: Serve, python_model: WritePython, file: Path
) -> None:
    text = b"\x02\0\0\0ab\0\0\0\0"
    fill(file, b"\0" + text)
    async with serve(python_model("echo", ECHO), shared_memory=ON) as serving:
        await register(serving, file)
        for raw in (True, False):
            request = pb.ModelInferRequest(model_name="echo")
            request.inputs.add(name="text", datatype="BYTES", shape=[2], parameters=shared("r", len(text), 1))
            number = request.inputs.add(name="number", datatype="INT64", shape=[1])
            if raw:
                request.raw_input_contents.append((7).to_bytes(8, "little"))
            else:
                number.contents.int64_contents.append(7)
            request.outputs.add(name="text", parameters=shared("r", 20, 100))
            request.outputs.add(name="number")
            answer = await serving.stub.ModelInfer(request)
            assert content(file)[100 : 100 + len(text)] == text
            assert answer.outputs[0].parameters["shared_memory_byte_size"].int64_param == len(text)
            if raw:
                assert list(answer.raw_output_contents) == [b"", (7).to_bytes(8, "little")]
            else:
                assert list(answer.outputs[1].contents.int64_contents) == [7]


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        (shared("absent", 32), "input 'x': shared memory region 'absent' is not registered"),
        (shared("r", 32, 999), "input 'x': 32 bytes from 999 exceed shared memory region 'r' of 1000 bytes"),
        (shared("r", 32, 2**63 - 1), "exceed shared memory region"),
        (shared("r", 32, -1), "must not be negative"),
        (shared("huge", 2001), "input 'x': shared_memory_byte_size is 2001, more than the server's setting"),
        (shared("huge", 2**40), "sharedMemory.maxBytes = 2000 allows; use less, or raise it"),
        (shared("r", 31), "input 'x': 31 bytes of raw data, but shape [2, 4] of FP32 needs 32"),
    ],
)
async def test_a_wrong_part_of_a_region_is_refused(
    serve: Serve, identity: ModelSettings, file: Path, parameters: dict[str, pb.InferParameter], complaint: str
) -> None:
    os.truncate(file, 2**40)  # sparse: it costs its caller nothing
    async with serve(identity, shared_memory=ON) as serving:
        await register(serving, file)
        await register(serving, file, "huge", 2**40)
        request = pb.ModelInferRequest(model_name="identity")
        request.inputs.add(name="x", datatype="FP32", shape=[2, 4], parameters=parameters)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert complaint in str(caught.value.details())


async def test_tensors_in_shared_memory_are_bounded_by_their_sum_before_the_model_runs(
    serve: Serve, python_model: WritePython, file: Path
) -> None:
    os.truncate(file, 4000)
    async with serve(python_model("echo", ECHO), shared_memory=ON) as serving:
        await register(serving, file, byte_size=4000)
        inputs, outputs = (pb.ModelInferRequest(model_name="echo") for _ in range(2))
        for request, sizes in ((inputs, (1200, 808)), (outputs, (8, 8))):
            request.inputs.add(name="text", datatype="BYTES", shape=[2], parameters=shared("r", sizes[0], 100))
            request.inputs.add(name="number", datatype="INT64", shape=[sizes[1] // 8], parameters=shared("r", sizes[1]))
        for name in ("text", "number"):
            outputs.outputs.add(name=name, parameters=shared("r", 1001, 2000))
        for request, complaint in (
            (inputs, "the inputs in shared memory: shared_memory_byte_size is 2008 in all, more than"),
            (outputs, "the outputs in shared memory: shared_memory_byte_size is 2002 in all, more than"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await serving.stub.ModelInfer(request)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert complaint in str(caught.value.details())
        outputs.outputs[0].parameters["shared_memory_byte_size"].int64_param = 999
        await serving.stub.ModelInfer(outputs)


async def test_inputs_in_shared_memory_count_with_the_bytes_that_wait(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], file: Path
) -> None:
    numbers = np.zeros(100, dtype=np.int64)
    async with serve(
        gated, shared_memory=ON, queue=QueueSettings.model_construct(max_size=10, max_bytes=1500)
    ) as serving:
        await register(serving, file)
        calls = [asyncio.ensure_future(serving.stub.ModelInfer(infer_request("gated", "x", "INT64", numbers)))]
        await gate().started()
        calls.append(asyncio.ensure_future(serving.stub.ModelInfer(infer_request("gated", "x", "INT64", numbers))))
        await serving.stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())  # it waits before the next
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.ModelInfer(infer_request("gated", "x", "INT64", numbers))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "would exceed queue.maxBytes = 1500" in str(caught.value.details())
        gate().release(2)
        await asyncio.gather(*calls)


async def test_an_output_that_does_not_fit_and_an_input_in_two_places_are_refused(
    serve: Serve, identity: ModelSettings, file: Path
) -> None:
    async with serve(identity, shared_memory=ON) as serving:
        await register(serving, file)
        small, twice, raw = (infer_request("identity", "x", "FP32", X) for _ in range(3))
        small.outputs.add(name="y", parameters=shared("r", 31, 100))
        twice.inputs[0].contents.fp32_contents.extend(X.reshape(-1).tolist())
        raw.raw_input_contents.append(X.tobytes())
        for request, complaint in (
            (small, "output 'y' has 32 bytes, its shared_memory_byte_size is 31"),
            (twice, "input 'x' has contents and lies in shared memory"),
            (raw, "raw_input_contents has 1 entries for 0 inputs; it needs one per input that is not in shared memory"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await serving.stub.ModelInfer(request)
            assert complaint in str(caught.value.details())
        assert content(file)[100:132] == bytes(32)


async def test_a_call_that_waits_keeps_the_region_that_is_unregistered(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], file: Path
) -> None:
    numbers = np.array([1, 2], dtype=np.int64)
    fill(file, numbers.tobytes())
    async with serve(gated, shared_memory=ON) as serving:
        await register(serving, file)
        calls = []
        for number in range(2):
            request = infer_request("gated", "x", "INT64", numbers)
            request.outputs.add(name="y", parameters=shared("r", 16, 100 * (number + 1)))
            calls.append(asyncio.ensure_future(serving.stub.ModelInfer(request)))
        await gate().started()
        await serving.stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest())
        gate().release(2)
        await asyncio.gather(*calls)
    for start in (100, 200):
        assert content(file)[start : start + 16] == (numbers + 1).tobytes()


async def test_a_region_that_shrinks_under_a_model_fails_its_calls_alone(
    serve: Serve, gated: ModelSettings, gate: Callable[[], Gate], file: Path
) -> None:
    numbers = np.array([1, 2], dtype=np.int64)
    fill(file, numbers.tobytes())
    async with serve(gated, shared_memory=ON) as serving:
        await register(serving, file)
        writes, reads = infer_request("gated", "x", "INT64", numbers), infer_request("gated", "x", "INT64", numbers)
        writes.outputs.add(name="y", parameters=shared("r", 16, 100))
        calls = [asyncio.ensure_future(serving.stub.ModelInfer(request)) for request in (writes, reads)]
        await gate().started()
        await serving.stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())  # both are let in before it
        os.truncate(file, 8)
        gate().release()
        for call, owner in zip(calls, ("output 'y'", "input 'x'"), strict=True):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert str(caught.value.details()).startswith(f"{owner}: shared memory region 'r': ")
            assert "has become smaller than what was registered" in str(caught.value.details())
        assert (await serving.stub.ServerLive(pb.ServerLiveRequest())).live


async def test_regions_are_listed_counted_and_forgotten(serve: Serve, identity: ModelSettings, file: Path) -> None:
    async with serve(identity, shared_memory=ON) as serving:

        def counted() -> float | None:
            return serving.server.metrics.registry.get_sample_value("polyglot_inference_shared_memory_regions")

        extensions = (await serving.stub.ServerMetadata(pb.ServerMetadataRequest())).extensions
        assert "system_shared_memory" in extensions
        await register(serving, file)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await register(serving, file)
        assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
        found = (await serving.stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name="r"))).regions
        assert (found["r"].key, found["r"].offset, found["r"].byte_size) == (f"/{file.name}", 0, 1000)
        assert counted() == 1
        await serving.stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="r"))
        assert not (await serving.stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest())).regions
        assert counted() == 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await serving.stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name="r"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_shared_memory_is_off_by_default_and_cuda_memory_always(serve: Serve, identity: ModelSettings) -> None:
    async with serve(identity) as serving:
        extensions = (await serving.stub.ServerMetadata(pb.ServerMetadataRequest())).extensions
        assert "system_shared_memory" not in extensions
        for call, complaint in (
            (serving.stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest()), "sharedMemory.enabled"),
            (serving.stub.ModelInfer(infer_request("identity", "x", "FP32", X)), "sharedMemory.enabled"),
            (serving.stub.CudaSharedMemoryStatus(pb.CudaSharedMemoryStatusRequest()), "CUDA shared memory"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert complaint in str(caught.value.details())
