"""The cache of built files: a folder per name and content hash, written whole or not at all."""

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """Something that a cache holds."""

    name: str
    size: int
    """Bytes."""
    used_at: float
    """Seconds since the epoch."""
    in_use: bool = False


def beyond_limit(entries: Iterable[Entry], max_bytes: int) -> list[str]:
    """Names of the least recently used entries that no longer fit into `max_bytes`; what is in use always fits."""
    kept, evicted = 0, []
    for entry in sorted(entries, key=lambda entry: (entry.in_use, entry.used_at), reverse=True):
        if kept + entry.size > max_bytes and not entry.in_use:
            evicted.append(entry.name)
        else:
            kept += entry.size
    return evicted


class ArtifactStore:
    """Folders `NAME-KEY` below one root; a folder's modification time says when it was last used."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._used: set[Path] = set()

    def find(self, name: str, key: str) -> Path | None:
        """The finished artifact, marked as used now; None when it has to be built."""
        folder = self._folder(name, key)
        if not folder.is_dir():
            return None
        os.utime(folder)
        self._used.add(folder)
        return folder

    @contextmanager
    def building(self, name: str, key: str) -> Iterator[Path]:
        """A scratch folder that becomes the artifact when the block ends well.

        An interrupted build leaves only its scratch folder, which the next one replaces.
        """
        scratch = self._root / f".building-{name}-{key}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        yield scratch
        final = self._folder(name, key)
        scratch.rename(final)
        os.utime(final)
        self._used.add(final)

    def evict(self, max_bytes: int) -> list[str]:
        """Delete least recently used artifacts until the rest fits; what this run used stays. Return their names."""
        folders = [path for path in self._root.glob("*") if path.is_dir() and not path.name.startswith(".")]
        entries = [
            Entry(folder.name, _size(folder), folder.stat().st_mtime, in_use=folder in self._used) for folder in folders
        ]
        evicted = beyond_limit(entries, max_bytes)
        for name in evicted:
            shutil.rmtree(self._root / name)
        return evicted

    def _folder(self, name: str, key: str) -> Path:
        return self._root / f"{name}-{key}"


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*"))


def last_use(stamps: Path, name: str) -> float:
    """When `name` was last touched by `touch_stamp`; 0 when never."""
    stamp = stamps / name
    return stamp.stat().st_mtime if stamp.exists() else 0.0


def touch_stamp(stamps: Path, name: str) -> None:
    """Remember that `name` is in use now."""
    stamps.mkdir(parents=True, exist_ok=True)
    (stamps / name).touch()
    os.utime(stamps / name, (time.time(), time.time()))
