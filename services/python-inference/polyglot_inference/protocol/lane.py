"""The edge of polyglot.v1.Lane: calls of ModelInfer as messages of one stream, which a gateway keeps open.

A call of a lane is served, answered, counted, traced and logged as one of its own would be; what the lane spares both
sides is a stream's opening, headers and end for each. A lane is read until its caller ends it, the process drains, or a
message leaves no way to tell its calls apart. Whatever was read by then is answered first; what was not has never run.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-not-found]  # not in types-protobuf

from polyglot_inference.errors import OK, InferenceError, InvalidRequestError, ServerDrainingError
from polyglot_inference.protocol.calls import (
    SERVICE_NAME,
    Call,
    Context,
    Terms,
    abort,
    failure_of,
    log_failure,
    parsed,
    require_size,
    trailers_of,
)
from polyglot_inference.protocol.outbox import Outbox
from polyglot_inference.protocol.pb import grpc_service_pb2 as pb
from polyglot_inference.protocol.pb import lane_pb2
from polyglot_inference.protocol.wire import embedded, field_tag
from polyglot_inference.runtime.executor import Tell, Work
from polyglot_inference.telemetry.traces import NO_CALLER, caller_context

LANE: Final = lane_pb2.DESCRIPTOR.services_by_name["Lane"]
# What every message of a lane is, to those who count, trace and log it.
RPC: Final = "ModelInfer"
# Calls of one lane that are served, or whose answers are unwritten. More are left unread, and flow control holds their
# sender back. More than `queue.maxSize` by default, so that callers are told of a full queue and do not merely feel it.
MOST_IN_FLIGHT: Final = 8192

_ANSWER_TAG: Final = field_tag(lane_pb2.LaneResponse.INFER_FIELD_NUMBER)

StartInfer = Callable[[pb.ModelInferRequest, Call, Tell], Work]
"""Starts a call, has its answer told, and gives what may be cancelled."""


class LaneEdge:
    """Serves lanes by a method for one call.

    Parameters
    ----------
    start
        Starts one call.
    terms
        On which they are served.
    """

    def __init__(self, start: StartInfer, terms: Terms) -> None:
        self._start = start
        self._terms = terms

    def handler(self) -> grpc.GenericRpcHandler:
        """The gRPC handler of the service."""
        carry: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self.serve)
        return grpc.method_handlers_generic_handler(LANE.full_name, {"Carry": carry})

    async def serve(self, _requests: object, context: Context) -> None:
        """Serve one lane until its caller has ended it and has every answer, or the process drains."""
        with self._terms.metrics.lanes.track_inprogress():
            failure: InferenceError | None = self._terms.refusal(RPC, "Carry", context)
            if not failure:
                await context.send_initial_metadata(())  # with which a gateway knows that it may send calls
                failure = await _Lane(self._start, self._terms, context).serve()
            if failure:
                await abort(context, failure)


class _Lane:
    """One open lane."""

    def __init__(self, start: StartInfer, terms: Terms, context: Context) -> None:
        self.start = start
        self.terms = terms
        self._outbox = Outbox(context.write)
        self._read_message: Callable[[], Awaitable[object]] = context.read
        # By number: the calls under way, which have no answer yet.
        self._calls: dict[int, _CarriedCall] = {}
        self._in_flight = 0  # with those whose answer is unwritten
        self._fewer = asyncio.Event()

    async def serve(self) -> InferenceError | None:
        """Serve every call; returns what the lane ends with, None where its caller ended it.

        When the caller is gone this is cancelled, and with it every call.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(self._outbox.run())
                reading = tasks.create_task(self._read())
                draining = tasks.create_task(self.terms.lifecycle.draining())
                await asyncio.wait((reading, draining), return_when=asyncio.FIRST_COMPLETED)
                reading.cancel()
                draining.cancel()
                await self._left(0)
                writing.cancel()
        finally:
            for call in list(self._calls.values()):
                call.abandon()
        if reading.cancelled():
            return ServerDrainingError(
                "the server is shutting down; calls without an answer were not executed, send them to another replica"
            )
        return reading.result()

    def put(self, call: "_CarriedCall", data: bytes) -> None:
        """Write the answer of a call, which is under way no longer: its number may be used again."""
        del self._calls[call.number]
        self._outbox.put(data, self._one_less)

    def leave(self, call: "_CarriedCall") -> None:
        """Forget a call that gets no answer."""
        del self._calls[call.number]
        self._one_less()

    async def _read(self) -> InferenceError | None:
        """Begin every call; returns why no more can be read, None at the end."""
        while isinstance(data := await self._read_message(), bytes):  # and not grpc.aio.EOF
            if self._in_flight >= MOST_IN_FLIGHT:
                await self._left(MOST_IN_FLIGHT - 1)
            try:
                self._take(data)
            except InvalidRequestError as error:
                log_failure("Carry", Call(None, "", NO_CALLER), error, error)
                return error
        return None

    def _take(self, data: bytes) -> None:
        """Begin the call of a message, or cancel it.

        Raises
        ------
        InvalidRequestError
            Nobody could tell whose answer is whose.
        """
        fault = None
        try:
            request = parsed(lane_pb2.LaneRequest.FromString, data)
        except InvalidRequestError as error:
            request, fault = lane_pb2.LaneRequest(call=_number_in(data, error)), error
        else:
            if not (request.cancel or request.HasField("infer")):
                fault = InvalidRequestError("the message has no action; it needs `infer`, or `cancel: true`")
        number = request.call
        under_way = self._calls.get(number)
        if request.cancel:
            if under_way:  # else it is answered
                under_way.abandon()
            return
        if under_way:
            raise InvalidRequestError(f"call {number} begins while another call of its lane has that number")
        call = self._calls[number] = _CarriedCall(self, request, len(data))
        self._in_flight += 1
        call.begin(request, fault)  # a task of its own would cost more than a quick model

    async def _left(self, most: int) -> None:
        """Wait until at most so many calls are in flight."""
        while self._in_flight > most:
            self._fewer.clear()
            await self._fewer.wait()

    def _one_less(self) -> None:
        self._in_flight -= 1
        self._fewer.set()


class _CarriedCall:
    """One call of a lane, from its message to its answer."""

    __slots__ = ("_answer", "_call", "_lane", "_terms", "number")

    def __init__(self, lane: _Lane, request: lane_pb2.LaneRequest, size: int) -> None:
        tracing, timeout_microseconds = lane.terms.tracing, request.timeout_microseconds
        deadline = time.monotonic() + timeout_microseconds / 1e6 if timeout_microseconds else None
        self.number = request.call
        self._lane = lane
        self._terms = lane.terms
        caller = caller_context({"traceparent": request.traceparent}) if request.traceparent else NO_CALLER
        model = request.infer.model_name if tracing.sampler.knows_models else ""
        trace = tracing.call_context(SERVICE_NAME, RPC, caller, model)
        self._call = Call(deadline, request.request_id, trace, size)
        self._answer: Work | None = None

    def begin(self, request: lane_pb2.LaneRequest, fault: InvalidRequestError | None) -> None:
        """Start the call; `fault` is what is wrong with its message."""
        limit, infer = self._terms.max_message_bytes, request.infer
        if fault:
            self._fail(fault)
            return
        try:
            if self._call.size > limit:  # which has the lane's own fields in it
                require_size("request", infer.ByteSize(), limit)
            self._answer = self._lane.start(infer, self._call, self._answered)
        except Exception as error:  # noqa: BLE001 - the edge: every fault becomes an answer and a log line
            self._fail(error)

    def abandon(self) -> None:
        """End without an answer: nobody waits for one."""
        if self._answer:
            self._answer.cancel()
        self._lane.leave(self)
        self._call.end(self._call.status_if_dropped, "", self._terms.observe)

    def _answered(self, outcome: bytes | Exception | asyncio.CancelledError) -> None:
        if isinstance(outcome, bytes):
            self._succeed(outcome)
        elif isinstance(outcome, Exception):
            self._fail(outcome)
        else:  # the model's queue is closed: the process ends
            self.abandon()

    def _succeed(self, data: bytes) -> None:
        try:
            require_size("response", len(data), self._terms.max_message_bytes)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)
            return
        self._lane.put(self, lane_pb2.LaneResponse(call=self.number).SerializeToString() + embedded(_ANSWER_TAG, data))
        self._call.end(OK, "", self._terms.observe)

    def _fail(self, error: Exception) -> None:
        failure = failure_of(error)
        log_failure(RPC, self._call, failure, error)
        told = lane_pb2.LaneFailure(
            status=failure.status.value[0],
            message=failure.message,
            trailers=[
                lane_pb2.LaneTrailer(key=key, value=value) for key, value in trailers_of(failure, self._call.trace)
            ],
        )
        self._lane.put(self, lane_pb2.LaneResponse(call=self.number, failure=told).SerializeToString())
        self._call.end(failure.status, failure.message, self._terms.observe)


def _number_in(data: bytes, fault: InvalidRequestError) -> int:
    """The number of the call whose request is invalid, where at least the message around it can be read.

    Raises
    ------
    InvalidRequestError
        It cannot.
    """
    try:
        fields = UnknownFieldSet(Empty.FromString(data))
    except DecodeError:
        raise fault from None
    number = 0
    for field in fields:
        if field.field_number == lane_pb2.LaneRequest.CALL_FIELD_NUMBER and isinstance(field.data, int):
            number = field.data
    return number
