"""The edge of ModelStreamInfer: a stream of requests, each answered by any number of messages.

The rules are Triton's (triton-inference-server/server, src/grpc/stream_infer_handler.cc): the requests of a stream run
beside each other, whatever models they name; an answer carries its request's id and says in `triton_final_response`
whether it is the last; the failure of a request is an answer with `error_message`, and the stream stays open, unless
its caller sent the metadata `triton_grpc_error: true`: then the failure is the status of the stream. Requests without
an id that have one answer each are answered in their order: their callers have nothing else to tell answers apart by.

A model is asked for its next answer when the one before is written: a caller that reads slowly slows its model down,
and nothing piles up here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import grpc

from polyglot_inference.errors import InferenceError, PermissionDeniedError, ServerDrainingError
from polyglot_inference.lifecycle import Lifecycle
from polyglot_inference.protocol.access import Guard
from polyglot_inference.protocol.calls import (
    CODE_KEY,
    SERVICE,
    TRACE_ID_KEY,
    Call,
    Context,
    Observer,
    abort,
    deadline_of,
    failure_of,
    log_failure,
    parsed,
    require_size,
    text_metadata,
    traced_model,
)
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.telemetry.metrics import Metrics
from polyglot_inference.telemetry.traces import Tracing, caller_context, current_trace_id, record_status

RPC: Final = "ModelStreamInfer"
# Requests of one stream that are served at a time. More are left unread, and flow control holds their sender back.
MOST_IN_FLIGHT: Final = 1024

Send = Callable[[pb.ModelInferResponse], Awaitable[None]]
StreamMethod = Callable[[pb.ModelInferRequest, Call, Send], Awaitable[pb.ModelInferResponse | None]]
"""Serves one request: sends every answer but the last one, which it returns; None where the last one is sent, too."""


class StreamEdge:
    """Serves streams by a method for one request.

    Parameters
    ----------
    method
        Serves one request.
    observe
        Told call, status and duration in seconds of every request.
    lifecycle
        Ends the streams when the process drains.
    metrics
        Told open streams and answers.
    tracing
        Makes each request's server span, a child of the stream's caller.
    guard
        What a stream must pass; None where streams are open to all.
    max_message_bytes
        Largest request and largest answer.
    """

    def __init__(
        self,
        *,
        method: StreamMethod,
        observe: Observer,
        lifecycle: Lifecycle,
        metrics: Metrics,
        tracing: Tracing,
        guard: Guard | None,
        max_message_bytes: int,
    ) -> None:
        self.method = method
        self.observe = observe
        self.lifecycle = lifecycle
        self.metrics = metrics
        self.tracing = tracing
        self.guard = guard
        self.max_message_bytes = max_message_bytes

    async def serve(self, _requests: object, context: Context) -> None:
        """Serve one stream until its caller has ended it and has every answer, or the process drains."""
        with self.metrics.streams.track_inprogress():
            try:
                self._let_in(context)
                await _Stream(self, context).serve()
            except* _EndsStreamError as ended:
                await abort(context, _failure_in(ended))

    def _let_in(self, context: Context) -> None:
        if self.guard:
            metadata = text_metadata(context)
            try:
                self.guard(metadata)
            except PermissionDeniedError as refusal:
                log_failure(RPC, Call(None, metadata.get("x-request-id", "")), refusal, refusal)
                raise _EndsStreamError(refusal) from None


class _EndsStreamError(Exception):
    """A failure that is to be the status of the whole stream."""

    def __init__(self, failure: InferenceError) -> None:
        super().__init__(failure.message)
        self.failure = failure


def _failure_in(group: BaseExceptionGroup[_EndsStreamError]) -> InferenceError:
    first = group.exceptions[0]
    return first.failure if isinstance(first, _EndsStreamError) else _failure_in(first)


class _Stream:
    """One open stream."""

    def __init__(self, edge: StreamEdge, context: Context) -> None:
        metadata = text_metadata(context)
        self.edge = edge
        self.deadline = deadline_of(context)
        self.request_id = metadata.get("x-request-id", "")
        self.caller = caller_context(metadata)
        self.ends_at_failure = metadata.get("triton_grpc_error") == "true"
        self._context = context
        self._room = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._writing = asyncio.Lock()  # grpc-core takes one message at a time
        self._last_turn: asyncio.Event | None = None

    async def serve(self) -> None:
        """Serve every request. When the caller is gone this is cancelled, and with it every request."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(tasks))
            draining = tasks.create_task(self.edge.lifecycle.draining())
            await asyncio.wait((reading, draining), return_when=asyncio.FIRST_COMPLETED)
            drained = not reading.done()
            reading.cancel()
            draining.cancel()
        if drained:
            failure = ServerDrainingError("the server is shutting down; send further requests to another replica")
            raise _EndsStreamError(failure)

    async def write(self, message: pb.ModelStreamInferResponse) -> None:
        """Write one message, when the ones before it are out.

        Raises
        ------
        MessageTooLargeError
            It is no failure and exceeds the limit; nothing was written.
        asyncio.CancelledError
            The caller is gone; a write can learn it before grpc.aio cancels the stream.
        """
        data = message.SerializeToString()
        if not message.error_message:  # a failure is told in any case; its size is bounded by that of its request
            require_size("response", len(data), self.edge.max_message_bytes)
        async with self._writing:
            try:
                await self._context.write(data)
            except grpc.aio.InternalError as error:
                raise asyncio.CancelledError from error

    async def fail(self, failure: InferenceError) -> NoReturn:
        """End the stream with a failure as its status, once the message that is being written is out."""
        # For good: grpc-core takes no status beside a message, and a write that is cancelled goes on in there.
        await self._writing.acquire()
        raise _EndsStreamError(failure)

    def take_turn(self) -> tuple[asyncio.Event | None, asyncio.Event]:
        """The turn to wait for and one's own, to be set when the next may answer."""
        before, self._last_turn = self._last_turn, asyncio.Event()
        return before, self._last_turn

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while isinstance(data := await self._context.read(), bytes):  # and not grpc.aio.EOF
            await self._room.acquire()
            tasks.create_task(_Request(self).serve(data)).add_done_callback(self._leave)

    def _leave(self, _: object) -> None:
        self._room.release()


class _Request:
    """One request of a stream, from its message to its last answer."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._edge = stream.edge
        self._call = Call(stream.deadline, stream.request_id)
        self._message = pb.ModelInferRequest()
        self._started = time.perf_counter()
        self._count_answer: Callable[[], None] | None = None
        self._turn_before: asyncio.Event | None = None
        self._turn: asyncio.Event | None = None

    async def serve(self, data: bytes) -> None:
        """Serve the request; a failure of it is an answer."""
        call, edge = self._call, self._edge
        status, text = grpc.StatusCode.OK, ""
        model = traced_model(edge.tracing, pb.ModelInferRequest.FromString, data)
        with edge.tracing.server_span(SERVICE.full_name, RPC, self._stream.caller, model) as span:
            try:
                self._parse(data)
                await self._finish(await edge.method(self._message, call, self._send))
            except asyncio.CancelledError:
                expired = call.deadline is not None and time.monotonic() >= call.deadline
                status = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - the edge: every fault becomes an answer and a log line
                failure = failure_of(error)
                status, text = failure.status, failure.message
                log_failure(RPC, call, failure, error)
                await self._fail(failure)
            finally:
                if self._turn:
                    self._turn.set()
                record_status(span, status, text)
                if call.model:
                    span.set_attributes({"polyglot.model.name": call.model, "polyglot.model.version": call.version})
                edge.observe(call, status, time.perf_counter() - self._started)

    def _parse(self, data: bytes) -> None:
        # Before the size is judged: the failure of too large a request names the request.
        self._message = parsed(pb.ModelInferRequest.FromString, data)
        if not self._message.id:
            self._turn_before, self._turn = self._stream.take_turn()
        require_size("request", len(data), self._edge.max_message_bytes)

    async def _send(self, answer: pb.ModelInferResponse) -> None:
        """Write an answer that is not the last: of a model that streams, so nobody waits for its last one."""
        if self._turn:
            self._turn.set()
        await self._write(answer, final=False)

    async def _finish(self, answer: pb.ModelInferResponse | None) -> None:
        if answer is not None:
            await self._wait_for_turn()
            await self._write(answer, final=True)

    async def _fail(self, failure: InferenceError) -> None:
        await self._wait_for_turn()
        if self._stream.ends_at_failure:
            await self._stream.fail(failure)
        request = self._message
        answer = pb.ModelInferResponse(
            id=request.id, model_name=request.model_name, model_version=request.model_version
        )
        answer.parameters[CODE_KEY].string_param = failure.code
        trace_id = current_trace_id()
        if trace_id:
            answer.parameters[TRACE_ID_KEY].string_param = trace_id
        await self._write(answer, final=True, error=failure.message)

    async def _wait_for_turn(self) -> None:
        if self._turn_before:
            await self._turn_before.wait()

    async def _write(self, answer: pb.ModelInferResponse, *, final: bool, error: str = "") -> None:
        answer.parameters["triton_final_response"].bool_param = final
        await self._stream.write(pb.ModelStreamInferResponse(error_message=error, infer_response=answer))
        if self._count_answer is None:
            metrics, model = self._edge.metrics, self._call.model
            metrics.first_answer_seconds.labels(model).observe(time.perf_counter() - self._started)
            self._count_answer = metrics.stream_answers.labels(model).inc
        self._count_answer()
