"""The edge of every call: size limits, spans, observers, and the one place where errors become statuses and log lines.

Methods take and give bytes, so that a request over the limit, or one that is no protobuf message, gets an error that
says so; grpc-core would cut such calls off with a text of its own.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from opentelemetry.context import Context as TraceContext
from opentelemetry.context import attach

from polyglot_inference.errors import (
    OK,
    InferenceError,
    InternalError,
    InvalidRequestError,
    MessageTooLargeError,
    PermissionDeniedError,
)
from polyglot_inference.lifecycle import InFlight, Lifecycle
from polyglot_inference.protocol.access import Access, Guard
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.telemetry.metrics import Metrics
from polyglot_inference.telemetry.statistics import ModelStatistics
from polyglot_inference.telemetry.traces import NO_CALLER, Tracing, caller_context, current, end_span, trace_id_in

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICE_NAME: Final[str] = SERVICE.full_name

# What a failure has beside its text: in the trailers of a call, in the parameters of an answer in a stream.
CODE_KEY: Final = "x-error-code"
TRACE_ID_KEY: Final = "x-trace-id"

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(slots=True)
class Call:
    """What a method knows of its call beside the request.

    `deadline` is in monotonic seconds, None without one; `trace` the context with the call's span; `size` the request's
    bytes, nearly all of which is tensors; `started` by the performance counter. The method fills in the model's name,
    version and statistics once it is found, and who counts the model's calls.
    """

    deadline: float | None
    request_id: str
    trace: TraceContext
    size: int = 0
    started: float = field(default_factory=time.perf_counter)
    model: str = ""
    version: str = ""
    statistics: ModelStatistics | None = None
    in_flight: InFlight | None = None

    @property
    def status_if_dropped(self) -> grpc.StatusCode:
        """How it ends when nobody waits for its answer: the caller is gone, or the deadline passed."""
        expired = self.deadline is not None and time.monotonic() >= self.deadline
        return grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED

    def end(self, status: grpc.StatusCode, text: str, observe: "Observer | None") -> None:
        """Trace and count its end."""
        end_span(self.trace, status, text, self.model, self.version)
        if observe:
            observe(self, status, time.perf_counter() - self.started)


Parsed = TypeVar("Parsed", bound=Message)
# Where an answer is bytes, it is written already.
Method = Callable[[Any, Call], Awaitable[Message | bytes]]
ServeStream = Callable[[object, Context], Awaitable[None]]
Observer = Callable[[Call, grpc.StatusCode, float], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms on which calls are served, whether they come by themselves or as messages of a stream.

    Parameters
    ----------
    observe
        Told call, status and duration in seconds of every inference.
    lifecycle
        Ends streams when the process drains.
    metrics
        Told what is open, and answers in streams.
    tracing
        Makes each call's server span.
    access
        Tells which callers are let in.
    max_message_bytes
        Largest request and largest response.
    """

    observe: Observer
    lifecycle: Lifecycle
    metrics: Metrics
    tracing: Tracing
    access: Access
    max_message_bytes: int

    def refusal(self, rpc: str, name: str, context: Context) -> PermissionDeniedError | None:
        """Why a stream of calls of `rpc` is not let in, which is logged under `name`; None where it is."""
        guard = self.access.guard(rpc)
        if guard:
            metadata = text_metadata(context)
            try:
                guard(metadata)
            except PermissionDeniedError as refusal:
                log_failure(name, Call(None, metadata.get("x-request-id", ""), NO_CALLER), refusal, refusal)
                return refusal
        return None


class CallEdge:
    """Turns typed methods into gRPC handlers.

    Parameters
    ----------
    terms
        On which calls are served.
    """

    def __init__(self, terms: Terms) -> None:
        self._tracing = terms.tracing
        self._access = terms.access
        self._max_message_bytes = terms.max_message_bytes

    def handler(
        self, methods: Mapping[str, Method], streams: Mapping[str, ServeStream], observers: Mapping[str, Observer]
    ) -> grpc.GenericRpcHandler:
        """Serve the whole inference service: every RPC is in `methods` or in `streams`.

        An observer is told call, status and duration in seconds of every call of its RPC.
        """
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for descriptor in SERVICE.methods:
            name = descriptor.name
            if name in streams:
                handlers[name] = grpc.stream_stream_rpc_method_handler(streams[name])
                continue
            request_type = getattr(pb, descriptor.input_type.name)
            guard, observer = self._access.guard(name), observers.get(name)
            serve = self._serving(name, guard, request_type.FromString, methods[name], observer)
            handlers[name] = grpc.unary_unary_rpc_method_handler(serve)
        return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)

    def _serving(
        self,
        name: str,
        guard: Guard | None,
        parse: Callable[[bytes], Message],
        method: Method,
        observe: Observer | None,
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def serve(data: bytes, context: Context) -> bytes:
            metadata = text_metadata(context)
            model = traced_model(parse, data) if self._tracing.sampler.knows_models else ""
            trace = self._tracing.call_context(SERVICE_NAME, name, caller_context(metadata), model)
            attach(trace)  # for good: the call has a task of its own
            call = Call(deadline_of(context), metadata.get("x-request-id", ""), trace, len(data))
            status, text = OK, ""
            try:
                if guard:
                    guard(metadata)
                require_size("request", len(data), self._max_message_bytes)
                response = await method(parsed(parse, data), call)
                return self._serialised(response)
            except asyncio.CancelledError:
                # Nobody reads an answer; the call is counted and traced.
                status = call.status_if_dropped
                raise
            except Exception as error:  # noqa: BLE001 - the edge: every fault gets a status and a log line
                failure = failure_of(error)
                status, text = failure.status, failure.message
                log_failure(name, call, failure, error)
                await abort(context, failure, trace)
            finally:
                call.end(status, text, observe)

        return serve

    def _serialised(self, response: Message | bytes) -> bytes:
        data = response if isinstance(response, bytes) else response.SerializeToString()
        require_size("response", len(data), self._max_message_bytes)
        return data


def require_size(what: str, size: int, max_message_bytes: int) -> None:
    """Raise MessageTooLargeError for a message over the limit."""
    if size > max_message_bytes:
        raise MessageTooLargeError(
            f"the {what} has {size} bytes, more than grpc.maxMessageBytes = {max_message_bytes} allows"
        )


def parsed(parse: Callable[[bytes], Parsed], data: bytes) -> Parsed:
    """The message, or InvalidRequestError where the bytes are none."""
    try:
        return parse(data)
    except DecodeError as error:
        raise InvalidRequestError(f"the request is no valid protobuf message: {error}") from None


def traced_model(parse: Callable[[bytes], Message], data: bytes) -> str:
    """The model of an inference, to be looked for only where one may be traced otherwise than others."""
    try:
        request = parse(data)
    except DecodeError:
        return ""
    return request.model_name if isinstance(request, pb.ModelInferRequest) else ""


def failure_of(error: Exception) -> InferenceError:
    """What the caller learns of an error: all of a typed one, nothing of a fault of ours."""
    return error if isinstance(error, InferenceError) else InternalError("internal error; the server's log has more")


def deadline_of(context: Context) -> float | None:
    """The caller's deadline in monotonic seconds, None where it gave none."""
    remaining: float | None = context.time_remaining()
    return None if remaining is None else time.monotonic() + remaining


def text_metadata(context: Context) -> dict[str, str]:
    """The caller's metadata without the binary ones."""
    metadata: Iterable[tuple[str, str | bytes]] = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}


async def abort(context: Context, failure: InferenceError, trace: TraceContext = NO_CALLER) -> NoReturn:
    """End the call with the failure's status, text and trailers."""
    await context.abort(failure.status, failure.message, trailers_of(failure, trace))


def trailers_of(failure: InferenceError, trace: TraceContext) -> tuple[tuple[str, str], ...]:
    """What the caller learns of a call's failure beside status and text."""
    trace_id = trace_id_in(trace)
    traced = ((TRACE_ID_KEY, trace_id),) if trace_id else ()
    return ((CODE_KEY, failure.code), *failure.trailers, *traced)


def log_failure(name: str, call: Call, failure: InferenceError, error: Exception) -> None:
    """Log a failed call once, within its trace, with the stack where the fault is ours or the model's."""
    ours = failure.status is grpc.StatusCode.INTERNAL
    with current(call.trace):
        _log.log(
            logging.ERROR if ours else logging.WARNING,
            "Failed %s: %s",
            name,
            failure.message,
            extra={
                "model": call.model,
                "code": failure.code,
                "status": failure.status.name,
                "request_id": call.request_id,
            },
            exc_info=error if ours else None,
        )
