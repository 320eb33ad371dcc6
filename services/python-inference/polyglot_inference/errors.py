"""Every way a call can fail: the gRPC status, the stable code and the text a caller gets.

The code travels as trailing metadata `x-error-code`; the gateway copies it into the `code` of its JSON error body.
Codes are part of the interface: they are added, never renamed.
"""

import math
from typing import ClassVar, Final

import grpc

# Names that callers send come back in messages; clients accept 8 KiB of trailers, and a log line should be readable.
LONGEST_MESSAGE: Final = 2000
# The status of a call that did not fail, for those whom every call passes: enum looks a member up by a Python function.
OK: Final = grpc.StatusCode.OK


class InferenceError(Exception):
    """A failed call. The message is for the caller: it names the tensor, model or setting at fault and what to do."""

    status: ClassVar[grpc.StatusCode]
    code: ClassVar[str]

    @property
    def message(self) -> str:
        """The text for the caller and the log."""
        # Names of files that are no UTF-8 come as lone surrogates, which no message can carry.
        return str(self)[:LONGEST_MESSAGE].encode(errors="backslashreplace").decode()

    @property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        """What the caller is told beside status, text and code."""
        return ()


class InvalidRequestError(InferenceError):
    """The request contradicts itself, the protocol or the model's metadata."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    code = "INVALID_REQUEST"


class InvalidTensorError(InvalidRequestError):
    """One tensor of the request is wrong; the message names it."""

    code = "INVALID_TENSOR"


class ModelNotFoundError(InferenceError):
    """No model of that name, or not in that version."""

    status = grpc.StatusCode.NOT_FOUND
    code = "MODEL_NOT_FOUND"


class NotFoundError(InferenceError):
    """What an administrative call names, for example a shared memory region, does not exist."""

    status = grpc.StatusCode.NOT_FOUND
    code = "NOT_FOUND"


class AlreadyExistsError(InferenceError):
    """What an administrative call would create, for example a shared memory region, exists."""

    status = grpc.StatusCode.ALREADY_EXISTS
    code = "ALREADY_EXISTS"


class PermissionDeniedError(InferenceError):
    """The settings `administration` do not let this caller make this call."""

    status = grpc.StatusCode.PERMISSION_DENIED
    code = "PERMISSION_DENIED"


class ModelNotReadyError(InferenceError):
    """The model is loading or unloaded, or its last load failed."""

    status = grpc.StatusCode.UNAVAILABLE
    code = "MODEL_NOT_READY"


class ServerDrainingError(InferenceError):
    """The server finishes the calls it has and takes no new ones; this call was not executed."""

    status = grpc.StatusCode.UNAVAILABLE
    code = "SERVER_DRAINING"


class MessageTooLargeError(InferenceError):
    """A request or response exceeds `grpc.maxMessageBytes`."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    code = "MESSAGE_TOO_LARGE"


class QueueFullError(InferenceError):
    """Too much waits for the model already; the trailer `retry-after` says in how many seconds to try again."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    code = "QUEUE_FULL"

    def __init__(self, message: str, expected_wait: float) -> None:
        super().__init__(message)
        self.expected_wait = expected_wait

    @property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        """When to try again, in HTTP's form and in that of gRPC's own retries, which is finer."""
        milliseconds = max(1, math.ceil(self.expected_wait * 1000))
        return (("retry-after", str(math.ceil(milliseconds / 1000))), ("grpc-retry-pushback-ms", str(milliseconds)))


class DeadlineExceededError(InferenceError):
    """The caller's deadline passed before the model ran; it was not executed."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    code = "DEADLINE_EXCEEDED"


class UnsupportedError(InferenceError):
    """A part of the protocol that this server does not offer."""

    status = grpc.StatusCode.UNIMPLEMENTED
    code = "UNSUPPORTED"


class ModelFailedError(InferenceError):
    """The model raised, or answered something other than it declares."""

    status = grpc.StatusCode.INTERNAL
    code = "MODEL_FAILED"


class ModelLoadFailedError(InferenceError):
    """A model could not be loaded at runtime; the one that was served before, if any, is served still."""

    status = grpc.StatusCode.INTERNAL
    code = "MODEL_LOAD_FAILED"


class InternalError(InferenceError):
    """A fault of this server."""

    status = grpc.StatusCode.INTERNAL
    code = "INTERNAL"


class ModelLoadError(Exception):
    """A model cannot be served; the message names the model, the cause and the remedy. At start the process ends."""
