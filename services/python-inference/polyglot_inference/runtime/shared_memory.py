"""Regions of POSIX shared memory that callers on the same host have registered.

A region is memory that its caller can change, and shrink, at any time. Its size is asked for at every use; a caller
who shrinks it in the moment between that and the access ends this process (SIGBUS). So it is off unless the settings
`sharedMemory` say otherwise, and callers are trusted where it is on.

Source: triton-inference-server/server, docs/protocol/extension_shared_memory.md.
"""

import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from polyglot_inference.errors import AlreadyExistsError, InvalidRequestError, NotFoundError

# Where Linux keeps what shm_open makes.
FOLDER: Final = Path("/dev/shm")  # noqa: S108 - no temporary file
# Each region holds a file open.
MOST_REGIONS: Final = 1024


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a shared memory object, mapped as long as anyone holds it or a view of it."""

    name: str
    key: str
    offset: int
    byte_size: int
    mapping: mmap.mmap

    def view(self, offset: int, byte_size: int) -> memoryview:
        """A part of the region, to read and write. It stays valid when the region is unregistered.

        Raises
        ------
        InvalidRequestError
            It exceeds the region, or the object has become smaller than the region.
        """
        if offset + byte_size > self.byte_size:
            raise InvalidRequestError(
                f"{byte_size} bytes from {offset} exceed shared memory region {self.name!r} of {self.byte_size} bytes"
            )
        if self.mapping.size() < self.offset + self.byte_size:
            raise InvalidRequestError(
                f"shared memory region {self.name!r}: {self.key!r} has become smaller than what was registered"
            )
        start = self.offset + offset
        return memoryview(self.mapping)[start : start + byte_size]


class SharedMemory:
    """The registered regions. Used on the event loop only; views of regions go anywhere.

    Parameters
    ----------
    key_prefix
        What the names of objects must begin with, so that no caller names memory of others.
    """

    def __init__(self, key_prefix: str) -> None:
        self._key_prefix = key_prefix
        self._regions: dict[str, Region] = {}

    def __len__(self) -> int:
        return len(self._regions)

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Map `byte_size` bytes from `offset` of the object `key` under a name.

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
        self._regions[name] = Region(name, key, offset, byte_size, self._mapped(name, key, offset, byte_size))

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

    def _mapped(self, name: str, key: str, offset: int, byte_size: int) -> mmap.mmap:
        origin = f"shared memory region {name!r}"
        file = key.removeprefix("/")
        if not key.startswith(self._key_prefix) or "/" in file or "\0" in file or file in {"", ".", ".."}:
            raise InvalidRequestError(
                f"{origin}: the key {key!r} must begin with {self._key_prefix!r}, the server's setting"
                " sharedMemory.keyPrefix, and have no further slash"
            )
        if not byte_size:
            raise InvalidRequestError(f"{origin}: byte_size must be above 0")
        try:
            descriptor = os.open(FOLDER / file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidRequestError(f"{origin}: cannot open {key!r}: {error.strerror}") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidRequestError(f"{origin}: {key!r} is no shared memory object")
            if offset + byte_size > found.st_size:
                raise InvalidRequestError(
                    f"{origin}: {byte_size} bytes from {offset} exceed {key!r}, which has {found.st_size} bytes"
                )
            return mmap.mmap(descriptor, offset + byte_size)
        except OSError as error:
            raise InvalidRequestError(f"{origin}: cannot map {key!r}: {error.strerror}") from None
        finally:
            os.close(descriptor)
