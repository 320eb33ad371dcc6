"""Real models on disk, and the real server on a free port of 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import hypothesis
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx import TensorProto, helper
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.protocol.pb import grpc_service_pb2_grpc as pb_grpc
from polyglot_inference.server import InferenceServer
from polyglot_inference.settings import (
    AdministrationSettings,
    BatchingSettings,
    DrainSettings,
    GrpcSettings,
    MetricsSettings,
    ModelSettings,
    QueueSettings,
    Settings,
    SharedMemorySettings,
)
from polyglot_inference.telemetry.logs import LogControl, LogSettings
from polyglot_inference.telemetry.traces import Tracing

# How long an example takes says more about the machine's other work than about the code.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

QUEUE = QueueSettings()

# A model whose calls start and end when the test says so. Its module's globals are the test's handle on it.
GATED = """
    import threading
    from polyglot_inference import TensorSpec

    started = threading.Semaphore(0)
    released = threading.Semaphore(0)
    executed = []

    class Model:
        inputs = [TensorSpec("x", "INT64", [-1])]
        outputs = [TensorSpec("y", "INT64", [-1])]

        def load(self, path):
            pass

        def predict(self, inputs):
            executed.append(inputs["x"].tolist())
            started.release()
            released.acquire(timeout=20)
            return {"y": inputs["x"] + 1}
"""


class WritePython(Protocol):
    """Writes a model.py and returns the model's settings."""

    def __call__(self, name: str, source: str) -> ModelSettings: ...


class WriteOnnx(Protocol):
    """Writes a model.onnx that returns its inputs, and returns the model's settings."""

    def __call__(self, name: str, element_type: int, shape: Sequence[int | str]) -> ModelSettings: ...


@pytest.fixture
def python_model(tmp_path: Path) -> WritePython:
    def write(name: str, source: str) -> ModelSettings:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.py").write_text(textwrap.dedent(source))
        return ModelSettings(name=name, format="Python", path=folder)

    return write


@pytest.fixture
def onnx_identity(tmp_path: Path) -> WriteOnnx:
    def write(name: str, element_type: int, shape: Sequence[int | str]) -> ModelSettings:
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            name,
            [helper.make_tensor_value_info("x", element_type, shape)],
            [helper.make_tensor_value_info("y", element_type, shape)],
        )
        folder = tmp_path / name
        folder.mkdir()
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        onnx.save(model, folder / "model.onnx")
        return ModelSettings(name=name, format="ONNX", path=folder)

    return write


@pytest.fixture
def identity(onnx_identity: WriteOnnx) -> ModelSettings:
    """An ONNX model `identity`: x FP32[-1, 4] → y FP32[-1, 4]."""
    return onnx_identity("identity", TensorProto.FLOAT, ["rows", 4])


@dataclass
class Gate:
    """The handle on a GATED model."""

    module: Any

    async def started(self) -> None:
        """Wait until one more call runs."""
        assert await asyncio.to_thread(self.module.started.acquire, timeout=20), "no call started within 20 s"

    def release(self, calls: int = 1) -> None:
        """Let calls end."""
        self.module.released.release(calls)

    @property
    def executed(self) -> list[list[int]]:
        """The inputs of all calls that ran."""
        return list(self.module.executed)


@pytest.fixture
def gated(python_model: WritePython) -> ModelSettings:
    """A GATED model `gated`: x INT64[-1] → y INT64[-1]."""
    return python_model("gated", GATED)


@pytest.fixture
def batched(gated: ModelSettings) -> ModelSettings:
    """The GATED model, run with up to 8 rows of several calls."""
    return gated.model_copy(update={"batching": BatchingSettings.model_validate({"maxSize": 8})})


@pytest.fixture
def gate() -> Callable[[], Gate]:
    """The handle on the model `gated`, once it is loaded."""
    return lambda: Gate(sys.modules["polyglot_models_gated.model"])


@dataclass
class Serving:
    """A server that listens, and a client of it."""

    server: InferenceServer
    channel: grpc.aio.Channel

    @property
    def stub(self) -> pb_grpc.GRPCInferenceServiceAsyncStub:
        """The inference service."""
        return pb_grpc.GRPCInferenceServiceStub(self.channel)  # type: ignore[no-any-return,unused-ignore]

    async def health(self, service: str = "") -> int:
        """What grpc.health.v1 says of a service."""
        request = health_pb2.HealthCheckRequest(service=service)
        return int((await self.health_stub.Check(request)).status)

    @property
    def health_stub(self) -> Any:
        """The health service; its published stubs declare no methods."""
        return health_pb2_grpc.HealthStub(self.channel)

    def count(self, model: str, code: str) -> float:
        """Counted ModelInfer calls."""
        labels = {"model": model, "code": code}
        return self.server.metrics.registry.get_sample_value("polyglot_inference_requests_total", labels) or 0.0


class Serve(Protocol):
    """Starts a server, loads its models unless told otherwise, and stops it after the block."""

    def __call__(
        self,
        *models: ModelSettings,
        load: bool = True,
        max_message_bytes: int = 2**20,
        queue: QueueSettings = QUEUE,
        tracing: Tracing | None = None,
        administration: AdministrationSettings | None = None,
        shared_memory: SharedMemorySettings | None = None,
    ) -> AbstractAsyncContextManager[Serving]: ...


@pytest.fixture
def serve() -> Serve:
    @contextlib.asynccontextmanager
    async def start(
        *models: ModelSettings,
        load: bool = True,
        max_message_bytes: int = 2**20,
        queue: QueueSettings = QUEUE,
        tracing: Tracing | None = None,
        administration: AdministrationSettings | None = None,
        shared_memory: SharedMemorySettings | None = None,
    ) -> AsyncIterator[Serving]:
        settings = Settings.model_construct(
            models=list(models),
            grpc=GrpcSettings.model_construct(listen=["127.0.0.1:0"], max_message_bytes=max_message_bytes),
            metrics=MetricsSettings(host="127.0.0.1", port=0),
            drain=DrainSettings(),
            administration=administration or AdministrationSettings(),
            queue=queue,
            shared_memory=shared_memory or SharedMemorySettings(),
        )
        logs = LogControl(logging.getLogger("tests"), logging.NullHandler(), LogSettings.of_level("INFO"))
        server = InferenceServer(settings, tracing or Tracing(None), logs)
        await server.start()
        try:
            if load:
                await server.load()
            async with grpc.aio.insecure_channel(
                server.grpc_address, options=[("grpc.max_send_message_length", -1)]
            ) as channel:
                yield Serving(server, channel)
        finally:
            await server.stop(None)

    return start


def raw_request(model: str, name: str, datatype: str, tensor: np.ndarray, **fields: Any) -> pb.ModelInferRequest:
    """A request with one raw numeric tensor."""
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[tensor.tobytes()], **fields)
    request.inputs.add(name=name, datatype=datatype, shape=tensor.shape)
    return request


class RawRequest(Protocol):
    """Makes a request with one raw numeric tensor."""

    def __call__(
        self, model: str, name: str, datatype: str, tensor: np.ndarray, **fields: Any
    ) -> pb.ModelInferRequest: ...


@pytest.fixture(name="raw_request")
def raw_request_fixture() -> RawRequest:
    return raw_request


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc,unused-ignore]
    """A real OTLP endpoint that keeps what it is sent."""

    def __init__(self) -> None:
        self._requests: list[Any] = []
        self._server = grpc.server(ThreadPoolExecutor(1))
        register: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        register(self, self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: Any, _context: grpc.ServicerContext) -> Any:  # noqa: N802 - the RPC's name
        self._requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        """The spans received so far."""
        return [
            Span(
                service=next(a.value.string_value for a in group.resource.attributes if a.key == "service.name"),
                name=span.name,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                kind=span.kind,
                error=span.status.code == 2,
                attributes={a.key: a.value.string_value or a.value.int_value for a in span.attributes},
                links=[link.span_id.hex() for link in span.links],
            )
            for request in self._requests
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self._server.stop(None).wait()


@dataclass
class Span:
    """One received span."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    error: bool
    attributes: dict[str, str | int]
    links: list[str]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()
