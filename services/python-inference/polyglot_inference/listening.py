"""Where calls come in: a TCP port, or a Unix socket for a gateway on the same host."""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc

from polyglot_inference.settings import UNIX

# Owner and group may connect: the gateway beside the server runs as the same user, or shares the group of their pod.
_SOCKET_MODE: Final = 0o660


def listen(server: grpc.aio.Server, address: str) -> str:
    """Listen on `host:port` or `unix:/absolute/path`; returns the bound address.

    Raises
    ------
    OSError
        The port is taken, the address not ours, or the path in use.
    """
    if address.startswith(UNIX):
        _make_room(Path(address.removeprefix(UNIX)))
    try:
        with _socket_mode():
            port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"grpc: cannot listen on {address}; is the address taken? ({error})") from error
    return address if address.startswith(UNIX) else f"{address.rpartition(':')[0]}:{port}"


def _make_room(path: Path) -> None:
    """Remove the socket that a killed process left; grpc-core would also remove one that is in use."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(f"grpc: cannot listen on {UNIX}{path}: the path exists and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(f"grpc: cannot listen on {UNIX}{path}: another process listens there")


@contextlib.contextmanager
def _socket_mode() -> Iterator[None]:
    """Make sockets with `_SOCKET_MODE` from the start; a chmod after bind would leave a moment open to everybody."""
    before = os.umask(0o777 & ~_SOCKET_MODE)
    try:
        yield
    finally:
        os.umask(before)
