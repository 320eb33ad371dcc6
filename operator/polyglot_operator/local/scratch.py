"""The folder of one `polyglot serve`: settings, sockets, and the models of ConfigMaps.

It is locked as long as its owner, or a program that got the lock from it, lives; the kernel ends a lock with those who
hold it, however they end. So what can be locked was left behind by one that was killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "polyglot-serve-"


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder, and the descriptor that holds its lock, for programs that use it."""

    folder: Path
    lock: int


@contextmanager
def scratch(show: Callable[[str], None]) -> Iterator[Scratch]:
    """Have a folder of one's own for the length of a block; remove those that others left, and `show` which."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _sweep(folder, show)
    folder, lock = _own()
    try:
        yield Scratch(folder, lock)
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def _own() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):  # removed by another before it was locked
            lock = _opened(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _sweep(folder: Path, show: Callable[[str], None]) -> None:
    """Remove a folder that was left behind; one that is in use, or another user's, stays."""
    try:
        lock = _opened(folder)
    except OSError:
        return  # gone by now, another user's, or no folder
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
            show(f"removed {folder}: its polyglot serve was killed")
    except (BlockingIOError, FileNotFoundError):
        pass  # in use, or removed by another that was faster
    except OSError as error:
        show(f"{folder}, left by a polyglot serve that was killed, can't be removed: {error.strerror}")
    finally:
        os.close(lock)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
