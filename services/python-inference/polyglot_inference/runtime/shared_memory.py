"""Regions of POSIX shared memory that callers on the same host have registered.

A region is memory that its caller can change, and shrink, at any time. It is read and written as a file, never mapped:
what is read stays as it was when it was checked, and what is gone is an error of the call, where a mapping would end
this process (SIGBUS). One copy costs little beside those that a tensor in a message takes.

Source: triton-inference-server/server, docs/protocol/extension_shared_memory.md.
"""

import os
import stat
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from polyglot_inference.errors import AlreadyExistsError, InvalidRequestError, NotFoundError

# Where Linux keeps what shm_open makes.
FOLDER: Final = Path("/dev/shm")  # noqa: S108 - no temporary file
# Each region holds a file open.
MOST_REGIONS: Final = 1024


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Region:
    """A part of a shared memory object, which is held open as long as anyone holds the region."""

    name: str
    key: str
    offset: int
    byte_size: int
    descriptor: int

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.descriptor)

    def require(self, offset: int, byte_size: int) -> None:
        """Refuse what is not a part of the region.

        Raises
        ------
        InvalidRequestError
            It exceeds the region, or the object has become smaller than the region.
        """
        if offset + byte_size > self.byte_size:
            raise InvalidRequestError(
                f"{byte_size} bytes from {offset} exceed shared memory region {self.name!r} of {self.byte_size} bytes"
            )
        if os.fstat(self.descriptor).st_size < self.offset + self.byte_size:
            raise self._shrunk()

    def read(self, offset: int, byte_size: int) -> memoryview:
        """Copy a part of the region. Raises as `require` does."""
        self.require(offset, byte_size)
        data = np.empty(byte_size, np.uint8).data  # a bytearray would be zeroed first
        rest, position = data, self.offset + offset
        while rest:
            count = os.preadv(self.descriptor, [rest], position)
            if not count:
                raise self._shrunk()
            rest, position = rest[count:], position + count
        return data.toreadonly()

    def write(self, offset: int, data: memoryview | bytes) -> None:
        """Write to the region from an offset. Raises as `require` does.

        An object that shrinks meanwhile grows again, at most to where the region ends.
        """
        rest, position = memoryview(data), self.offset + offset
        self.require(offset, len(rest))
        while rest:
            try:
                count = os.pwrite(self.descriptor, rest, position)
            except OSError as error:
                raise InvalidRequestError(
                    f"shared memory region {self.name!r}: cannot write to {self.key!r}: {error.strerror}"
                ) from None
            rest, position = rest[count:], position + count

    def _shrunk(self) -> InvalidRequestError:
        return InvalidRequestError(
            f"shared memory region {self.name!r}: {self.key!r} has become smaller than what was registered"
        )


class SharedMemory:
    """The registered regions. Used on the event loop only; regions go anywhere.

    Parameters
    ----------
    key_prefix
        What the names of objects must begin with, so that no caller names memory of others.
    max_bytes
        Most bytes that the inputs of one request, or its outputs, may have here. A caller pays nothing for the size of
        a sparse object, whoever reads or fills it does.
    """

    def __init__(self, key_prefix: str, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._key_prefix = key_prefix
        self._regions: dict[str, Region] = {}

    def __len__(self) -> int:
        return len(self._regions)

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Give `byte_size` bytes from `offset` of the object `key` a name.

        Raises
        ------
        AlreadyExistsError
            The name is taken.
        InvalidRequestError
            The key is not one that may be named, names nothing, or less memory than that.
        """
        if not name:
            raise InvalidRequestError("a shared memory region needs a name")
        if name in self._regions:
            raise AlreadyExistsError(f"shared memory region {name!r} is registered; unregister it first")
        if len(self._regions) >= MOST_REGIONS:
            raise InvalidRequestError(f"shared memory region {name!r}: {MOST_REGIONS} are registered; unregister one")
        if not byte_size:
            raise InvalidRequestError(f"shared memory region {name!r}: byte_size must be above 0")
        region = Region(name, key, offset, byte_size, self._opened(name, key))
        _require_memory(region)
        self._regions[name] = region

    def unregister(self, name: str) -> None:
        """Forget a region, all of them for an empty name; without effect when it is unknown."""
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def region(self, name: str) -> Region:
        """Find a region. Raises NotFoundError when there is none of that name."""
        region = self._regions.get(name)
        if region is None:
            raise NotFoundError(f"shared memory region {name!r} is not registered")
        return region

    def regions(self) -> list[Region]:
        """All regions."""
        return list(self._regions.values())

    def _opened(self, name: str, key: str) -> int:
        origin = f"shared memory region {name!r}"
        file = key.removeprefix("/")
        if not key.startswith(self._key_prefix) or "/" in file or "\0" in file or file in {"", ".", ".."}:
            raise InvalidRequestError(
                f"{origin}: the key {key!r} must begin with {self._key_prefix!r}, the server's setting"
                " sharedMemory.keyPrefix, and have no further slash"
            )
        try:
            return os.open(FOLDER / file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidRequestError(f"{origin}: cannot open {key!r}: {error.strerror}") from None


def _require_memory(region: Region) -> None:
    origin, found = f"shared memory region {region.name!r}", os.fstat(region.descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidRequestError(f"{origin}: {region.key!r} is no shared memory object")
    if region.offset + region.byte_size > found.st_size:
        raise InvalidRequestError(
            f"{origin}: {region.byte_size} bytes from {region.offset} exceed {region.key!r}, which has"
            f" {found.st_size} bytes"
        )
