"""Four neighbouring ports of 127.0.0.1, and a clear word when one of them is taken."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import Final

from polyglot_operator.manifests import InputError

HOST: Final = "127.0.0.1"
# Away from 8000 and 8001, where a kind cluster publishes its gateway.
DEFAULT_PORT: Final = 8100


@dataclass(frozen=True, slots=True)
class Ports:
    """Port numbers: REST, gRPC and administration of the gateway, metrics of the inference server."""

    rest: int
    grpc: int
    admin: int
    metrics: int


_ROLES: Final = ("REST", "gRPC", "gateway metrics", "inference metrics")


def take(first: int) -> Ports:
    """Return four free ports from `first` up, or any four for 0; raise `InputError` when one is taken."""
    with contextlib.ExitStack() as probes:
        found = [
            _probe(probes.enter_context(socket.socket()), first + number if first else 0, role)
            for number, role in enumerate(_ROLES)
        ]
        return Ports(*found)


def _probe(probe: socket.socket, port: int, role: str) -> int:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((HOST, port))
    except (OSError, OverflowError) as error:
        raise InputError(
            f"port {port} of {HOST} ({role}) can't be had: {getattr(error, 'strerror', error)}; "
            f"choose four free ports in a row by --port FIRST, or any by --port 0"
        ) from error
    taken: int = probe.getsockname()[1]
    return taken
