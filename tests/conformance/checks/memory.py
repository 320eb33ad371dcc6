"""Item 18: tensors in POSIX shared memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, shared_memory

from tests.conformance.clients import Stub, Triton
from tests.conformance.suite import STUB, SYNC, check, refused

NUMBERS = np.arange(8, dtype=np.float32).reshape(1, 8)


@contextmanager
def _region(client: Triton) -> Iterator[tuple[str, Any]]:
    """A registered region with room for two tensors, the first of which holds NUMBERS."""
    name = f"conformance-{uuid.uuid4().hex}"
    handle = shared_memory.create_shared_memory_region(name, f"/{name}", 2 * NUMBERS.nbytes)
    try:
        shared_memory.set_shared_memory_region(handle, [NUMBERS])
        client.register_system_shared_memory(name, f"/{name}", 2 * NUMBERS.nbytes)
        try:
            yield name, handle
        finally:
            client.unregister_system_shared_memory(name)
    finally:
        shared_memory.destroy_shared_memory_region(handle)


def _regions(client: Triton) -> list[str]:
    found = client.json("get_system_shared_memory_status")
    return [region["name"] for region in found] if isinstance(found, list) else list(found.get("regions", {}))


@check(18, "a region is registered, listed and forgotten", SYNC)
def shared_memory_status(client: Triton) -> None:
    with _region(client) as (name, _):
        assert name in _regions(client), "the region is not listed"
    assert name not in _regions(client), "the region is listed after it was unregistered"


@check(18, "input read from, and output written to shared memory", SYNC)
def shared_memory_infer(client: Triton) -> None:
    with _region(client) as (name, handle):
        requested = client.output("y")
        requested.set_shared_memory(name, NUMBERS.nbytes, NUMBERS.nbytes)
        tensor = client.shared("x", NUMBERS, name)
        client.infer("identity-fp32", [tensor], outputs=[requested])
        written = shared_memory.get_contents_as_numpy(handle, np.float32, NUMBERS.shape, offset=NUMBERS.nbytes)
        np.testing.assert_array_equal(written, NUMBERS)


@check(18, "a region registered twice is refused", SYNC)
def shared_memory_twice(client: Triton) -> None:
    with _region(client) as (name, _), refused(400):
        client.register_system_shared_memory(name, f"/{name}", 2 * NUMBERS.nbytes)


@check(18, "a tensor beyond the region's end, or in an unknown region, is refused", SYNC)
def shared_memory_bounds(client: Triton) -> None:
    with _region(client) as (name, _):
        for region, offset in ((name, 2 * NUMBERS.nbytes - 4), ("absent", 0)):
            tensor = client.shared("x", NUMBERS, region, offset)
            with refused(400, 404):
                client.infer("identity-fp32", [tensor])


@check(18, "memory that does not exist cannot be registered", SYNC)
def shared_memory_absent(client: Triton) -> None:
    with refused(400, naming="absent"):
        client.register_system_shared_memory("absent", "/conformance-absent", 64)


@check(18, "CUDA shared memory says why it is not offered, or works", [STUB])
def cuda_shared_memory(client: Stub) -> None:
    request = service_pb2.CudaSharedMemoryStatusRequest()
    try:
        client.CudaSharedMemoryStatus(request)
    except InferenceServerException:
        with refused(501, naming="CUDA shared memory"):
            client.CudaSharedMemoryStatus(request)
