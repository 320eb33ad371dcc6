"""What is checked: the registry of checks, and how one of them ends."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from tests.conformance.targets import Instance

ITEMS: Final = {
    1: "Live and ready: before, during and after loading, and while draining",
    2: "Metadata and configuration",
    3: "Datatypes: JSON, binary extension, typed and raw contents",
    4: "BYTES: NUL, UTF-8, empty elements, tensors without elements",
    5: "JSON: nested and flat",
    6: "Binary and JSON tensors mixed in one request",
    7: "Choice of outputs",
    8: "Wrong requests",
    9: "The caller's id",
    10: "Unknown models and versions",
    11: "Compression",
    12: "Large messages and limits",
    13: "Deadlines",
    14: "Cancellation",
    15: "ModelStreamInfer",
    16: "Statistics",
    17: "Model repository, trace and log settings",
    18: "Shared memory",
    19: "generate and generate_stream",
    20: "Restricted routes",
}
"""The checklist, by number."""

REST: Final = "REST"
"""Plain HTTP, for what Triton's client can't send or doesn't show."""
STUB: Final = "stub"
"""The gRPC stub that Triton's client is made of, for what the client itself can't send."""
HTTP: Final = "http"
JSON: Final = "http, JSON"
"""As http, but tensors are sent as JSON, where by default the client sends them in the binary extension."""
GRPC: Final = "grpc"
AIO_HTTP: Final = "http.aio"
AIO_GRPC: Final = "grpc.aio"
KSERVE_REST: Final = "kserve REST"
KSERVE_GRPC: Final = "kserve gRPC"
KSERVE: Final = (KSERVE_REST, KSERVE_GRPC)
"""KServe's SDK, in an environment of its own."""
SYNC: Final = (HTTP, GRPC)
CALLS: Final = (HTTP, AIO_HTTP, GRPC, AIO_GRPC)
"""Triton's four clients."""
ALL: Final = (JSON, *CALLS)
"""The same, for what depends on how tensors travel."""

CHECK_SECONDS: Final = 25.0
"""How long a check may take."""
STARTING_SECONDS: Final = 60.0
"""How long it may take where it starts servers, or a client in another process."""
_AGAIN_SECONDS: Final = 2.0

_OVER_HTTP: Final = {REST, HTTP, JSON, AIO_HTTP, KSERVE_REST}
_VARIES: Final = (
    (re.compile(r"\b(?:127\.0\.0\.1|localhost)(?::|%3A)\d+"), "ADDRESS"),
    (re.compile(r"/(?:tmp|root|home|usr|var)(?:/[\w.@-]+)+"), "PATH"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "TRACE"),
    (re.compile(r"0x[0-9a-f]{6,}"), "POINTER"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True)
class Check:
    """One thing that a client must find, over one client."""

    item: int
    name: str
    title: str
    client: str
    run: Callable[[Any], None]
    seconds: float = CHECK_SECONDS

    @property
    def over_http(self) -> bool:
        """Whether it needs a REST port."""
        return self.client in _OVER_HTTP


CHECKS: Final[list[Check]] = []


def check(
    item: int, title: str, over: Sequence[str], seconds: float = CHECK_SECONDS
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register a function as a check, once for each client; it raises when the server doesn't do what it should.

    What takes longer than so many seconds has failed.
    """

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        name = function.__name__.replace("_", "-")
        CHECKS.extend(Check(item, name, title, client, function, seconds) for client in over)
        return function

    return register


def failure_of(checked: Check, instance: Instance) -> str | None:
    """Run a check against a server. Return None when it holds, else what was wrong, free of what varies.

    Call it in the main thread: a signal ends the check that takes too long.
    """
    # At run time: clients import the checks' vocabulary from here.
    from tests.conformance.clients import connect

    try:
        with _bounded(checked.seconds), connect(checked.client, instance) as client:
            checked.run(client)
    except AssertionError as error:
        return _steady(f"{error}")
    except InferenceServerException as error:
        return _steady(f"{error.status() or ''} {error.message()}".strip())
    except grpc.RpcError as error:
        return _steady(f"{error.code()} {error.details()}")
    except Exception as error:  # noqa: BLE001 - clients and their transports raise whatever they like; all of it is a finding
        return _steady(f"{type(error).__name__}: {error}")
    return None


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that has not ended in time, and again until it ends.

    The clients' own time limits are not enough: a stream of Triton's client never ends once an answer was no message of
    the protocol, and closing the client then waits for that stream (grpcio's `debug_error_string` waits for a text that
    a status made by the client itself doesn't have).
    """

    def expired(*_: object) -> None:
        raise TimeoutError(f"not ended within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _steady(text: str) -> str:
    for pattern, placeholder in _VARIES:
        text = pattern.sub(placeholder, text)
    return text.strip() or "failed without a text"


def equal(found: object, wanted: object, what: str) -> None:
    """Assert that two plain values are equal."""
    assert found == wanted, f"{what} is {found!r}, not {wanted!r}"


STATUSES: Final = {
    400: "INVALID_ARGUMENT ALREADY_EXISTS",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@contextmanager
def refused(*statuses: int, naming: str = "") -> Iterator[None]:
    """Assert that the block's call fails with one of these HTTP statuses, or gRPC's equivalents, and a text for it."""
    names = [f"StatusCode.{name}" for status in statuses for name in STATUSES[status].split()]
    wanted = {*map(str, statuses), *names}
    try:
        yield
    except InferenceServerException as error:
        status, text = error.status(), str(error.message())
    else:
        raise AssertionError("accepted, but must be refused")
    assert status in wanted, f"status {status}, not {' or '.join(map(str, statuses))}: {text}"
    assert text, "the error has no text"
    assert "exception occurred in the client" not in text, text
    assert naming in text, f"the text does not name {naming!r}: {text}"
