"""One call by an ordinary client, which sees whether the answer is right; load generators don't."""

from __future__ import annotations

import contextlib
import http
import http.client
from typing import Any

import grpc

from bench.rivals.wire import Request, frame, frames
from bench.rivals.workloads import Workload

CALL_SECONDS = 30
_UNLIMITED = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]


class CallError(Exception):
    """No answer, or one that says no."""


def verified(request: Request, address: str, workload: Workload) -> int:
    """Make one call and return the length of its answer's body.

    Raises
    ------
    CallError
        There is no answer, or it is an error or can't be read.
    WrongAnswerError
        The answer isn't what the model says.
    """
    body, headers = _grpc(request, address) if request.http2 else _rest(request, address)
    try:
        outputs = request.read(body, headers)
    except (KeyError, ValueError, TypeError) as error:
        raise CallError(f"{request.protocol}: can't read the answer ({error!r}): {body[:300]!r}") from error
    workload.answered(outputs)
    return len(body)


def _rest(request: Request, address: str) -> tuple[bytes, dict[str, str]]:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=CALL_SECONDS)) as connection:
        try:
            connection.request("POST", request.path, request.body, dict(request.headers))
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise CallError(f"{request.protocol} at {address}: {error}") from error
    if response.status != http.HTTPStatus.OK:
        raise CallError(f"{request.protocol} at {address}: {response.status} {body[:300]!r}")
    return body, {name.lower(): value for name, value in response.getheaders()}


def _grpc(request: Request, address: str) -> tuple[bytes, dict[str, str]]:
    with grpc.insecure_channel(address, options=_UNLIMITED) as channel:
        # Whatever number of messages goes out and comes in; on the wire that is what a unary call is, too.
        call: Any = channel.stream_stream(request.path)
        try:
            answers = list(call(iter(frames(request.body)), timeout=CALL_SECONDS, wait_for_ready=False))
        except grpc.RpcError as error:
            raise CallError(f"{request.protocol} at {address}: {error.code().name} {error.details()}") from error
    return b"".join(map(frame, answers)), {}
