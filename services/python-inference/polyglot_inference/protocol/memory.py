"""Triton's shared memory extensions: registering regions, and the tensors of a request that lie in one."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np

from polyglot_inference.errors import InferenceError, InvalidTensorError, UnsupportedError
from polyglot_inference.protocol import codec
from polyglot_inference.protocol.calls import Call, Method
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.runtime.shared_memory import Region, SharedMemory
from polyglot_inference.telemetry.metrics import Metrics
from polyglot_inference.tensors import BYTES, Array

EXTENSION: Final = "system_shared_memory"
"""What the server's metadata names."""

REGION: Final = "shared_memory_region"
_OFFSET: Final = "shared_memory_offset"
_BYTE_SIZE: Final = "shared_memory_byte_size"

# The gateway's words, too: who cannot register a region and who names one in a request learns the same.
_OFF: Final = (
    "system shared memory is off: it needs sharedMemory.enabled in the settings of the server and of a gateway in front"
    " of it, both on one machine (backend.sockets); send the tensors in the request"
)

_log = logging.getLogger(__name__)

Tensor = pb.ModelInferRequest.InferInputTensor | pb.ModelInferRequest.InferRequestedOutputTensor


class SharedMemoryMethods:
    """Registers regions.

    Parameters
    ----------
    memory
        The regions; None where shared memory is off.
    metrics
        Told how many there are.
    """

    def __init__(self, memory: SharedMemory | None, metrics: Metrics) -> None:
        self._memory = memory
        self._metrics = metrics

    def methods(self) -> dict[str, Method]:
        """The methods by the names of their RPCs."""
        return {
            "SystemSharedMemoryStatus": self.status,
            "SystemSharedMemoryRegister": self.register,
            "SystemSharedMemoryUnregister": self.unregister,
            "CudaSharedMemoryStatus": self.refuse_cuda,
            "CudaSharedMemoryRegister": self.refuse_cuda,
            "CudaSharedMemoryUnregister": self.refuse_cuda,
        }

    async def status(
        self, request: pb.SystemSharedMemoryStatusRequest, _call: Call
    ) -> pb.SystemSharedMemoryStatusResponse:
        """One region, or all."""
        memory = self._on()
        regions = [memory.region(request.name)] if request.name else memory.regions()
        status = pb.SystemSharedMemoryStatusResponse.RegionStatus
        return pb.SystemSharedMemoryStatusResponse(
            regions={
                region.name: status(name=region.name, key=region.key, offset=region.offset, byte_size=region.byte_size)
                for region in regions
            }
        )

    async def register(
        self, request: pb.SystemSharedMemoryRegisterRequest, _call: Call
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Register a region."""
        memory = self._on()
        memory.register(request.name, request.key, request.offset, request.byte_size)
        self._metrics.shared_memory_regions.set(len(memory))
        _log.info("Registered shared memory", extra={"region": request.name, "key": request.key})
        return pb.SystemSharedMemoryRegisterResponse()

    async def unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, _call: Call
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Forget a region, or all; calls that use it finish."""
        memory = self._on()
        memory.unregister(request.name)
        self._metrics.shared_memory_regions.set(len(memory))
        _log.info("Unregistered shared memory", extra={"region": request.name or "all"})
        return pb.SystemSharedMemoryUnregisterResponse()

    async def refuse_cuda(self, _request: object, _call: Call) -> NoReturn:
        """Tensors are read and written by the CPU."""
        raise UnsupportedError(
            "CUDA shared memory is not offered: tensors are read and written by the CPU; use system shared memory"
        )

    def _on(self) -> SharedMemory:
        if self._memory is None:
            raise UnsupportedError(_OFF)
        return self._memory


@dataclass(frozen=True, slots=True)
class SharedTensor:
    """Where a tensor of a request lies, or shall lie."""

    owner: str
    region: Region
    offset: int
    byte_size: int

    def read(self) -> memoryview:
        """Copy what is there now.

        Raises
        ------
        InvalidTensorError
            The region's object has become smaller.
        """
        try:
            return self.region.read(self.offset, self.byte_size)
        except InferenceError as error:
            raise InvalidTensorError(f"{self.owner}: {error.message}") from None

    def write(self, tensor: Array, datatype: str, output: pb.ModelInferResponse.InferOutputTensor) -> None:
        """Write an output, and say in the response where it is.

        Raises
        ------
        InvalidTensorError
            There is not enough room.
        """
        data = codec.encode_raw(tensor, datatype) if datatype == BYTES else tensor.reshape(-1).view(np.uint8).data
        if len(data) > self.byte_size:
            raise InvalidTensorError(
                f"{self.owner} has {len(data)} bytes, its {_BYTE_SIZE} is {self.byte_size}; give it that much room"
            )
        try:
            self.region.write(self.offset, data)
        except InferenceError as error:
            raise InvalidTensorError(f"{self.owner}: {error.message}") from None
        output.parameters[REGION].string_param = self.region.name
        output.parameters[_OFFSET].int64_param = self.offset
        output.parameters[_BYTE_SIZE].int64_param = len(data)


def shared_tensors(role: str, tensors: Iterable[Tensor], memory: SharedMemory | None) -> Mapping[str, SharedTensor]:
    """The tensors of a request that lie in shared memory, by name.

    Raises
    ------
    InvalidTensorError
        A region is unknown, the tensor's part is not within it, or all of them together have too many bytes.
    UnsupportedError
        Shared memory is off.
    """
    shared = {
        tensor.name: _shared(f"{role} {tensor.name!r}", tensor, memory)
        for tensor in tensors
        if tensor.parameters and REGION in tensor.parameters
    }
    if memory is not None:
        _require_bounded(role, shared.values(), memory.max_bytes)
    return shared


def _shared(owner: str, tensor: Tensor, memory: SharedMemory | None) -> SharedTensor:
    if memory is None:
        raise UnsupportedError(f"{owner}: {_OFF}")
    name = tensor.parameters[REGION].string_param
    offset, size = (
        tensor.parameters[key].int64_param if key in tensor.parameters else 0 for key in (_OFFSET, _BYTE_SIZE)
    )
    if offset < 0 or size < 0:
        raise InvalidTensorError(f"{owner}: {_OFFSET} and {_BYTE_SIZE} must not be negative")
    try:
        region = memory.region(name)
        region.require(offset, size)  # before the model runs
    except InferenceError as error:
        raise InvalidTensorError(f"{owner}: {error.message}") from None
    return SharedTensor(owner, region, offset, size)


def _require_bounded(role: str, tensors: Collection[SharedTensor], max_bytes: int) -> None:
    size = sum(tensor.byte_size for tensor in tensors)
    if size > max_bytes:
        whose = next(iter(tensors)).owner if len(tensors) == 1 else f"the {role}s in shared memory"
        raise InvalidTensorError(
            f"{whose}: {_BYTE_SIZE} is {size}{' in all' if len(tensors) > 1 else ''}, more than the server's setting"
            f" sharedMemory.maxBytes = {max_bytes} allows; use less, or raise it"
        )
