"""Python environments of foreign servers, clients and models, from lock files, cached outside of the checkout."""

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

CACHE_LIMIT = 6 * 2**30
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
    """Return the environment of platform/environments/NAME.lock, installed now unless the cache has it.

    `complete` adds to its packages what pip can't. Raises CalledProcessError when the installation fails.
    """
    places = Places.of(os.environ)
    lock = places.platform / "environments" / f"{name}.lock"
    store = ArtifactStore(places.cache / "environments")
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
    if found is None:
        raise FileNotFoundError(f"{name}-{key} was just built and is gone; is another process emptying the cache?")
    return Environment(found)
