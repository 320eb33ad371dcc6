"""Python environments of foreign servers and clients, from lock files, cached by content outside of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from polyglot_platform.digest import digest
from polyglot_platform.places import Places
from polyglot_platform.store import ArtifactStore

LOCKS = Path(__file__).parent / "locks"
CACHE_LIMIT = 4 * 2**30
"""Bytes of environments to keep."""

_QUIETLY = ("--quiet", "--relocatable", "--allow-existing")
_EXACTLY = ("--quiet", "--no-deps", "--require-hashes")


@dataclass(frozen=True)
class Environment:
    """An installed environment."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"


def environment(name: str, complete: Callable[[Path], None] | None = None) -> Environment:
    """Return the environment of locks/NAME.lock, installed now unless the cache has it.

    `complete` adds to its packages what pip can't. Raises CalledProcessError when the installation fails.
    """
    lock = LOCKS / f"{name}.lock"
    store = ArtifactStore(Places.of(os.environ).cache / "environments")
    key = digest(lock.read_text(), sys.version)
    found = store.find(name, key)
    if found is None:
        uv = Path(sys.executable).parent / "uv"
        with store.building(name, key) as scratch:
            made = Environment(scratch)
            subprocess.run([uv, "venv", *_QUIETLY, "--python", sys.executable, scratch], check=True)
            subprocess.run([uv, "pip", "install", *_EXACTLY, "--python", made.python, "-r", lock], check=True)
            if complete:
                complete(made.packages)
        store.evict(CACHE_LIMIT)
        found = store.find(name, key)
    assert found is not None, "the store lost what was just built"
    return Environment(found)
