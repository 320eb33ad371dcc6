"""The methods of the Open Inference Protocol, and of Triton's extensions to it."""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Final, TypeVar

import grpc

from polyglot_inference.errors import OK, ModelNotFoundError, ModelNotReadyError, ServerDrainingError
from polyglot_inference.lifecycle import InFlight, Lifecycle, State
from polyglot_inference.protocol.access import Access
from polyglot_inference.protocol.calls import Call, CallEdge, Method, Terms
from polyglot_inference.protocol.form import take_raws
from polyglot_inference.protocol.inference import Inference
from polyglot_inference.protocol.lane import LaneEdge
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.protocol.streams import Answers, Send, StreamEdge
from polyglot_inference.repository.models import ModelRepository
from polyglot_inference.repository.served import VERSION, ServedModel
from polyglot_inference.runtime.executor import Tell, Work, outcome_of
from polyglot_inference.runtime.model import Stream
from polyglot_inference.runtime.shared_memory import SharedMemory
from polyglot_inference.runtime.steps import pulled
from polyglot_inference.telemetry.metrics import Metrics
from polyglot_inference.telemetry.statistics import StreamedCall
from polyglot_inference.telemetry.traces import Tracing

Result = TypeVar("Result")

SERVER_NAME: Final = "polyglot-inference"
# Tensors in raw form, and parameters of requests.
_EXTENSIONS: Final = ("binary_tensor_data", "parameters")


class InferenceService:
    """Answers calls from the repository's models.

    Parameters
    ----------
    repository
        The models.
    lifecycle
        Tells whether calls are taken.
    in_flight
        Told which calls are being served.
    metrics, tracing
        Told every call and every execution.
    extensions
        The protocol extensions that the server offers.
    memory
        Where tensors may lie; None where shared memory is off.
    """

    def __init__(
        self,
        repository: ModelRepository,
        lifecycle: Lifecycle,
        in_flight: InFlight,
        metrics: Metrics,
        tracing: Tracing,
        *,
        extensions: Sequence[str],
        memory: SharedMemory | None,
    ) -> None:
        self._repository = repository
        self._lifecycle = lifecycle
        self._in_flight = in_flight
        self._metrics = metrics
        self._tracing = tracing
        self._memory = memory
        self._extensions = sorted({*_EXTENSIONS, *extensions})

    def handlers(
        self, access: Access, max_message_bytes: int, others: Mapping[str, Method]
    ) -> tuple[grpc.GenericRpcHandler, grpc.GenericRpcHandler]:
        """The gRPC handlers of the service, with the methods that are served elsewhere, and of its lanes."""
        methods: dict[str, Method] = {
            **others,
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
        }
        terms = Terms(self._observe_infer, self._lifecycle, self._metrics, self._tracing, access, max_message_bytes)
        streams = StreamEdge(self.model_stream_infer, terms)
        calls = CallEdge(terms).handler(
            methods, {"ModelStreamInfer": streams.serve}, {"ModelInfer": self._observe_infer}
        )
        return calls, LaneEdge(self.start_infer, terms).handler()

    async def server_live(self, _request: pb.ServerLiveRequest, _call: Call) -> pb.ServerLiveResponse:
        """True: the process answers."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _request: pb.ServerReadyRequest, _call: Call) -> pb.ServerReadyResponse:
        """True in state Ready."""
        return pb.ServerReadyResponse(ready=self._lifecycle.state is State.READY)

    async def model_ready(self, request: pb.ModelReadyRequest, _call: Call) -> pb.ModelReadyResponse:
        """True for a loaded model; false, not an error, for an unknown one, as Triton answers."""
        try:
            self._repository.find(request.name, request.version)
        except (ModelNotFoundError, ModelNotReadyError):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self._lifecycle.is_draining)

    async def server_metadata(self, _request: pb.ServerMetadataRequest, _call: Call) -> pb.ServerMetadataResponse:
        """Name, version and the protocol extensions that are served."""
        return pb.ServerMetadataResponse(
            name=SERVER_NAME, version=metadata.version("polyglot-inference"), extensions=self._extensions
        )

    async def model_metadata(self, request: pb.ModelMetadataRequest, call: Call) -> pb.ModelMetadataResponse:
        """Platform and tensors, from the model itself."""
        served = self._find(request.name, request.version, call)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=served.name,
            versions=[VERSION],
            platform=served.model.platform,
            inputs=[tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in served.model.inputs],
            outputs=[tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in served.model.outputs],
        )

    async def model_infer(self, request: pb.ModelInferRequest, call: Call) -> bytes:
        """Run a model once."""
        answer: bytes = await outcome_of(functools.partial(self.start_infer, request, call))
        return answer

    def start_infer(self, request: pb.ModelInferRequest, call: Call, tell: Tell) -> Work:
        """Have a model run once."""
        return self._start(self._admitted(request, call), request, call, tell)

    def model_stream_infer(self, request: pb.ModelInferRequest, call: Call, tell: Tell) -> Work | Answers:
        """Run a model for one request of a stream: once, or for every answer of a decoupled one."""
        served = self._admitted(request, call)
        if served.model.stream:
            return functools.partial(self._stream, served, served.model.stream, request, call)
        return self._start(served, request, call, tell)

    async def _stream(
        self, served: ServedModel, stream: Stream, request: pb.ModelInferRequest, call: Call, send: Send
    ) -> bytes | None:
        """Send every answer of a decoupled model.

        Their end is told to a caller that asked for it, as Triton tells it: by an answer without outputs.
        """
        inference = self._checked(served, request)
        deadline, queued_at = _queue_deadline(call, inference), time.perf_counter_ns()
        inputs, begun, read = await served.executor.run(functools.partial(_timed, inference.tensors), deadline)
        with (
            StreamedCall(served.statistics, begun - queued_at, read - begun) as streamed,
            self._tracing.execute_span(served.name, call.trace),
        ):
            steps = stream(inputs, inference.form.output_names, inference.described())
            async with contextlib.aclosing(pulled(steps, served.executor, deadline)) as results:
                async for result in results:
                    streamed.computed()
                    answer = inference.response(result, VERSION)
                    streamed.written()
                    await send(answer)
                    streamed.sent()
            if inference.form.wants_end:
                streamed.finished()
        return inference.end(VERSION) if inference.form.wants_end else None

    def _admitted(self, request: pb.ModelInferRequest, call: Call) -> ServedModel:
        """The model of a request, which is in flight from here until `_observe_infer` is told its end."""
        if self._lifecycle.is_draining:
            raise ServerDrainingError(
                "the server is shutting down; the call was not executed, send it to another replica"
            )
        served = self._find(request.model_name, request.model_version, call)
        call.in_flight = served.in_flight
        call.in_flight.begin()
        self._in_flight.begin()
        return served

    def _start(self, served: ServedModel, request: pb.ModelInferRequest, call: Call, tell: Tell) -> Work:
        inference = self._checked(served, request)
        # What lies in shared memory is copied when the call runs; it counts, to bound what a batch copies at a time.
        size = call.size + inference.form.shared_bytes
        return served.start(inference, size, _queue_deadline(call, inference), call.trace, tell)

    def _checked(self, served: ServedModel, request: pb.ModelInferRequest) -> Inference:
        raws = take_raws(request)
        return Inference(request, raws, served.forms.of(request, raws, self._memory))

    def _find(self, name: str, version: str, call: Call) -> ServedModel:
        served = self._repository.find(name, version)
        call.model, call.version, call.statistics = served.name, VERSION, served.statistics
        return served

    def _observe_infer(self, call: Call, status: grpc.StatusCode, seconds: float) -> None:
        self._metrics.record_request(call.model, status, seconds)
        if call.statistics:
            call.statistics.ended(status is OK, round(seconds * 1e9))
        if call.in_flight:
            call.in_flight.end()
            self._in_flight.end()


def _timed(work: Callable[[], Result]) -> tuple[Result, int, int]:
    """What `work` gives, and when it began and ended, in nanoseconds of the performance counter."""
    begun = time.perf_counter_ns()
    return work(), begun, time.perf_counter_ns()


def _queue_deadline(call: Call, inference: Inference) -> float | None:
    """When a call that still waits is given up: at its deadline, or earlier by Triton's request parameter `timeout`."""
    timeout_seconds = inference.form.timeout_seconds
    if timeout_seconds is None:
        return call.deadline
    patience = time.monotonic() + timeout_seconds
    return patience if call.deadline is None else min(patience, call.deadline)
