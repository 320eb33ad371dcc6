"""What the API server may answer, as types: each asks for a different reaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class ClusterError(Exception):
    """The API server refused or failed a request; `message` is its own text."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class NotFoundError(ClusterError):
    """The object, or its kind, does not exist (404)."""


class ConflictError(ClusterError):
    """The object changed, or is another one than expected (409, or a failed uid precondition)."""


class InvalidError(ClusterError):
    """The object breaks a rule of its kind (400, 422): sending it again is useless until it changes."""


class ForbiddenError(ClusterError):
    """An admission rule, a quota or missing permissions refuse the request (401, 403)."""


class NamespaceTerminatingError(ClusterError):
    """The namespace is being deleted and takes nothing new (403); all that is in it goes by itself."""


class ThrottledError(ClusterError):
    """The API server asks for patience (429); `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, 429)
        self.retry_after = retry_after


class UnavailableError(ClusterError):
    """No answer, or a failure of the server (5xx): the same request may succeed later."""


_BY_STATUS: Mapping[int, type[ClusterError]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidError,
}


# How the API server answers an apply, and a JSON patch with a test, that name another object's uid.
_ANOTHER_OBJECT = ("metadata.uid: Invalid value", "the server rejected our request due to an error in our request")


def from_response(status: int, body: bytes, retry_after: str | None) -> ClusterError:
    """Type an answer of 400 and above by its status code and the `Status` object in its body."""
    answer = _status(body)
    message = str(answer.get("message", "")) or body.decode("utf-8", "replace")[:500] or f"HTTP {status}"
    if status == 429:
        return ThrottledError(message, float(retry_after or 1))
    if status == 422 and any(sign in message for sign in _ANOTHER_OBJECT):
        return ConflictError(message, status)
    if status == 403 and "NamespaceTerminating" in _causes(answer):
        return NamespaceTerminatingError(message, status)
    return _BY_STATUS.get(status, UnavailableError)(message, status)


def _status(body: bytes) -> Mapping[str, Any]:
    """Return the `Status` object of an answer, empty for an answer that is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _causes(answer: Mapping[str, Any]) -> set[str]:
    causes = (answer.get("details") or {}).get("causes") or ()
    return {cause.get("reason", "") for cause in causes}
