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
import functools
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

from opentelemetry.context import Context as TraceContext

from polyglot_inference.errors import OK, InferenceError, ServerDrainingError
from polyglot_inference.protocol.calls import (
    CODE_KEY,
    SERVICE_NAME,
    TRACE_ID_KEY,
    Call,
    Context,
    Terms,
    abort,
    deadline_of,
    failure_of,
    log_failure,
    parsed,
    require_size,
    text_metadata,
    traced_model,
)
from polyglot_inference.protocol.outbox import Outbox, Turn, Written
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.protocol.wire import embedded, field_tag
from polyglot_inference.runtime.executor import Tell, Work
from polyglot_inference.telemetry.traces import caller_context, current, span_in, trace_id_in

RPC: Final = "ModelStreamInfer"
# Requests of one stream that are served at a time. More are left unread, and flow control holds their sender back.
MOST_IN_FLIGHT: Final = 1024

# The parameter `triton_final_response`, true and false, as bytes of an answer: protobuf merges messages whose bytes
# follow each other. Source: https://protobuf.dev/programming-guides/encoding/#last-one-wins.
_FINAL, _NOT_FINAL = (
    pb.ModelInferResponse(parameters={"triton_final_response": pb.InferParameter(bool_param=final)}).SerializeToString()
    for final in (True, False)
)
_ANSWER_TAG: Final = field_tag(pb.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER)
# What a request has whose message could not be read.
_NO_MESSAGE: Final = pb.ModelInferRequest()

Send = Callable[[bytes], Awaitable[None]]
Answers = Callable[[Send], Coroutine[None, None, bytes | None]]
"""Sends every answer to a request but the last one, which it returns; None where the last one is sent, too."""
StreamMethod = Callable[[pb.ModelInferRequest, Call, Tell], Work | Answers]
"""Serves one request: starts it, has its answer told, and gives what may be cancelled; or gives what has to run."""


class StreamEdge:
    """Serves streams by a method for one request.

    Parameters
    ----------
    method
        Serves one request.
    terms
        On which they are served.
    """

    def __init__(self, method: StreamMethod, terms: Terms) -> None:
        self._method = method
        self._terms = terms
        self._intake = _Intake()

    async def serve(self, _requests: object, context: Context) -> None:
        """Serve one stream until its caller has ended it and has every answer, or the process drains."""
        with self._terms.metrics.streams.track_inprogress():
            refusal = self._terms.refusal(RPC, RPC, context)
            if refusal:
                await abort(context, refusal)
            try:
                await _Stream(self._method, self._terms, self._intake, context).serve()
            except* _EndsStreamError as ended:
                await abort(context, _failure_in(ended))


class _EndsStreamError(Exception):
    """A failure that is to be the status of the whole stream."""

    def __init__(self, failure: InferenceError) -> None:
        super().__init__(failure.message)
        self.failure = failure


def _failure_in(group: BaseExceptionGroup[_EndsStreamError]) -> InferenceError:
    first = group.exceptions[0]
    return first.failure if isinstance(first, _EndsStreamError) else _failure_in(first)


class _Intake:
    """Requests of all streams that were read, and begin together in the event loop's next turn.

    By then the next message of each stream is asked for. Meanwhile grpc-core reads on a thread of its own, which would
    else be woken for each.
    """

    def __init__(self) -> None:
        self._unbegun: list[tuple[_Request, bytes]] = []

    def put(self, request: "_Request", data: bytes) -> None:
        """Have a request begin by its message."""
        if not self._unbegun:
            asyncio.get_running_loop().call_soon(self._begin)
        self._unbegun.append((request, data))

    def _begin(self) -> None:
        unbegun, self._unbegun = self._unbegun, []
        for request, data in unbegun:
            request.begin(data)


class _Stream:
    """One open stream."""

    def __init__(self, method: StreamMethod, terms: Terms, intake: "_Intake", context: Context) -> None:
        metadata = text_metadata(context)
        self.method = method
        self.terms = terms
        self.deadline = deadline_of(context)
        self.request_id = metadata.get("x-request-id", "")
        self.caller = caller_context(metadata)
        self.ends_at_failure = metadata.get("triton_grpc_error") == "true"
        self.outbox = Outbox(context.write)
        self._read_message = context.read
        self._most = MOST_IN_FLIGHT
        self._requests: set[_Request] = set()
        self._fewer = asyncio.Event()
        self._intake = intake
        self._unsampled: TraceContext | None = None

    async def serve(self) -> None:
        """Serve every request. When the caller is gone this is cancelled, and with it every request."""
        try:
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self.outbox.run())
                reading = tasks.create_task(self._read(tasks))
                draining = tasks.create_task(self.terms.lifecycle.draining())
                await asyncio.wait((reading, draining), return_when=asyncio.FIRST_COMPLETED)
                drained = not reading.done()
                reading.cancel()
                draining.cancel()
                await self._left(0)
                writing.cancel()
        finally:
            for request in list(self._requests):
                request.abandon()
        if drained:
            failure = ServerDrainingError("the server is shutting down; send further requests to another replica")
            raise _EndsStreamError(failure)

    def leave(self, request: "_Request") -> None:
        """Forget a request that has its last answer."""
        self._requests.discard(request)
        self._fewer.set()

    def trace(self, data: bytes) -> TraceContext:
        """The context with a request's span; shared by all that are not sampled."""
        tracing, known = self.terms.tracing, self._unsampled
        model = traced_model(pb.ModelInferRequest.FromString, data) if tracing.sampler.knows_models else ""
        context = tracing.call_context(SERVICE_NAME, RPC, self.caller, model, known)
        if context is not known and not span_in(context).is_recording():
            self._unsampled = context
        return context

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while isinstance(data := await self._read_message(), bytes):  # and not grpc.aio.EOF
            if len(self._requests) >= self._most:
                await self._left(self._most - 1)
            request = _Request(self, tasks)
            self._requests.add(request)
            self._intake.put(request, data)

    async def _left(self, most: int) -> None:
        """Wait until at most so many requests are left."""
        while len(self._requests) > most:
            self._fewer.clear()
            await self._fewer.wait()


class _Request:
    """One request of a stream, from its message to its last answer."""

    __slots__ = (
        "_answer",
        "_call",
        "_message",
        "_outbox",
        "_status",
        "_stream",
        "_tasks",
        "_terms",
        "_text",
        "_turn",
        "_wrote",
    )

    def __init__(self, stream: _Stream, tasks: asyncio.TaskGroup) -> None:
        self._stream = stream
        self._tasks = tasks
        self._terms = stream.terms
        self._outbox = stream.outbox
        self._call = Call(stream.deadline, stream.request_id, stream.caller)
        self._message = _NO_MESSAGE
        self._answer: Work | None = None
        self._turn: Turn | None = None
        self._wrote = False
        self._status, self._text = OK, ""

    def begin(self, data: bytes) -> None:
        """Start the request, unless its stream is gone by now; a failure of it is an answer."""
        if self._status is not OK:
            return
        try:
            self._call.trace = self._stream.trace(data)
            self._parse(data)
            answers = self._stream.method(self._message, self._call, self._answered)
        except Exception as error:  # noqa: BLE001 - the edge: every fault becomes an answer and a log line
            self._fail(error)
            return
        if isinstance(answers, Work):
            self._answer = answers
        else:
            self._run(self._stream_answers(answers))

    def abandon(self) -> None:
        """End without an answer: nobody is there to read it."""
        if self._answer:
            self._answer.cancel()
        if self._status is OK:
            self._status = self._call.status_if_dropped
        self._end()

    def _parse(self, data: bytes) -> None:
        self._call.size = len(data)
        # Before the size is judged: the failure of too large a request names the request.
        self._message = parsed(pb.ModelInferRequest.FromString, data)
        if not self._message.id:
            self._turn = self._outbox.turn()
        require_size("request", len(data), self._terms.max_message_bytes)

    def _answered(self, outcome: bytes | Exception | asyncio.CancelledError) -> None:
        if isinstance(outcome, bytes):
            try:
                self._put(outcome, self._end_written, final=True)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(error)
        elif isinstance(outcome, Exception):
            self._fail(outcome)
        else:
            self.abandon()

    def _run(self, answering: Coroutine[None, None, None]) -> None:
        with current(self._call.trace):  # which the task inherits
            try:
                self._tasks.create_task(answering)
            except RuntimeError:  # the stream is about to end, and then to abandon this
                answering.close()

    async def _stream_answers(self, answers: Answers) -> None:
        try:
            last = await answers(self._send)
            if last is None:
                self._end()
            else:
                self._put(last, self._end_written, final=True)
        except asyncio.CancelledError:
            self.abandon()
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    async def _send(self, answer: bytes) -> None:
        """Write an answer that is not the last: of a model that streams, so nobody waits for its last one."""
        if self._turn:
            self._outbox.leave(self._turn)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(answer, functools.partial(_tell, written), final=False)
        await written
        self._count_answer()

    def _put(self, answer: bytes, written: Written, *, final: bool) -> None:
        data = embedded(_ANSWER_TAG, answer + (_FINAL if final else _NOT_FINAL))
        require_size("response", len(data), self._terms.max_message_bytes)
        self._outbox.put(data, written, self._turn)

    def _fail(self, error: Exception) -> None:
        failure = failure_of(error)
        self._status, self._text = failure.status, failure.message
        log_failure(RPC, self._call, failure, error)
        if self._stream.ends_at_failure:
            self._outbox.put(_EndsStreamError(failure), self._end, self._turn)
            return
        request = self._message
        answer = pb.ModelInferResponse(
            id=request.id, model_name=request.model_name, model_version=request.model_version
        )
        answer.parameters[CODE_KEY].string_param = failure.code
        answer.parameters["triton_final_response"].bool_param = True
        trace_id = trace_id_in(self._call.trace)
        if trace_id:
            answer.parameters[TRACE_ID_KEY].string_param = trace_id
        # Told in any case; its size is bounded by that of its request.
        told = pb.ModelStreamInferResponse(error_message=failure.message, infer_response=answer)
        self._outbox.put(told.SerializeToString(), self._end_written, self._turn)

    def _end_written(self) -> None:
        self._count_answer()
        self._end()

    def _count_answer(self) -> None:
        first_seconds = None if self._wrote else time.perf_counter() - self._call.started
        self._wrote = True
        self._terms.metrics.record_answer(self._call.model, first_seconds)

    def _end(self) -> None:
        self._stream.leave(self)
        if self._turn:
            self._outbox.leave(self._turn)
        self._call.end(self._status, self._text, self._terms.observe)


def _tell(written: asyncio.Future[None]) -> None:
    if not written.done():
        written.set_result(None)
